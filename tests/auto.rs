//! The limit that finds itself: on simulated servers, in virtual time, and on real sockets, where
//! only facts are asserted that no clock can spoil.

mod limiter;
#[allow(dead_code, reason = "the batch uses all of it")]
#[path = "../src/batch/seeker.rs"]
mod seeker;

use gondola::batch::Auto;
use gondola::net::{TcpListener, TcpStream};
use gondola::time::sleep;
use gondola::{ErrorKind, OnError, Runtime, batch, block_on, reserve, try_spawn, yield_now};
use limiter::oracle::{Oracle, geometric_mean};
use limiter::{aside, ours, simulate};
use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;
use tokio::sync::Semaphore;

const MS: Duration = Duration::from_millis(1);

fn in_virtual_time<F: Future>(future: F) -> F::Output {
    Runtime::builder().virtual_time().build().unwrap().block_on(future)
}

/// As `benches/limiters` finds them, which takes longer.
const KNEES: [&[(f64, usize)]; 14] = [
    &[(0.0, 3)],
    &[(0.0, 16)],
    &[(0.0, 48)],
    &[(0.0, 40)],
    &[(0.0, 12)],
    &[(0.0, 16), (0.5, 48)],
    &[(0.0, 24), (0.4, 6)],
    &[(0.0, 24)],
    &[(0.0, 16)],
    &[(0.0, 20)],
    &[(0.0, 1)],
    &[(0.0, 24)],
    &[(0.0, 5)],
    &[(0.0, 6)],
];

#[test]
fn on_servers_that_it_was_not_tuned_on_it_comes_near_to_who_knows() {
    let (mut shares, mut limits) = (Vec::new(), Vec::new());
    for (server, knees) in aside::SERVERS.iter().zip(KNEES) {
        let (mut share, mut limit) = (0.0, Vec::new());
        for seed in 0..10 {
            let best = simulate::run(server, &mut Oracle::new(knees, 5_000), 5_000, seed);
            let ours = simulate::run(server, &mut ours::Ours::new(0.15, 200), 5_000, seed);
            share += best.time() / ours.time() / 10.0;
            limit.push(ours.mean_limit(0.0, 1.0) / best.mean_limit(0.0, 1.0));
        }
        assert!(share > 0.78, "{}: {share}", server.name);
        shares.push(share);
        limits.push(geometric_mean(limit));
    }
    let mean = shares.iter().sum::<f64>() / shares.len() as f64;
    let limit = geometric_mean(limits);
    assert!(mean > 0.94 && limit < 1.3, "{mean} of the throughput, at {limit} times the limit");
}

#[test]
fn beta_says_how_much_it_takes() {
    let server = simulate::Server { latency: &[(0.0, 3.0)], cpu: 0.1, ..simulate::Server::PLAIN };
    let limit = |beta| {
        let outcome = simulate::run(&server, &mut ours::Ours::new(beta, 200), 20_000, 5);
        outcome.mean_limit(0.5, 1.0)
    };
    let [greedy, usual, polite] = [0.05, 0.15, 0.5].map(limit);
    assert!(greedy > usual && usual > polite, "{greedy} {usual} {polite}");
}

#[test]
fn more_places_are_found_and_fewer_too() {
    let run = |places| {
        let server = simulate::Server { places, latency: &[(0.0, 3.0)], ..simulate::Server::PLAIN };
        simulate::run(&server, &mut ours::Ours::new(0.15, 200), 20_000, 1)
    };
    // Within 300 items the throughput is that of 20 places again, within 1,500 the limit that of 4.
    let more = run(&[(0.0, 4), (0.5, 20)]);
    let speed = 1_000.0 / (more.done[11_300] - more.done[10_300]);
    assert!(speed > 0.8 * 20.0 / 3.0, "{speed} per ms");
    let fewer = run(&[(0.0, 20), (0.5, 4)]);
    assert!(fewer.mean_limit(0.6, 1.0) < 12.0, "{}", fewer.mean_limit(0.6, 1.0));
}

/// As many places as the semaphore has, 3 ms each.
async fn at(places: &Semaphore) {
    let _place = places.acquire().await.unwrap();
    sleep(3 * MS).await;
}

#[test]
fn a_second_run_begins_where_the_first_ended() {
    let places = Semaphore::new(30);
    let first = Auto::new(100);
    in_virtual_time(async {
        batch(0..3_000).limit(&first).for_each(async |_| at(&places).await).await.unwrap();
        assert!((25..=60).contains(&first.get()), "{first:?}");
        let second = Auto::new(100).start(first.get());
        let (begun, at_first) = (Cell::new(0), Cell::new(0));
        let run = batch(0..200).limit(&second).for_each(async |_| {
            begun.set(begun.get() + 1);
            at(&places).await;
            if at_first.get() == 0 {
                at_first.set(begun.get());
            }
        });
        run.await.unwrap();
        assert_eq!(at_first.get(), first.get());
        assert!(second.get() >= 20, "{second:?}");
    });
}

#[test]
fn never_more_than_the_maximum_and_never_fewer_than_the_minimum() {
    for (min, max) in [(1, 1), (1, 2), (3, 3), (5, 40), (1, 200)] {
        let limit = Auto::new(max).min(min);
        let (now, most) = (Cell::new(0), Cell::new(0));
        in_virtual_time(async {
            let run = batch(0..2_000_u64).limit(&limit).on_error(OnError::Collect);
            let run = run.try_for_each(async |n| {
                now.set(now.get() + 1);
                most.set(most.get().max(now.get()));
                assert!((min..=max).contains(&limit.get()), "{limit:?}");
                sleep(Duration::from_micros(n * 7919 % 5_000)).await;
                now.set(now.get() - 1);
                if n % 3 == 0 { Err(n) } else { Ok(()) }
            });
            let record = run.await.unwrap_err();
            assert_eq!((record.pulled, record.errors.len()), (2_000, 667));
        });
        assert!(most.get() <= max, "{most:?}");
    }
}

#[test]
fn nonsense_is_a_typed_error_or_the_nearest_sense() {
    let run = batch(0..3).limit(Auto::new(0)).for_each(async |_| ());
    let record = block_on(run).unwrap_err();
    assert_eq!((record.kind, record.rest), (ErrorKind::ZeroLimit, 0..3));
    let run = batch(0_u64..).limit(Auto::new(usize::MAX)).for_each(async |_| ());
    assert!(matches!(block_on(run).unwrap_err().kind, ErrorKind::LimitTooLarge { .. }));
    assert_eq!(Auto::new(5).start(9).get(), 5);
    assert_eq!(Auto::new(5).min(9).get(), 5);
    assert_eq!(Auto::new(50).min(0).start(0).get(), 1);
    for beta in [f64::NAN, f64::INFINITY, -1.0, 0.0] {
        let limit = Auto::new(5).beta(beta);
        assert!(
            block_on(batch(0..1_000).limit(&limit).for_each(async |_| yield_now().await)).is_ok()
        );
    }
}

#[test]
fn items_that_fail_at_once_or_take_no_time_or_never_end_are_no_trouble() {
    let limit = Auto::new(50);
    // No time at all, in virtual time.
    in_virtual_time(batch(0..5_000).limit(&limit).for_each(async |_| ())).unwrap();
    in_virtual_time(batch(0..5_000).limit(&limit).for_each(|_| yield_now())).unwrap();
    let all_fail = batch(0..1_000).limit(&limit).on_error(OnError::Collect);
    assert_eq!(
        block_on(all_fail.try_for_each(async |n| Err::<(), _>(n))).unwrap_err().errors.len(),
        1_000
    );
    // None ends: as many as it begins with are in flight.
    let never = batch(0..1_000).limit(Auto::new(50)).for_each(|_| std::future::pending());
    let record =
        in_virtual_time(never.stop_when(sleep(1_000 * MS), gondola::Stop::Cancel)).unwrap_err();
    assert_eq!(record.cut_off, (0..8).collect::<Vec<_>>());
    // Fewer than it begins with.
    in_virtual_time(batch(0..3).limit(&limit).for_each(|_| sleep(MS))).unwrap();
}

#[test]
fn under_another_executor_it_works_as_well() {
    let limit = Auto::new(50);
    let run = batch(0..2_000).limit(&limit).map(async |n| {
        yield_now().await;
        n
    });
    assert_eq!(futures::executor::block_on(run).unwrap().len(), 2_000);
}

#[test]
fn refusals_cut_it_and_room_lets_it_grow_again() {
    // It refuses above 10.
    let (now, limit) = (Cell::new(0), Auto::new(100));
    let refused = Cell::new(0);
    in_virtual_time(async {
        let run = batch(0..5_000).limit(&limit).for_each(async |_| {
            now.set(now.get() + 1);
            if now.get() > 10 {
                sleep(MS / 10).await;
                refused.set(refused.get() + 1);
                limit.throttled();
            } else {
                sleep(3 * MS).await;
            }
            now.set(now.get() - 1);
        });
        run.await.unwrap();
        assert!((5..=14).contains(&limit.get()), "{limit:?}");
        assert!(refused.get() < 2_000, "{refused:?}");
        let freed = batch(0..5_000).limit(Auto::clone(&limit)).for_each(|_| sleep(3 * MS));
        freed.await.unwrap();
    });
    assert!(limit.get() > 50, "{limit:?}");
}

/// The server sees at most the maximum, all are served, and the limit ends within its bounds.
#[test]
fn on_real_sockets_the_server_never_sees_more_than_the_maximum() {
    block_on(async {
        let listener = TcpListener::bind(([127, 0, 0, 1], 0)).unwrap();
        let address = listener.local_addr().unwrap();
        let counts = Rc::new((Cell::new(0), Cell::new(0), Cell::new(0)));
        let seen = counts.clone();
        try_spawn(async move {
            loop {
                let slot = reserve().await;
                let (mut stream, _) = listener.accept().await.unwrap();
                let seen = seen.clone();
                slot.spawn(async move {
                    let (now, most, served) = &*seen;
                    now.set(now.get() + 1);
                    most.set(most.get().max(now.get()));
                    sleep(MS).await;
                    now.set(now.get() - 1);
                    served.set(served.get() + 1);
                    stream.write_all(b"ok").await.unwrap();
                })
                .detach();
            }
        })
        .unwrap()
        .detach();
        let limit = Auto::new(20);
        let run = batch(0..1_000).limit(&limit).try_for_each(async |_| {
            let mut stream = TcpStream::connect(address).await?;
            stream.read_exact(&mut [0; 2]).await
        });
        run.await.unwrap();
        let (_, most, served) = &*counts;
        assert!((8..=20).contains(&most.get()), "{most:?}");
        assert_eq!(served.get(), 1_000);
        assert!((1..=20).contains(&limit.get()), "{limit:?}");
    });
}
