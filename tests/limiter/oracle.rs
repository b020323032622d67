//! Who knows: the smallest limit at which one percent more brings less than `beta` percent of
//! throughput, found by trying them all beforehand.

use super::simulate::{End, Limiter, Phases, Server, run};

const LIMITS: [usize; 30] = [
    1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 12, 14, 16, 18, 20, 24, 28, 32, 40, 48, 56, 64, 80, 96, 112,
    128, 144, 160, 180, 200,
];

/// The knee of each phase of the server.
pub fn knees(server: &Server, beta: f64, max: usize) -> Vec<(f64, usize)> {
    let mut phases: Vec<f64> = server.places.iter().map(|phase| phase.0).collect();
    phases.extend(server.latency.iter().map(|phase| phase.0));
    if server.drifts {
        phases = vec![0.0, 0.25, 0.5, 0.75];
    }
    if let Some((_, from, to)) = server.greedy {
        phases.extend([from, to]);
    }
    phases.sort_by(f64::total_cmp);
    phases.dedup();
    phases.into_iter().map(|at| (at, knee(&still(server, at), beta, max))).collect()
}

/// The server as it is in one phase, for ever.
fn still(server: &Server, at: f64) -> Server {
    fn value<T: Copy>(phases: Phases<T>, at: f64) -> T {
        phases.iter().rev().find(|phase| phase.0 <= at).expect("the first is at 0").1
    }
    let latency = match server.latency {
        [(_, from), (_, to)] if server.drifts => from + (to - from) * (at + 0.125),
        phases => value(phases, at),
    };
    let greedy = server.greedy.filter(|(_, from, to)| (*from..*to).contains(&at));
    Server {
        places: Box::leak(Box::new([(0.0, value(server.places, at))])),
        latency: Box::leak(Box::new([(0.0, latency)])),
        drifts: false,
        greedy: greedy.map(|(count, ..)| (count, 0.0, 1.0)),
        setup: 0.0,
        ..*server
    }
}

fn knee(server: &Server, beta: f64, max: usize) -> usize {
    let speed = |limit: usize| {
        let count = 10_000 + 100 * limit;
        let time: f64 =
            (0..3).map(|seed| run(server, &mut { limit }, count, 1_000 + seed).time()).sum();
        (limit as f64, (count as f64 / time).ln())
    };
    let speeds: Vec<(f64, f64)> =
        LIMITS.iter().filter(|&&limit| limit <= max).map(|&limit| speed(limit)).collect();
    let gain = |at: usize| {
        let ((from, slow), (to, fast)) = (speeds[at], speeds[at + 1]);
        (fast - slow) / (to / from).ln()
    };
    // Two in a row, for one may be noise.
    let knee = (0..speeds.len() - 2).find(|&at| gain(at) < beta && gain(at + 1) < beta);
    knee.map_or(max, |at| speeds[at].0 as usize)
}

pub fn geometric_mean(values: Vec<f64>) -> f64 {
    (values.iter().map(|value| value.ln()).sum::<f64>() / values.len() as f64).exp()
}

/// The limit that is right in each phase.
pub struct Oracle<'a> {
    knees: &'a [(f64, usize)],
    done: usize,
    count: usize,
}

impl<'a> Oracle<'a> {
    pub fn new(knees: &'a [(f64, usize)], count: usize) -> Self {
        Self { knees, done: 0, count }
    }
}

impl Limiter for Oracle<'_> {
    fn limit(&self) -> usize {
        let progress = self.done as f64 / self.count as f64;
        self.knees.iter().rev().find(|knee| knee.0 <= progress).expect("the first is at 0").1
    }

    fn end(&mut self, end: End) {
        self.done += usize::from(!end.refused);
    }
}
