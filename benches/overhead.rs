//! What the runtime itself costs, beside tokio and futures in the same run.
//!
//! `cargo bench --bench overhead` prints nanoseconds of CPU time per unit: the median of seven
//! interleaved runs, each of which checks that the work was done. Compare the columns of one run;
//! absolute figures move between machines.

use futures::StreamExt;
use gondola::{Runtime, batch, try_spawn, yield_now};
use std::cell::Cell;
use std::future::poll_fn;
use std::hint::black_box;
use std::rc::Rc;
use std::task::Poll;
use std::time::{Duration, Instant};

type Work = Box<dyn FnMut() -> u64>;
/// Its name, its number of units, and who does it.
type Row = (String, u64, Vec<(&'static str, Work)>);

const ROUNDS: usize = 7;

/// Wakes itself `times` times, then is ready: a wait at no cost of its own.
fn waits(mut times: usize) -> impl Future<Output = ()> {
    poll_fn(move |cx| {
        if times == 0 {
            return Poll::Ready(());
        }
        times -= 1;
        cx.waker().wake_by_ref();
        Poll::Pending
    })
}

fn tokio() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap()
}

fn gondola_batch(n: u64, k: usize, wait: usize) -> Work {
    let mut runtime = Runtime::new().unwrap();
    Box::new(move || {
        let sum = Cell::new(0);
        let sum_ref = &sum;
        let run = batch(0..n).limit(k).for_each(|item| async move {
            waits(wait).await;
            sum_ref.set(sum_ref.get() + black_box(item) - item + 1);
        });
        runtime.block_on(run).unwrap();
        sum.get()
    })
}

fn futures_batch(n: u64, k: usize, wait: usize) -> Work {
    Box::new(move || {
        let sum = Cell::new(0);
        let sum_ref = &sum;
        let run = futures::stream::iter(0..n).for_each_concurrent(k, |item| async move {
            waits(wait).await;
            sum_ref.set(sum_ref.get() + black_box(item) - item + 1);
        });
        futures::executor::block_on(run);
        sum.get()
    })
}

/// The best that can be written by hand on tokio: K tasks that share one iterator.
fn tokio_workers(n: u64, k: usize, wait: usize) -> Work {
    let runtime = tokio();
    Box::new(move || {
        let local = tokio::task::LocalSet::new();
        let (next, sum) = (Rc::new(Cell::new(0)), Rc::new(Cell::new(0)));
        local.block_on(&runtime, async {
            let workers: Vec<_> = (0..k)
                .map(|_| {
                    let (next, sum) = (next.clone(), sum.clone());
                    tokio::task::spawn_local(async move {
                        while next.get() < n {
                            let item = next.replace(next.get() + 1);
                            waits(wait).await;
                            sum.set(sum.get() + black_box(item) - item + 1);
                        }
                    })
                })
                .collect();
            for worker in workers {
                worker.await.unwrap();
            }
        });
        sum.get()
    })
}

fn gondola_yields(n: u64, tasks: u64) -> Work {
    let mut runtime = Runtime::builder().slots(8192).build().unwrap();
    Box::new(move || {
        runtime.block_on(async move {
            let count = Rc::new(Cell::new(0));
            let handles: Vec<_> = (0..tasks)
                .map(|_| {
                    let count = count.clone();
                    try_spawn(async move {
                        for _ in 0..n / tasks {
                            yield_now().await;
                            count.set(count.get() + 1);
                        }
                    })
                    .unwrap()
                })
                .collect();
            for handle in handles {
                handle.await.unwrap();
            }
            count.get()
        })
    })
}

fn tokio_yields(n: u64, tasks: u64) -> Work {
    let runtime = tokio();
    Box::new(move || {
        let local = tokio::task::LocalSet::new();
        local.block_on(&runtime, async move {
            let count = Rc::new(Cell::new(0));
            let handles: Vec<_> = (0..tasks)
                .map(|_| {
                    let count = count.clone();
                    tokio::task::spawn_local(async move {
                        for _ in 0..n / tasks {
                            tokio::task::yield_now().await;
                            count.set(count.get() + 1);
                        }
                    })
                })
                .collect();
            for handle in handles {
                handle.await.unwrap();
            }
            count.get()
        })
    })
}

fn gondola_spawns(n: u64, wave: u64) -> Work {
    let mut runtime = Runtime::new().unwrap();
    Box::new(move || {
        runtime.block_on(async move {
            let mut sum = 0;
            let mut handles = Vec::new();
            for _ in 0..n / wave {
                handles.extend((0..wave).map(|_| try_spawn(async { black_box(1) }).unwrap()));
                for handle in handles.drain(..) {
                    sum += handle.await.unwrap();
                }
            }
            sum
        })
    })
}

fn tokio_spawns(n: u64, wave: u64) -> Work {
    let runtime = tokio();
    Box::new(move || {
        let local = tokio::task::LocalSet::new();
        local.block_on(&runtime, async move {
            let mut sum = 0;
            let mut handles = Vec::new();
            for _ in 0..n / wave {
                handles.extend((0..wave).map(|_| tokio::task::spawn_local(async { black_box(1) })));
                for handle in handles.drain(..) {
                    sum += handle.await.unwrap();
                }
            }
            sum
        })
    })
}

fn spread(item: u64) -> Duration {
    Duration::from_micros(1_000 + item.wrapping_mul(7_919) % 49_000)
}

fn gondola_timers(n: u64) -> Work {
    let mut runtime = Runtime::new().unwrap();
    Box::new(move || {
        let run = batch(0..n).limit(n as usize).for_each(|i| gondola::time::sleep(spread(i)));
        runtime.block_on(run).unwrap();
        n
    })
}

fn tokio_timers(n: u64) -> Work {
    let runtime = tokio();
    Box::new(move || {
        let sleeps = (0..n).map(|i| tokio::time::sleep(spread(i)));
        runtime.block_on(async { futures::future::join_all(sleeps).await });
        n
    })
}

fn gondola_millisecond_rounds(n: u64, k: usize) -> Work {
    let mut runtime = Runtime::new().unwrap();
    Box::new(move || {
        let ms = Duration::from_millis(1);
        runtime.block_on(batch(0..n).limit(k).for_each(|_| gondola::time::sleep(ms))).unwrap();
        n
    })
}

fn tokio_millisecond_rounds(n: u64, k: usize) -> Work {
    let runtime = tokio();
    Box::new(move || {
        let ms = Duration::from_millis(1);
        let run = futures::stream::iter(0..n).for_each_concurrent(k, |_| tokio::time::sleep(ms));
        runtime.block_on(run);
        n
    })
}

/// CPU time of this process, in nanoseconds; wall time where the system does not say.
fn cpu_now(start: Instant) -> u64 {
    let stat = std::fs::read_to_string("/proc/thread-self/schedstat").ok();
    let on_cpu = stat.and_then(|text| text.split(' ').next()?.parse().ok());
    on_cpu.unwrap_or_else(|| start.elapsed().as_nanos() as u64)
}

fn main() {
    let start = Instant::now();
    let only = std::env::args().skip(1).find(|argument| !argument.starts_with('-'));
    let mut rows: Vec<Row> = Vec::new();
    let mut row = |name: String, units: u64, works: Vec<(&'static str, Work)>| {
        if only.as_ref().is_none_or(|only| name.contains(only.as_str())) {
            rows.push((name, units, works));
        }
    };

    const N: u64 = 256_000;
    for tasks in [1, 64, 4_096] {
        let n = N / tasks * tasks;
        row(
            format!("yield, {tasks} tasks"),
            n,
            vec![("gondola", gondola_yields(n, tasks)), ("tokio", tokio_yields(n, tasks))],
        );
    }
    for wave in [1, 64] {
        row(
            format!("spawn + join, waves of {wave}"),
            N,
            vec![("gondola", gondola_spawns(N, wave)), ("tokio", tokio_spawns(N, wave))],
        );
    }
    for (k, wait) in [(64, 0), (1, 1), (8, 1), (64, 1), (1024, 1), (64, 2)] {
        row(
            format!("batch item, K = {k}, {wait} waits"),
            N,
            vec![
                ("gondola", gondola_batch(N, k, wait)),
                ("tokio workers", tokio_workers(N, k, wait)),
                ("for_each_concurrent", futures_batch(N, k, wait)),
            ],
        );
    }
    row(
        "100k sleeps of 1 to 50 ms".into(),
        100_000,
        vec![("gondola", gondola_timers(100_000)), ("tokio", tokio_timers(100_000))],
    );
    row(
        "sleep 1 ms, K = 1000".into(),
        50_000,
        vec![
            ("gondola", gondola_millisecond_rounds(50_000, 1000)),
            ("tokio", tokio_millisecond_rounds(50_000, 1000)),
        ],
    );

    for (name, units, mut works) in rows {
        let mut times = vec![Vec::new(); works.len()];
        for _ in 0..ROUNDS {
            for ((_, work), times) in works.iter_mut().zip(&mut times) {
                let (cpu, wall) = (cpu_now(start), Instant::now());
                assert_eq!(work(), units, "{name}: the work was not done");
                times.push((cpu_now(start) - cpu, wall.elapsed().as_nanos() as u64));
            }
        }
        print!("{name:34}");
        for ((peer, _), mut times) in works.into_iter().zip(times) {
            times.sort_unstable();
            let (cpu, wall) = times[ROUNDS / 2];
            let per = |nanos: u64| nanos as f64 / units as f64;
            print!("  {peer} {:7.1} (wall {:.1})", per(cpu), per(wall));
        }
        println!();
    }
}
