//! The adaptive limit beside others, on simulated servers: how much of the throughput they bring that
//! the smallest sufficient limit would, if it were known, and at how many times that limit.

mod others;
#[path = "../../../tests/limiter/ours.rs"]
mod ours;
#[path = "../../../src/batch/seeker.rs"]
mod seeker;
#[path = "../../../tests/limiter/aside.rs"]
mod aside;
#[path = "../../../tests/limiter/oracle.rs"]
mod oracle;
#[path = "../../../tests/limiter/simulate.rs"]
#[allow(dead_code, reason = "the tests use more of it")]
mod simulate;
#[path = "../../../tests/limiter/tuned.rs"]
mod tuned;

use oracle::{Oracle, geometric_mean, knees};
use simulate::{Limiter, Server, run};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

const COUNTS: [usize; 3] = [1_000, 5_000, 20_000];
const SEEDS: u64 = 20;
const BETA: f64 = 0.15;

type Make = Box<dyn Fn(&Server) -> Box<dyn Limiter> + Sync>;

fn limiters() -> Vec<(&'static str, Make)> {
    fn make<L: Limiter + 'static>(make: impl Fn(&Server) -> L + Sync + 'static) -> Make {
        Box::new(move |server| Box::new(make(server)))
    }
    vec![
        ("gondola", make(|_| ours::Ours::new(BETA, others::MAX))),
        ("AIMD (tower-acc)", Box::new(|_| others::aimd())),
        ("Gradient2 (tower-acc)", Box::new(|_| others::gradient2())),
        ("Vegas (tower-acc)", Box::new(|_| others::vegas())),
        ("Vector", make(|_| others::Vector::new())),
        ("Envoy's gradient", make(|_| others::Envoy::new())),
        ("fixed: waits + 1", make(|server| server.waits as usize + 1)),
        ("fixed: 25", make(|_| 25)),
    ]
}

/// Of one limiter at one server, for each count of items.
#[derive(Clone, Copy, Default)]
struct Score {
    /// The share of the oracle's throughput: on average, and of the worst run.
    mean: f64,
    worst: f64,
    /// The limit over the oracle's.
    limit: f64,
    refused: f64,
}

fn score(server: &Server, make: &Make, count: usize, oracle: &[(f64, f64)]) -> Score {
    let mut score = Score { worst: f64::MAX, ..Score::default() };
    let mut limits = Vec::new();
    let time = oracle.iter().map(|(time, _)| time).sum::<f64>() / SEEDS as f64;
    for seed in 0..SEEDS {
        let outcome = run(server, &mut *make(server), count, seed);
        let share = time / outcome.time();
        score.mean += share / SEEDS as f64;
        score.worst = score.worst.min(share);
        score.refused += outcome.refused as f64 / (count as f64 * SEEDS as f64);
        limits.push(outcome.mean_limit(0.0, 1.0) / oracle[seed as usize].1);
    }
    score.limit = geometric_mean(limits);
    score
}

fn main() {
    let mut hasher = DefaultHasher::new();
    include_str!("../../../tests/limiter/aside.rs").hash(&mut hasher);
    let filter = std::env::args().nth(1).unwrap_or_default();
    let detailed = std::env::args().nth(2).is_some();
    let limiters = limiters();
    let tuning = std::env::var_os("TUNING").is_some(); // without the servers that are set aside
    for (title, servers) in [
        (format!("set aside: 14 servers, hash {:016x}", hasher.finish()), &aside::SERVERS[..]),
        ("tuned on: 25 servers".to_string(), &tuned::SERVERS[..]),
    ]
    .into_iter()
    .skip(usize::from(tuning))
    {
        let chosen: Vec<_> = limiters.iter().filter(|(name, _)| name.contains(&filter)).collect();
        // By server, limiter, count.
        let scores = Mutex::new(vec![vec![[Score::default(); COUNTS.len()]; chosen.len()]; servers.len()]);
        let next = AtomicUsize::new(0);
        thread::scope(|scope| {
            for _ in 0..thread::available_parallelism().map_or(1, Into::into) {
                scope.spawn(|| {
                    loop {
                        let at = next.fetch_add(1, Ordering::Relaxed);
                        let Some(server) = servers.get(at) else { break };
                        let knees = knees(server, BETA, others::MAX);
                        for (which, &count) in COUNTS.iter().enumerate() {
                            let oracle: Vec<_> = (0..SEEDS)
                                .map(|seed| {
                                    let mut oracle = Oracle::new(&knees, count);
                                    let outcome = run(server, &mut oracle, count, seed);
                                    (outcome.time(), outcome.mean_limit(0.0, 1.0))
                                })
                                .collect();
                            for (limiter, (_, make)) in chosen.iter().enumerate() {
                                let score = score(server, make, count, &oracle);
                                scores.lock().unwrap()[at][limiter][which] = score;
                            }
                        }
                        if detailed {
                            let of = |which: usize| {
                                let score = scores.lock().unwrap()[at][0][which];
                                format!("{:5.1} ({:5.1}) {:5.2}", 100.0 * score.mean, 100.0 * score.worst, score.limit)
                            };
                            let refused = scores.lock().unwrap()[at][0][2].refused;
                            eprintln!("{:45} {} | {} | {}  refused {refused:.3}  knees {knees:?}", server.name, of(0), of(1), of(2));
                        }
                    }
                });
            }
        });
        let scores = scores.into_inner().unwrap();
        println!("\n{title}\n");
        println!("| | N = 1,000 | N = 5,000 | N = 20,000 |\n|---|---|---|---|");
        for (limiter, (name, _)) in chosen.iter().enumerate() {
            print!("| {name} |");
            for which in 0..COUNTS.len() {
                let of = |server: &Vec<[Score; COUNTS.len()]>| server[limiter][which];
                let all: Vec<Score> = scores.iter().map(of).collect();
                let mean = all.iter().map(|score| score.mean).sum::<f64>() / all.len() as f64;
                let worst = all.iter().map(|score| score.mean).fold(f64::MAX, f64::min);
                let run = all.iter().map(|score| score.worst).fold(f64::MAX, f64::min);
                let limit = geometric_mean(all.iter().map(|score| score.limit).collect());
                print!(" {:.1} ({:.0}; {:.0}) / {limit:.2} |", 100.0 * mean, 100.0 * worst, 100.0 * run);
            }
            println!();
        }
    }
    println!("\nMean throughput as % of the oracle's (of the worst server; of the worst run) / limit over the oracle's.");
}
