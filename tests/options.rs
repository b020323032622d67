//! What holds for every option of a batch: given up at any moment, it leaves nothing behind; and no
//! more than the limit are ever alive, whatever happens to them.

use futures::stream;
use gondola::batch::Limit;
use gondola::meter::Meter;
use gondola::time::{sleep, timeout};
use gondola::{CancellationToken, OnError, Runtime, Stop, batch, yield_now};
use std::cell::{Cell, RefCell};
use std::future::pending;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Waker};
use std::time::Duration;

const K: usize = 3;
const ITEMS: usize = 10;

/// How many bodies and outputs are alive, and how many items have begun.
#[derive(Clone, Default)]
struct World(Rc<(Cell<usize>, Cell<usize>)>);

/// One of them.
struct Alive(World);

impl World {
    fn enter(&self) -> Alive {
        let alive = &self.0.0;
        alive.set(alive.get() + 1);
        Alive(self.clone())
    }

    /// The body of an item: a few awaits, and an output that counts as well.
    async fn item(self, n: usize) -> Result<(), usize> {
        self.0.1.set(self.0.1.get() + 1);
        let body = self.enter();
        for _ in 0..n % 4 {
            yield_now().await;
        }
        drop(body);
        if n == 7 { Err(n) } else { Ok(()) }
    }
}

impl Drop for Alive {
    fn drop(&mut self) {
        self.0.0.0.set(self.0.0.0.get() - 1);
    }
}

type Boxed = Pin<Box<dyn Future<Output = ()>>>;

/// A batch with each of the options, and whether item 7 ends it early.
fn options(world: &World) -> Vec<(&'static str, Boxed)> {
    let item = |world: &World| {
        let world = world.clone();
        move |n| world.clone().item(n)
    };
    let output = |world: &World| {
        let world = world.clone();
        move |n| {
            let world = world.clone();
            async move {
                world.clone().item(n).await?;
                Ok::<_, usize>(world.enter())
            }
        }
    };
    let token = CancellationToken::new();
    let meter = Meter::new();
    let limit = Limit::new(1, K);
    let changes = limit.clone();
    let stack = Rc::new(RefCell::new((0..ITEMS).rev().collect::<Vec<_>>()));
    let frontier = std::iter::from_fn(move || stack.borrow_mut().pop());
    let each = item(world);
    let metered = move |n| meter.try_watch(each(n));
    let each = item(world);
    let steered = move |n| {
        changes.set(n % (K + 1));
        let (item, changes) = (each(n), changes.clone());
        async move {
            let end = item.await;
            changes.set(K);
            end
        }
    };
    let plain = || batch(0..ITEMS).limit(K);
    vec![
        ("stop", boxed(plain().try_for_each(item(world)))),
        ("drain", boxed(plain().on_error(OnError::Stop(Stop::Drain)).try_for_each(item(world)))),
        ("collect", boxed(plain().on_error(OnError::Collect).try_for_each(item(world)))),
        ("token", boxed(plain().cancel_on(&token).try_for_each(item(world)))),
        ("map", boxed(plain().on_error(OnError::Collect).try_map(output(world)))),
        ("window", boxed(plain().try_in_order(2, output(world), drop))),
        ("skips", boxed(plain().on_error(OnError::Collect).try_in_order(2, output(world), drop))),
        ("growing", boxed(batch(frontier).growing().limit(K).try_for_each(item(world)))),
        ("stream", boxed(batch::stream(stream::iter(0..ITEMS)).limit(K).try_for_each(item(world)))),
        ("limit", boxed(batch(0..ITEMS).limit(&limit).try_for_each(steered))),
        (
            "stop_when",
            boxed(
                plain()
                    .try_for_each(item(world))
                    .stop_when(yield_now(), Stop::Drain)
                    .stop_when(pending::<()>(), Stop::Cancel),
            ),
        ),
        ("meter", boxed(plain().try_for_each(metered))),
    ]
}

fn boxed<F: Future + 'static>(future: F) -> Boxed {
    Box::pin(async { drop(future.await) })
}

#[test]
fn given_up_after_any_poll_each_option_leaves_nothing_behind() {
    let names = options(&World::default()).len();
    for option in 0..names {
        for polls in 0.. {
            let world = World::default();
            let (name, mut run) = options(&world).swap_remove(option);
            let mut is_over = false;
            for _ in 0..polls {
                if is_over {
                    break;
                }
                let poll = run.as_mut().poll(&mut Context::from_waker(Waker::noop()));
                is_over = poll.is_ready();
            }
            let begun = world.0.1.get();
            drop(run);
            assert_eq!(world.0.0.get(), 0, "{name}, given up after {polls} polls");
            assert_eq!(world.0.1.get(), begun, "{name} begins something when it is given up");
            if is_over {
                assert!(begun > 0 && polls < 40, "{name}: {polls}");
                break;
            }
            assert!(polls < 40, "{name} never ends");
        }
    }
}

/// A slot is held by its item with all its attempts, time-outs and pauses: a storm of them begins no
/// more than the limit, and leaves no timer.
#[test]
fn a_storm_of_timeouts_and_retries_never_exceeds_the_limit() {
    for limit in [1, 2, 7, 64] {
        let mut runtime = Runtime::builder().virtual_time().build().unwrap();
        let world = World::default();
        let (most, attempts) = (Cell::new(0), Cell::new(0));
        runtime.block_on(async {
            let attempt = async |n: u64, try_no: u64| {
                let _alive = world.enter();
                most.set(most.get().max(world.0.0.get()));
                attempts.set(attempts.get() + 1);
                // Most are too slow for their time-out; every fifth fails at once.
                let pause = 1 + (n * 7919 + try_no * 104_729) % 50;
                if (n + try_no) % 5 == 0 {
                    return Err("down");
                }
                sleep(Duration::from_millis(pause)).await;
                Ok(())
            };
            let run =
                batch(0..1000).limit(limit).on_error(OnError::Collect).try_for_each(async |n| {
                    for try_no in 0..4 {
                        let limit = Duration::from_millis(10);
                        match timeout(limit, attempt(n, try_no)).await {
                            Ok(Ok(())) => return Ok(()),
                            Ok(Err(_)) | Err(_) => sleep(Duration::from_millis(1 << try_no)).await,
                        }
                    }
                    Err("four times")
                });
            let record = run.await.unwrap_err();
            assert_eq!(record.pulled, 1000);
            assert_eq!(gondola::metrics().unwrap().timers, 0);
        });
        assert_eq!((most.get(), world.0.0.get()), (limit, 0));
        assert!(attempts.get() > 2_000, "{attempts:?}");
    }
}
