//! Which K to use, and why: pure functions of what was measured.

/// What is known of one K.
#[derive(Clone, Debug)]
pub struct Point {
    pub k: usize,
    /// Items per second: the median of the repetitions, and the interval that it is good for.
    pub rate: f64,
    pub low: f64,
    pub high: f64,
    /// The share of the time in which the thread did not sleep, if known.
    pub busy: Option<f64>,
    /// The share of the items that failed.
    pub failed: f64,
}

/// A thread that sleeps less than this has nothing left to give.
const FULL: f64 = 0.95;
/// So close to what the server could do if no place were ever empty, it is full: a place that comes
/// free waits a moment for its next request, on a busy machine a long one.
const NEARLY: f64 = 0.85;
/// More failures than this, and a K is not fit for use.
pub const TOO_MANY_FAILURES: f64 = 0.01;

/// `d ln X / d ln K`: how many % more items/s 1 % more K brings. 1 is all that can be hoped for, 0
/// is nothing.
pub fn elasticity(from: &Point, to: &Point) -> f64 {
    (to.rate / from.rate).ln() / (to.k as f64 / from.k as f64).ln()
}

/// Overlapping intervals do not tell two Ks apart: then the smaller one wins.
fn is_worth_it(from: &Point, to: &Point, beta: f64) -> bool {
    elasticity(from, to) >= beta && to.low > from.high
}

/// Clearly worse: beyond the noise, and by more than one would shrug at.
fn is_worse(from: &Point, to: &Point) -> bool {
    to.high < from.low && to.rate < 0.97 * from.rate
}

/// The smallest K from which no larger one is worth it.
///
/// On a curve that bends one way only, this is where the elasticity from one K to the next falls
/// below `beta`. To look at all larger Ks, not at the next one only, helps where noise has bent it.
pub fn choose(points: &[Point], beta: f64) -> usize {
    let fit = fit(points);
    (0..fit.len())
        .find(|&here| !fit[here + 1..].iter().any(|to| is_worth_it(&fit[here], to, beta)))
        .unwrap_or(0)
}

/// The Ks below the first at which too many items failed; all of them, if even the first is bad.
fn fit(points: &[Point]) -> &[Point] {
    match points.iter().position(|point| point.failed > TOO_MANY_FAILURES) {
        None | Some(0) => points,
        Some(bad) => &points[..bad],
    }
}

/// A K just below the chosen one that may do as well, if there is room for one.
pub fn refinement(points: &[Point], beta: f64) -> Option<usize> {
    const CLOSE: f64 = 1.2;
    let chosen = choose(points, beta);
    let (below, above) = (points[chosen.checked_sub(1)?].k, points[chosen].k);
    let middle = (below as f64 * above as f64).sqrt().round() as usize;
    let has_room = above as f64 / below as f64 > CLOSE && below < middle && middle < above;
    has_room.then_some(middle)
}

/// Why a higher K is not worth it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Why {
    /// At this K, the thread can do no more: so busy is it.
    ThreadFull(usize, f64),
    /// At this K, the server can do no more: so much of what its places can do at best is used.
    ServerFull(usize, f64),
    /// The next K has lower items/s.
    GetsWorse,
    /// At the next K, this share of the items fails.
    Failures(f64),
    /// The highest K was the best.
    NoKnee,
    /// This higher K may be better, but the measurements overlap.
    Unclear(usize),
    /// The thread has time left: something else is full. `false`: whether it has is not known.
    Elsewhere(bool),
}

/// `server_limit`: the items/s that the server can do at best, if that is known.
pub fn why(points: &[Point], chosen: usize, beta: f64, server_limit: Option<f64>) -> Why {
    let fit = fit(points);
    let here = &fit[chosen];
    let next = fit.get(chosen + 1);
    // Growth that is to stop at the chosen K is often half-way to the limit; the next K meets it.
    let both = || [Some(here), next].into_iter().flatten();
    let busy = |point: &Point| Some((point.k, point.busy.filter(|&busy| busy >= FULL)?));
    if let Some((k, busy)) = both().find_map(busy) {
        return Why::ThreadFull(k, busy);
    }
    let used = |point: &Point| Some((point.k, point.rate / server_limit?));
    if let Some((k, used)) = both().filter_map(used).find(|&(_, used)| used >= NEARLY) {
        return Why::ServerFull(k, used);
    }
    match (next, points.get(chosen + 1)) {
        (None, None) => Why::NoKnee,
        (None, Some(unfit)) => Why::Failures(unfit.failed),
        (Some(next), _) if is_worse(here, next) => Why::GetsWorse,
        _ => match fit[chosen + 1..].iter().find(|to| elasticity(here, to) >= beta) {
            Some(perhaps) => Why::Unclear(perhaps.k),
            None => Why::Elsewhere(here.busy.is_some()),
        },
    }
}

/// The knee of the two-line bound `X <= min(K / (c + waits), 1 / c, places / waits)`: `cpu` is the
/// processor time per item on the thread, `waits` the time that an item waits altogether.
pub fn predicted_knee(cpu: f64, waits: f64, places: f64) -> f64 {
    (1.0 + waits / cpu).min(places * (1.0 + cpu / waits))
}

/// The same knee as it was measured: the best items/s, over those of one item at a time.
pub fn observed_knee(points: &[Point]) -> Option<f64> {
    let alone = points.first().filter(|point| point.k == 1)?;
    Some(best_rate(points) / alone.rate)
}

pub fn best_rate(points: &[Point]) -> f64 {
    points.iter().map(|point| point.rate).fold(0.0, f64::max)
}
