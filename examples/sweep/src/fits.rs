//! Two curves through what was measured, each with a reason behind it.

use crate::verdict::Point;

/// A curve, and how far it is from what was measured: the root mean square of the errors, as shares.
#[derive(Clone, Copy, Debug)]
pub struct Fit {
    pub curve: Curve,
    pub error: f64,
}

#[derive(Clone, Copy, Debug)]
pub enum Curve {
    /// Each item in flight brings as much as the first, until something is full:
    /// X = min(K / alone, full).
    TwoLines { alone: f64, full: f64 },
    /// The Universal Scalability Law (Gunther, "Guerrilla Capacity Planning", 2007):
    /// X = lambda K / (1 + sigma (K - 1) + kappa K (K - 1)). Sigma is what they wait for each other,
    /// kappa what they disturb each other.
    Usl { lambda: f64, sigma: f64, kappa: f64 },
}

impl Curve {
    /// Items per second with so many in flight.
    #[must_use]
    pub fn at(&self, k: f64) -> f64 {
        match *self {
            Self::TwoLines { alone, full } => (k / alone).min(full),
            Self::Usl { lambda, sigma, kappa } => {
                lambda * k / (1.0 + sigma * (k - 1.0) + kappa * k * (k - 1.0))
            }
        }
    }

    fn with_error(self, points: &[Point]) -> Fit {
        let error = |point: &Point| self.at(point.k as f64) / point.rate - 1.0;
        let squares: f64 = points.iter().map(|point| error(point).powi(2)).sum();
        Fit { curve: self, error: (squares / points.len() as f64).sqrt() }
    }
}

/// Both, the better one first. The second needs four limits, and something that can be solved.
#[must_use]
pub fn fits(points: &[Point]) -> Vec<Fit> {
    let mut fits = vec![two_lines(points)];
    fits.extend(usl(points));
    fits.sort_by(|one, other| one.error.total_cmp(&other.error));
    fits
}

/// With the first limits below the bend, and the others above: the bend that fits best.
fn two_lines(points: &[Point]) -> Fit {
    let mean = |values: &mut dyn Iterator<Item = f64>| {
        let (count, sum) =
            values.fold((0.0, 0.0), |(count, sum), value| (count + 1.0, sum + value.ln()));
        f64::exp(sum / count)
    };
    let bent = |at: usize| {
        let (below, above) = points.split_at(at);
        let alone = mean(&mut below.iter().map(|point| point.k as f64 / point.rate));
        let full = if above.is_empty() {
            f64::INFINITY
        } else {
            mean(&mut above.iter().map(|point| point.rate))
        };
        Curve::TwoLines { alone, full }.with_error(points)
    };
    let bends = (1..=points.len()).map(bent);
    bends.min_by(|one, other| one.error.total_cmp(&other.error)).expect("there is a point")
}

/// K / X is a parabola in K: least squares, each error as a share of its point.
fn usl(points: &[Point]) -> Option<Fit> {
    if points.len() < 4 {
        return None;
    }
    let mut sums = [[0.0; 4]; 3];
    for point in points {
        let (k, y) = (point.k as f64, point.k as f64 / point.rate);
        let row = [1.0 / y, (k - 1.0) / y, k * (k - 1.0) / y];
        for (sums, one) in sums.iter_mut().zip(row) {
            for (sum, other) in sums.iter_mut().zip(row.into_iter().chain([1.0])) {
                *sum += one * other;
            }
        }
    }
    let [base, wait, disturb] = solve(sums)?;
    let (sigma, kappa) = ((wait / base).max(0.0), (disturb / base).max(0.0));
    (base > 0.0).then(|| Curve::Usl { lambda: 1.0 / base, sigma, kappa }.with_error(points))
}

/// Three equations, by elimination.
fn solve(mut rows: [[f64; 4]; 3]) -> Option<[f64; 3]> {
    for at in 0..3 {
        let largest =
            (at..3).max_by(|&one, &other| rows[one][at].abs().total_cmp(&rows[other][at].abs()))?;
        rows.swap(at, largest);
        if rows[at][at].abs() < 1e-12 {
            return None;
        }
        for other in 0..3 {
            if other != at {
                let factor = rows[other][at] / rows[at][at];
                let pivot = rows[at];
                for (value, of_pivot) in rows[other].iter_mut().zip(pivot) {
                    *value -= factor * of_pivot;
                }
            }
        }
    }
    Some([0, 1, 2].map(|at| rows[at][3] / rows[at][at]))
}
