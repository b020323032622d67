//! Slots and wakers under loom: wakes that arrive while a task completes, while its slot passes to
//! the next one, and while the runtime goes.
#![forbid(unsafe_code)]

use super::*;
use crate::sync::AtomicUsize;
use crate::wake::Wakes;
use crate::wake::models::{Sleeper, model, waker_of};
use loom::thread;
use std::future::poll_fn;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;

#[test]
fn a_stale_wake_neither_harms_the_next_task_of_the_slot_nor_hides_its_own() {
    model(|| {
        let sleeper = Sleeper::new();
        let wakes = Wakes::new(1, sleeper.clone());
        let ring = Ring::new(1);
        let open = Arc::new(AtomicUsize::new(0));
        let first = ring.place(ring.try_take().unwrap(), async {});
        wakes.mark(0);
        let (waker, opened) = (waker_of(&wakes, 0).clone(), open.clone());
        let thread = thread::spawn(move || {
            // For the first task, or too late for it.
            waker.wake_by_ref();
            // For the second one.
            opened.store(1, Ordering::Relaxed);
            waker.wake();
        });
        let mut polls = 0;
        let mut second = None;
        loop {
            wakes.drain();
            for (slot, waker) in wakes.begin_turn() {
                polls += usize::from(ring.poll(slot, &mut Context::from_waker(&waker)).is_some());
            }
            if first.is_finished() && second.is_none() {
                let open = open.clone();
                let until_open = poll_fn(move |_| match open.load(Ordering::Relaxed) {
                    0 => Poll::Pending,
                    _ => Poll::Ready(()),
                });
                second = Some(ring.place(ring.try_take().expect("it is free again"), until_open));
                wakes.mark(0);
            } else if second.as_ref().is_some_and(|second| second.is_finished()) {
                break;
            }
            if !wakes.any_ready() && wakes.fall_asleep() {
                sleeper.sleep();
            }
        }
        assert!(polls <= 4, "two first polls and two wakes, but {polls} polls");
        thread.join().unwrap();
    });
}

#[test]
fn a_wake_against_the_drop_of_the_runtime() {
    model(|| {
        let sleeper = Sleeper::new();
        let ring = Ring::new(1);
        let wakes = Wakes::new(1, sleeper.clone());
        let user_data = Rc::new(());
        let kept = user_data.clone();
        let forever = async move {
            let _kept = kept;
            std::future::pending::<()>().await;
        };
        let joint = ring.place(ring.try_take().unwrap(), forever);
        wakes.mark(0);
        let waker = waker_of(&wakes, 0).clone();
        let thread = thread::spawn(move || {
            waker.wake_by_ref();
            drop(waker);
        });
        for (slot, waker) in wakes.begin_turn() {
            let _ = ring.poll(slot, &mut Context::from_waker(&waker));
        }
        let asleep = wakes.fall_asleep();
        ring.close();
        assert_eq!(Rc::strong_count(&user_data), 1, "dropped here, and only its own");
        assert!(joint.is_finished());
        drop((ring, wakes));
        thread.join().unwrap();
        if asleep {
            sleeper.sleep();
        }
        drop(joint);
    });
}
