//! Send by promise, and what becomes of a promise that was wrong.

use gondola::AssertLocal;
use std::cell::Cell;
use std::future::{Future, pending};
use std::marker::PhantomPinned;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::rc::Rc;
use std::task::{Context, Waker};
use std::thread;

fn send<T: Send + Sync>(value: T) -> T {
    value
}

struct Counts(Rc<Cell<usize>>);

impl Drop for Counts {
    fn drop(&mut self) {
        self.0.set(self.0.get() + 1);
    }
}

#[test]
fn at_home_it_is_what_is_in_it() {
    let count = Rc::new(Cell::new(0));
    let mut local = send(AssertLocal::new(Counts(count.clone())));
    local.0.set(5);
    local.0 = count.clone();
    drop(local);
    assert_eq!(count.get(), 6);
    let held = count.clone();
    let output = gondola::block_on(send(AssertLocal::new(async move { held.get() })));
    assert_eq!(output, 6);
    assert_eq!(Rc::strong_count(&AssertLocal::new(count).into_inner()), 1);
}

#[test]
fn elsewhere_every_use_is_a_panic_and_nothing_is_dropped() {
    type Use = fn(AssertLocal<Counts>);
    let uses: [Use; 4] = [
        |local| drop(local),
        |local| drop(local.0.clone()),
        |mut local| local.0 = Rc::default(),
        |local| drop(local.into_inner()),
    ];
    let count = Rc::new(Cell::new(0));
    for (at, wrong) in uses.into_iter().enumerate() {
        let local = AssertLocal::new(Counts(count.clone()));
        assert!(thread::spawn(move || wrong(local)).join().is_err(), "use {at}");
    }
    assert_eq!((count.get(), Rc::strong_count(&count)), (0, 5), "all four are leaked");
    for _ in 0..4 {
        // SAFETY: those four are counted, and nobody has them. It tidies up for leak checkers.
        unsafe { Rc::decrement_strong_count(Rc::as_ptr(&count)) };
    }

    let local = AssertLocal::new(pending::<Rc<()>>());
    let poll = move || {
        let mut local = pin!(local);
        catch_unwind(AssertUnwindSafe(|| {
            let _ = local.as_mut().poll(&mut Context::from_waker(Waker::noop()));
        }))
        .is_err()
    };
    // Its drop there is a panic as well.
    assert!(thread::spawn(poll).join().is_err());

    // To look at it harms nobody.
    let local = AssertLocal::new(Rc::new(1));
    assert_eq!(format!("{local:?}"), "AssertLocal(1)");
    let (local, text) = thread::spawn(move || {
        let text = format!("{local:?}");
        (local, text)
    })
    .join()
    .unwrap();
    assert_eq!((text.as_str(), **local), ("AssertLocal(..)", 1));
}

#[test]
fn it_is_unpin_only_if_its_value_is() {
    struct Is<T>(T);
    impl<T: Unpin> Is<T> {
        fn is_unpin(&self) -> bool {
            let _ = &self.0;
            true
        }
    }
    trait Otherwise {
        fn is_unpin(&self) -> bool {
            false
        }
    }
    impl<T> Otherwise for &Is<T> {}
    assert!(Is(AssertLocal::new(1)).is_unpin());
    assert!(!(&Is(AssertLocal::new(PhantomPinned))).is_unpin());
}
