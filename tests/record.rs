//! The record of a batch that did not complete: as an error for `?`, and whatever destructors do.

mod support {
    pub mod cases;
}

use gondola::batch::BatchError;
use gondola::{CancellationToken, ErrorKind, OnError, Stop, batch, block_on, yield_now};
use std::cell::Cell;
use std::error::Error;
use std::fmt;
use std::future::{Future, pending, poll_fn};
use std::io;
use std::num::ParseIntError;
use std::pin::pin;
use std::rc::Rc;
use std::task::{Context, Waker};
use support::cases::quietly;

#[derive(Debug)]
struct Outer(io::Error);

impl fmt::Display for Outer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("service error")
    }
}

impl Error for Outer {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        Some(&self.0)
    }
}

fn refused() -> io::Error {
    io::Error::new(io::ErrorKind::ConnectionRefused, "nobody listens")
}

const TOLD: &str = "item 1 failed: service error: nobody listens \
                    (1 completed, 1 failed, 0 cut off in flight)";

/// Runs items that borrow, of which the second one fails.
macro_rules! run {
    ($error:expr) => {{
        let ids = [1, 2, 3, 4, 5];
        block_on(
            batch(ids.chunks(2))
                .limit(1)
                .try_map(async |ids| if ids[0] == 3 { Err($error) } else { Ok(ids.len()) }),
        )?;
        Ok(())
    }};
}

#[test]
fn the_question_mark_works_whatever_the_items_error_is_and_though_the_source_borrows() {
    type Sendable = Box<dyn Error + Send + Sync>;
    type Runs<E, const N: usize> = [fn() -> Result<(), E>; N];
    let boxed: Runs<Box<dyn Error>, 3> = [
        || run!(Outer(refused())),
        || run!(Box::<dyn Error>::from(Outer(refused()))),
        || run!(anyhow::Error::new(refused()).context("service error")),
    ];
    for run in boxed {
        let error = run().unwrap_err();
        assert_eq!(error.to_string(), TOLD);
        // And a program finds the cause in it.
        let mut chain = std::iter::successors(error.source(), |&error| error.source());
        assert!(chain.any(|error| error.downcast_ref::<io::Error>().is_some()));
    }
    let sendable: Runs<Sendable, 3> = [
        || run!(Outer(refused())),
        || run!(Sendable::from(Outer(refused()))),
        || run!(anyhow::Error::new(refused()).context("service error")),
    ];
    for run in sendable {
        assert_eq!(run().unwrap_err().to_string(), TOLD);
    }
    fn text() -> Result<(), Box<dyn Error>> {
        run!("just text")
    }
    assert!(text().unwrap_err().to_string().starts_with("item 1 failed: just text ("));
}

#[test]
fn an_io_error_keeps_its_kind() {
    let plain: [fn() -> io::Result<()>; 2] =
        [|| run!(refused()), || run!(anyhow::Error::new(Outer(refused())))];
    let kinds = plain.map(|run| run().unwrap_err().kind());
    assert_eq!(kinds, [io::ErrorKind::ConnectionRefused, io::ErrorKind::Other]);
    let limit = |limit| -> io::Result<()> {
        block_on(batch(std::iter::repeat(())).limit(limit).for_each(async |()| ()))?;
        Ok(())
    };
    for bad in [0, usize::MAX] {
        assert_eq!(limit(bad).unwrap_err().kind(), io::ErrorKind::InvalidInput);
    }
}

#[cfg(feature = "anyhow")]
#[test]
fn anyhow_has_the_chain_and_finds_the_cause() {
    let runs: [fn() -> anyhow::Result<()>; 3] = [
        || run!(Outer(refused())),
        || run!(anyhow::Error::new(refused()).context("service error")),
        || run!(anyhow::Error::new(Outer(refused()))),
    ];
    for run in runs {
        let error = run().unwrap_err();
        let told = "item 1 failed (1 completed, 1 failed, 0 cut off in flight): \
                    service error: nobody listens";
        assert_eq!(format!("{error:#}"), told);
        assert!(error.chain().any(|cause| cause.is::<io::Error>()));
    }
    let token = CancellationToken::new();
    token.cancel();
    let cancelled = || -> anyhow::Result<()> {
        block_on(batch(0..3).limit(1).cancel_on(&token).for_each(async |_| ()))?;
        Ok(())
    };
    assert!(cancelled().unwrap_err().to_string().starts_with("the batch was cancelled"));
}

#[test]
fn the_record_itself_tells_the_chain() {
    let run = batch(0..9).limit(1).try_for_each(async |_| Err(Outer(refused())));
    let record: Box<BatchError<_, _>> = block_on(run).unwrap_err();
    let told =
        "item 0 failed: service error: nobody listens (0 completed, 1 failed, 0 cut off in flight)";
    assert_eq!(record.to_string(), told);
    let run = batch(["1", "x"]).limit(1).try_map(async |text| text.parse::<u8>());
    let error: ParseIntError = block_on(run).unwrap_err().into_error().unwrap();
    assert_eq!(error.to_string(), "invalid digit found in string");
}

/// Counted while it lives; its destructor may panic.
struct Bomb {
    alive: Rc<Cell<isize>>,
    armed: bool,
}

impl Bomb {
    fn new(alive: &Rc<Cell<isize>>, armed: bool) -> Self {
        alive.set(alive.get() + 1);
        Self { alive: alive.clone(), armed }
    }
}

impl Drop for Bomb {
    fn drop(&mut self) {
        self.alive.set(self.alive.get() - 1);
        if self.armed {
            std::panic::resume_unwind(Box::new("a bomb"));
        }
    }
}

/// Which destructors panic.
#[derive(Clone, Copy)]
struct Armed(u32);

impl Armed {
    const PLACES: u32 = 6;

    fn at(self, place: u32) -> bool {
        self.0 & 1 << place != 0
    }
}

/// How a batch of bombs comes to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ending {
    Completes,
    Fails,
    Collects,
    Drains,
    IsCancelled,
    Panics,
    SourcePanics,
    IsDropped,
    IsDroppedUnpolled,
    HasNoLimit,
}

/// Source, closure, futures, waiting futures, outputs, errors: each with a destructor that counts.
fn bombs(ending: Ending, armed: Armed, alive: &Rc<Cell<isize>>) {
    let in_source = Bomb::new(alive, armed.at(0));
    let mut left = 6;
    let source = std::iter::from_fn(move || {
        let _in_source = &in_source;
        left -= 1;
        if ending == Ending::SourcePanics && left == 0 {
            std::panic::resume_unwind(Box::new("the source"));
        }
        (left >= 0).then_some(5 - left)
    });
    let in_closure = Bomb::new(alive, armed.at(1));
    let token = CancellationToken::new();
    let on_error = match ending {
        Ending::Collects => OnError::Collect,
        Ending::Drains => OnError::Stop(Stop::Drain),
        _ => OnError::default(),
    };
    let limit = if ending == Ending::HasNoLimit { 0 } else { 4 };
    let alive = alive.clone();
    let run =
        batch(source).limit(limit).on_error(on_error).cancel_on(&token).try_map(move |item| {
            let _in_closure = &in_closure;
            let waits = item == 3
                && !matches!(ending, Ending::Completes | Ending::Collects | Ending::Drains);
            let in_future = Bomb::new(&alive, armed.at(if waits { 3 } else { 2 }));
            let (alive, token) = (alive.clone(), token.clone());
            let mut body = Box::pin(async move {
                if waits {
                    pending::<()>().await;
                }
                yield_now().await;
                match (ending, item) {
                    (Ending::Fails | Ending::Collects | Ending::Drains, 2) => {
                        return Err(Bomb::new(&alive, armed.at(5)));
                    }
                    (Ending::IsCancelled, 2) => token.cancel(),
                    (Ending::Panics, 2) => std::panic::resume_unwind(Box::new("an item")),
                    _ => {}
                }
                Ok(Bomb::new(&alive, armed.at(4)))
            });
            poll_fn(move |cx| {
                let _in_future = &in_future;
                body.as_mut().poll(cx)
            })
        });
    if ending == Ending::IsDroppedUnpolled {
        return drop(run);
    }
    let mut run = pin!(run);
    if ending == Ending::IsDropped {
        let poll = run.as_mut().poll(&mut Context::from_waker(Waker::noop()));
        return assert!(poll.is_pending());
    }
    // Whoever gets the result has it in their hands: their own destructors are their own business.
    match block_on(run) {
        Ok(outputs) => outputs.into_iter().for_each(forget_about),
        Err(record) => {
            let BatchError { partial, errors, rest, .. } = *record;
            partial.into_iter().flatten().for_each(forget_about);
            errors.into_iter().for_each(|failed| forget_about(failed.error));
            let _ = quietly(move || drop(rest));
        }
    }
}

fn forget_about(mut bomb: Bomb) {
    bomb.armed = false;
}

#[test]
fn whatever_destructors_panic_at_the_end_nothing_leaks_and_nothing_aborts() {
    use Ending::*;
    let endings = [
        Completes,
        Fails,
        Collects,
        Drains,
        IsCancelled,
        Panics,
        SourcePanics,
        IsDropped,
        IsDroppedUnpolled,
        HasNoLimit,
    ];
    for ending in endings {
        for armed in 0..1 << Armed::PLACES {
            let alive = Rc::new(Cell::new(0));
            let result = quietly(|| bombs(ending, Armed(armed), &alive));
            assert_eq!(alive.get(), 0, "{ending:?}, {armed:06b}");
            match result {
                Ok(()) => assert!(!matches!(ending, Panics | SourcePanics)),
                Err(payload) => {
                    let first = *payload.downcast::<&str>().unwrap();
                    // The panic of the item or the source is the news, even if others follow.
                    let expected = match ending {
                        Panics => "an item",
                        SourcePanics => "the source",
                        _ => "a bomb",
                    };
                    assert!(
                        first == expected || armed & 0b100 != 0,
                        "{first}: {ending:?}, {armed:06b}"
                    );
                }
            }
        }
    }
}

#[test]
fn a_destructor_that_panics_while_items_are_cut_off_is_the_news() {
    // The record goes, with all that it holds: a broken destructor is no outcome of an item.
    let alive = Rc::new(Cell::new(0));
    let run = batch(0..9).limit(3).try_for_each(|item| {
        let bomb = Bomb::new(&alive, item == 1);
        let alive = alive.clone();
        async move {
            let _bomb = bomb;
            match item {
                2 => Err(Bomb::new(&alive, false)),
                _ => pending().await,
            }
        }
    });
    let payload = quietly(|| block_on(run)).err().unwrap();
    assert_eq!(payload.downcast_ref(), Some(&"a bomb"));
    assert_eq!(alive.get(), 0);
}

#[test]
fn a_batch_goes_on_in_the_runtime_in_which_it_is_polled() {
    use gondola::time::sleep;
    use gondola::{Runtime, net::TcpStream};
    use std::time::Duration;

    let runtime = || Runtime::builder().slots(1).virtual_time().build().unwrap();
    let polls = Cell::new(0);
    let mut run = Box::pin(batch(0..100_u64).limit(70).for_each(|item| {
        let mut nap = Box::pin(sleep(Duration::from_millis(10 + item)));
        let polls = &polls;
        poll_fn(move |cx| {
            polls.set(polls.get() + 1);
            nap.as_mut().poll(cx)
        })
    }));
    let (mut first, mut second) = (runtime(), runtime());
    let mut once = |runtime: &mut Runtime| {
        runtime.block_on(async { futures::poll!(run.as_mut()).is_pending() })
    };
    assert!(once(&mut first));
    assert!(once(&mut first));
    assert_eq!(polls.get(), 70, "in the same runtime nobody is polled for nothing");
    assert!(once(&mut second));
    assert_eq!(polls.get(), 140);
    second.block_on(run).unwrap();
    // What can't go on elsewhere says so, instead of waiting for ever.
    let mut here = Runtime::new().unwrap();
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let mut run =
        Box::pin(batch(0..1).limit(1).try_for_each(async |_| {
            TcpStream::connect(address).await?.read(&mut [0]).await.map(drop)
        }));
    here.block_on(async {
        for _ in 0..100 {
            assert!(futures::poll!(run.as_mut()).is_pending());
            sleep(Duration::from_micros(100)).await;
        }
    });
    let record = Runtime::new().unwrap().block_on(run).unwrap_err();
    assert_eq!(record.error().unwrap().kind(), io::ErrorKind::NotConnected);
    assert_eq!(record.kind, ErrorKind::Item);
}
