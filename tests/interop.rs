//! Crates that know nothing of this runtime work in it unchanged, wakes from other threads
//! included. Their wakers are ours; ours are all they need.

use futures::StreamExt;
use gondola::{Runtime, batch, block_on, reserve, try_spawn, yield_now};
use std::cell::Cell;
use std::rc::Rc;
use std::sync::Arc;

const N: u64 = 2_000;
const SUM: u64 = N * (N - 1) / 2;

/// Sends `0..N` from another thread, one at a time.
fn from_a_thread(mut send: impl FnMut(u64) + Send + 'static) {
    std::thread::spawn(move || (0..N).for_each(&mut send));
}

#[test]
fn async_channel() {
    let (sender, receiver) = async_channel::bounded(3);
    from_a_thread(move |n| sender.send_blocking(n).unwrap());
    let sum = block_on(async {
        let mut sum = 0;
        while let Ok(n) = receiver.recv().await {
            sum += n;
        }
        sum
    });
    assert_eq!(sum, SUM);
}

#[test]
fn async_channel_between_tasks_and_into_a_batch() {
    let (sender, receiver) = async_channel::bounded(2);
    let sum = block_on(async {
        let producer = try_spawn(async move {
            for n in 0..N {
                sender.send(n).await.unwrap();
            }
        });
        let sum = Cell::new(0);
        let workers = batch(0..8).limit(8).for_each(|_| {
            let (receiver, sum) = (receiver.clone(), &sum);
            async move {
                while let Ok(n) = receiver.recv().await {
                    sum.set(sum.get() + n);
                }
            }
        });
        workers.await.unwrap();
        producer.unwrap().await.unwrap();
        sum.get()
    });
    assert_eq!(sum, SUM);
}

#[test]
fn flume_both_ways() {
    let (to_us, from_thread) = flume::bounded(1);
    let (to_thread, from_us) = flume::bounded::<u64>(1);
    std::thread::spawn(move || {
        for n in from_us.iter() {
            to_us.send(n * 2).unwrap();
        }
    });
    block_on(async {
        for n in 0..N {
            to_thread.send_async(n).await.unwrap();
            assert_eq!(from_thread.recv_async().await.unwrap(), n * 2);
        }
    });
}

#[test]
fn async_lock_mutex_and_semaphore() {
    let mut runtime = Runtime::builder().slots(32).build().unwrap();
    runtime.block_on(async {
        let mutex = Arc::new(async_lock::Mutex::new(0));
        let semaphore = Arc::new(async_lock::Semaphore::new(2));
        let inside = Rc::new(Cell::new(0));
        let tasks: Vec<_> = (0..30)
            .map(|_| {
                let (mutex, semaphore) = (mutex.clone(), semaphore.clone());
                let inside = inside.clone();
                try_spawn(async move {
                    for _ in 0..10 {
                        let _permit = semaphore.acquire().await;
                        inside.set(inside.get() + 1);
                        assert!(inside.get() <= 2);
                        let mut count = mutex.lock().await;
                        yield_now().await;
                        *count += 1;
                        inside.set(inside.get() - 1);
                    }
                })
                .unwrap()
            })
            .collect();
        for task in tasks {
            task.await.unwrap();
        }
        assert_eq!(*mutex.lock().await, 300);
    });
}

#[test]
fn async_lock_contended_by_a_thread() {
    let mutex = Arc::new(async_lock::Mutex::new(0));
    let shared = mutex.clone();
    let thread = std::thread::spawn(move || (0..N).for_each(|_| *shared.lock_blocking() += 1));
    block_on(async {
        for _ in 0..N {
            *mutex.lock().await += 1;
        }
    });
    thread.join().unwrap();
    assert_eq!(*mutex.lock_blocking(), 2 * N);
}

#[test]
fn event_listener() {
    let event = Arc::new(event_listener::Event::new());
    let ready = Arc::new(std::sync::atomic::AtomicBool::new(false));
    block_on(async {
        let listener = event.listen();
        let (event, flag) = (event.clone(), ready.clone());
        std::thread::spawn(move || {
            flag.store(true, std::sync::atomic::Ordering::Release);
            event.notify(usize::MAX);
        });
        listener.await;
        assert!(ready.load(std::sync::atomic::Ordering::Acquire));
    });
}

#[test]
fn futures_channels_and_combinators() {
    let (mut sender, receiver) = futures::channel::mpsc::channel(4);
    from_a_thread(move |n| {
        futures::executor::block_on(futures::SinkExt::send(&mut sender, n)).unwrap();
    });
    let sum = block_on(receiver.fold(0, |sum, n| async move { sum + n }));
    assert_eq!(sum, SUM);

    let run = futures::stream::iter(0..N).map(|n| async move {
        yield_now().await;
        n
    });
    let sum = block_on(run.buffer_unordered(10).fold(0, |sum, n| async move { sum + n }));
    assert_eq!(sum, SUM);
}

#[test]
fn tokio_sync() {
    let (sender, mut receiver) = tokio::sync::mpsc::channel(2);
    from_a_thread(move |n| sender.blocking_send(n).unwrap());
    let sum = block_on(async {
        let mut sum = 0;
        while let Some(n) = receiver.recv().await {
            sum += n;
        }
        sum
    });
    assert_eq!(sum, SUM);

    block_on(async {
        let notify = Arc::new(tokio::sync::Notify::new());
        let waiting = notify.clone();
        let task = try_spawn(async move { waiting.notified().await }).unwrap();
        yield_now().await;
        std::thread::spawn(move || notify.notify_one());
        task.await.unwrap();

        let (sender, receiver) = tokio::sync::oneshot::channel();
        std::thread::spawn(move || sender.send(5).unwrap());
        assert_eq!(receiver.await, Ok(5));

        let semaphore = Arc::new(tokio::sync::Semaphore::new(1));
        for _ in 0..10 {
            let permit = semaphore.clone().acquire_owned().await.unwrap();
            reserve().await.spawn(async move { drop(permit) }).await.unwrap();
        }
    });
}

#[test]
fn select_inside_an_item_leaves_nothing_behind() {
    let (sender, receiver) = async_channel::unbounded::<u64>();
    let run = batch(0..100).limit(7).map(|n| {
        let (sender, receiver) = (sender.clone(), receiver.clone());
        async move {
            futures::select_biased! {
                got = futures::FutureExt::fuse(async { receiver.recv().await.unwrap() }) => got,
                () = futures::FutureExt::fuse(yield_now()) => {
                    sender.send(n).await.unwrap();
                    receiver.recv().await.unwrap()
                }
            }
        }
    });
    let mut got = block_on(run).unwrap();
    got.sort_unstable();
    assert!(got.into_iter().eq(0..100));
}
