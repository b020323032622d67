//! The runtimes, each as its documentation advises for one thread.

use embassy_executor::raw::TaskStorage;
use futures::executor::{LocalPool, LocalSpawner};
use futures::stream::FuturesUnordered;
use futures::task::LocalSpawnExt;
use futures::{FutureExt, StreamExt};
use futures_buffered::FuturesUnorderedBounded;
use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

/// A runtime for one thread.
pub(crate) trait Peer: Sized + 'static {
    const NAME: &'static str;

    /// `tasks`: how many there will be at a time, beside the root future.
    fn new(tasks: usize) -> Self;

    fn run<F: Future>(&self, future: F) -> F::Output;

    /// What its documentation advises for a set of futures that polls all the rest in vain once the
    /// budget of its task is spent.
    fn unconstrained<F: Future>(future: F) -> impl Future<Output = F::Output> {
        future
    }

    /// Gives way to others.
    fn yield_now() -> impl Future<Output = ()> + 'static {
        Waits(1)
    }
}

/// A runtime with tasks that nobody joins; they live on between two calls of `run`.
pub(crate) trait Detach: Peer {
    /// Within `run`.
    fn detach(&self, future: impl Future<Output = ()> + 'static);
}

/// A runtime with tasks.
pub(crate) trait Spawn: Detach {
    /// Within `run`.
    fn spawn<F>(&self, future: F) -> impl Future<Output = F::Output>
    where
        F: Future + 'static,
        F::Output: 'static;
}

/// A runtime with timers.
pub(crate) trait Timed: Peer {
    /// Within `run`.
    fn sleep(duration: Duration) -> impl Future<Output = ()> + 'static;
}

/// Wakes itself so many times, then is ready: a wait at no cost of its own.
pub(crate) struct Waits(pub(crate) usize);

impl Future for Waits {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        if self.0 == 0 {
            return Poll::Ready(());
        }
        self.0 -= 1;
        cx.waker().wake_by_ref();
        Poll::Pending
    }
}

pub(crate) struct Gondola(RefCell<gondola::Runtime>);

impl Peer for Gondola {
    const NAME: &'static str = "gondola";

    fn new(tasks: usize) -> Self {
        Self(RefCell::new(gondola::Runtime::builder().slots(tasks.max(1024)).build().unwrap()))
    }

    fn run<F: Future>(&self, future: F) -> F::Output {
        self.0.borrow_mut().block_on(future)
    }

    fn yield_now() -> impl Future<Output = ()> + 'static {
        gondola::yield_now()
    }
}

impl Detach for Gondola {
    fn detach(&self, future: impl Future<Output = ()> + 'static) {
        gondola::try_spawn(future).unwrap().detach();
    }
}

impl Spawn for Gondola {
    fn spawn<F>(&self, future: F) -> impl Future<Output = F::Output>
    where
        F: Future + 'static,
        F::Output: 'static,
    {
        gondola::try_spawn(future).unwrap().map(Result::unwrap)
    }
}

impl Timed for Gondola {
    fn sleep(duration: Duration) -> impl Future<Output = ()> + 'static {
        gondola::time::sleep(duration)
    }
}

fn tokio_builder() -> tokio::runtime::Builder {
    let mut builder = tokio::runtime::Builder::new_current_thread();
    builder.enable_time();
    builder
}

macro_rules! tokio {
    ($(#[$doc:meta])* $Peer:ident($($Part:ty),*), $NAME:literal, $new:expr, |$parts:ident, $future:ident| $run:expr) => {
        $(#[$doc])*
        pub(crate) struct $Peer($($Part),*);

        impl Peer for $Peer {
            const NAME: &'static str = $NAME;

            fn new(_: usize) -> Self {
                $new
            }

            fn run<F: Future>(&self, $future: F) -> F::Output {
                let $parts = self;
                $run
            }

            fn unconstrained<F: Future>(future: F) -> impl Future<Output = F::Output> {
                tokio::task::coop::unconstrained(future)
            }

            fn yield_now() -> impl Future<Output = ()> + 'static {
                tokio::task::yield_now()
            }
        }

        impl Detach for $Peer {
            fn detach(&self, future: impl Future<Output = ()> + 'static) {
                tokio::task::spawn_local(future);
            }
        }

        impl Spawn for $Peer {
            fn spawn<F>(&self, future: F) -> impl Future<Output = F::Output>
            where
                F: Future + 'static,
                F::Output: 'static,
            {
                tokio::task::spawn_local(future).map(Result::unwrap)
            }
        }

        impl Timed for $Peer {
            fn sleep(duration: Duration) -> impl Future<Output = ()> + 'static {
                tokio::time::sleep(duration)
            }
        }
    };
}
tokio!(
    /// The `LocalRuntime`, which came after the `LocalSet`.
    Tokio(tokio::runtime::LocalRuntime),
    "tokio",
    Self(tokio_builder().build_local(Default::default()).unwrap()),
    |parts, future| parts.0.block_on(future)
);
tokio!(
    /// The same with its I/O driver, which costs those who don't need it.
    TokioIo(tokio::runtime::LocalRuntime),
    "tokio+io",
    Self(tokio_builder().enable_io().build_local(Default::default()).unwrap()),
    |parts, future| parts.0.block_on(future)
);
tokio!(
    TokioLocalSet(tokio::task::LocalSet, tokio::runtime::Runtime),
    "tokio LocalSet",
    Self(tokio::task::LocalSet::new(), tokio_builder().build().unwrap()),
    |parts, future| parts.0.block_on(&parts.1, future)
);

pub(crate) struct Smol(smol::LocalExecutor<'static>);

impl Peer for Smol {
    const NAME: &'static str = "smol";

    fn new(_: usize) -> Self {
        Self(smol::LocalExecutor::new())
    }

    fn run<F: Future>(&self, future: F) -> F::Output {
        smol::block_on(self.0.run(future))
    }

    fn yield_now() -> impl Future<Output = ()> + 'static {
        smol::future::yield_now()
    }
}

impl Detach for Smol {
    fn detach(&self, future: impl Future<Output = ()> + 'static) {
        self.0.spawn(future).detach();
    }
}

impl Spawn for Smol {
    fn spawn<F>(&self, future: F) -> impl Future<Output = F::Output>
    where
        F: Future + 'static,
        F::Output: 'static,
    {
        self.0.spawn(future)
    }
}

impl Timed for Smol {
    fn sleep(duration: Duration) -> impl Future<Output = ()> + 'static {
        FutureExt::map(smol::Timer::after(duration), drop)
    }
}

/// futures' `LocalPool`.
pub(crate) struct Pool(RefCell<LocalPool>, LocalSpawner);

impl Peer for Pool {
    const NAME: &'static str = "LocalPool";

    fn new(_: usize) -> Self {
        let pool = LocalPool::new();
        let spawner = pool.spawner();
        Self(RefCell::new(pool), spawner)
    }

    fn run<F: Future>(&self, future: F) -> F::Output {
        self.0.borrow_mut().run_until(future)
    }
}

impl Detach for Pool {
    fn detach(&self, future: impl Future<Output = ()> + 'static) {
        self.1.spawn_local(future).unwrap();
    }
}

impl Spawn for Pool {
    fn spawn<F>(&self, future: F) -> impl Future<Output = F::Output>
    where
        F: Future + 'static,
        F::Output: 'static,
    {
        self.1.spawn_local_with_handle(future).unwrap()
    }
}

/// futures' `block_on`: what combinators need, and no more.
pub(crate) struct BlockOn;

impl Peer for BlockOn {
    const NAME: &'static str = "block_on";

    fn new(_: usize) -> Self {
        Self
    }

    fn run<F: Future>(&self, future: F) -> F::Output {
        futures::executor::block_on(future)
    }
}

#[cfg(target_os = "linux")]
mod linux {
    use super::*;
    use monoio::time::TimeDriver;
    use monoio::{FusionDriver, FusionRuntime, IoUringDriver, LegacyDriver, RuntimeBuilder};

    type Fusion = FusionRuntime<TimeDriver<IoUringDriver>, TimeDriver<LegacyDriver>>;

    macro_rules! monoio {
        ($Peer:ident, $NAME:literal, $Driver:ty, $Runtime:ty) => {
            pub(crate) struct $Peer(RefCell<$Runtime>);

            impl Peer for $Peer {
                const NAME: &'static str = $NAME;

                fn new(_: usize) -> Self {
                    let builder = RuntimeBuilder::<$Driver>::new();
                    Self(RefCell::new(builder.enable_timer().build().unwrap()))
                }

                fn run<F: Future>(&self, future: F) -> F::Output {
                    self.0.borrow_mut().block_on(future)
                }
            }

            impl Detach for $Peer {
                fn detach(&self, future: impl Future<Output = ()> + 'static) {
                    monoio::spawn(future);
                }
            }

            impl Spawn for $Peer {
                fn spawn<F>(&self, future: F) -> impl Future<Output = F::Output>
                where
                    F: Future + 'static,
                    F::Output: 'static,
                {
                    monoio::spawn(future)
                }
            }

            impl Timed for $Peer {
                fn sleep(duration: Duration) -> impl Future<Output = ()> + 'static {
                    monoio::time::sleep(duration)
                }
            }
        };
    }
    monoio!(Monoio, "monoio", FusionDriver, Fusion);
    monoio!(MonoioEpoll, "monoio epoll", LegacyDriver, monoio::Runtime<TimeDriver<LegacyDriver>>);

    pub(crate) struct Compio(compio::runtime::Runtime);

    impl Peer for Compio {
        const NAME: &'static str = "compio";

        fn new(_: usize) -> Self {
            Self(compio::runtime::Runtime::new().unwrap())
        }

        fn run<F: Future>(&self, future: F) -> F::Output {
            self.0.block_on(future)
        }
    }

    impl Detach for Compio {
        fn detach(&self, future: impl Future<Output = ()> + 'static) {
            compio::runtime::spawn(future).detach();
        }
    }

    impl Spawn for Compio {
        fn spawn<F>(&self, future: F) -> impl Future<Output = F::Output>
        where
            F: Future + 'static,
            F::Output: 'static,
        {
            compio::runtime::spawn(future).map(Result::unwrap)
        }
    }

    impl Timed for Compio {
        fn sleep(duration: Duration) -> impl Future<Output = ()> + 'static {
            compio::time::sleep(duration)
        }
    }
}
#[cfg(target_os = "linux")]
pub(crate) use linux::{Compio, Monoio, MonoioEpoll};

/// The limit: no runtime, but a loop that polls everybody until the root is ready. Nobody needs to
/// be woken there, and its sleep blocks.
pub(crate) struct Loop {
    beside: RefCell<Vec<Pin<Box<dyn Future<Output = ()>>>>>,
}

impl Loop {
    /// Polls the detached futures.
    fn turn(&self) {
        let mut cx = Context::from_waker(Waker::noop());
        self.beside.borrow_mut().retain_mut(|future| future.as_mut().poll(&mut cx).is_pending());
    }
}

impl Peer for Loop {
    const NAME: &'static str = "limit";

    fn new(_: usize) -> Self {
        Self { beside: RefCell::default() }
    }

    fn run<F: Future>(&self, future: F) -> F::Output {
        let mut future = pin!(future);
        loop {
            if let Poll::Ready(output) =
                future.as_mut().poll(&mut Context::from_waker(Waker::noop()))
            {
                return output;
            }
            self.turn();
        }
    }
}

impl Detach for Loop {
    fn detach(&self, future: impl Future<Output = ()> + 'static) {
        self.beside.borrow_mut().push(Box::pin(future));
    }
}

impl Timed for Loop {
    async fn sleep(duration: Duration) {
        Waits(2).await; // two turns: who was woken ends, and others begin in their places
        std::thread::sleep(duration);
    }
}

/// Someone who runs a number of futures of one type to their end.
pub(crate) trait Crew: Sized + 'static {
    const NAME: &'static str;

    fn new(tasks: usize) -> Self;

    fn crew<F: Future<Output = ()> + 'static>(&self, tasks: usize, make: impl FnMut() -> F);

    fn give_way() -> impl Future<Output = ()> + 'static {
        Waits(1)
    }
}

impl<P: Spawn> Crew for P {
    const NAME: &'static str = P::NAME;

    fn new(tasks: usize) -> Self {
        <P as Peer>::new(tasks)
    }

    fn crew<F: Future<Output = ()> + 'static>(&self, tasks: usize, mut make: impl FnMut() -> F) {
        self.run(async {
            let handles: Vec<_> = (0..tasks).map(|_| self.spawn(make())).collect();
            for handle in handles {
                handle.await;
            }
        });
    }

    fn give_way() -> impl Future<Output = ()> + 'static {
        P::yield_now()
    }
}

impl Crew for Loop {
    const NAME: &'static str = <Self as Peer>::NAME;

    fn new(tasks: usize) -> Self {
        <Self as Peer>::new(tasks)
    }

    fn crew<F: Future<Output = ()> + 'static>(&self, tasks: usize, mut make: impl FnMut() -> F) {
        let mut crew = pin!(sweep(tasks, tasks as u64, |_| make()));
        while crew.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending() {}
    }
}

/// Keeps `slots` futures going until there were `n`. Each poll of it polls each of them once, and
/// makes the next one in the place of one that is ready. It wakes nobody, so it is polled in a loop.
pub(crate) fn sweep<F: Future<Output = ()>>(
    slots: usize,
    n: u64,
    mut make: impl FnMut(u64) -> F,
) -> impl Future<Output = ()> {
    let mut items = 0..n;
    let mut slots: Box<[Option<F>]> = items.by_ref().take(slots).map(|i| Some(make(i))).collect();
    let mut live = slots.len();
    poll_fn(move |cx| {
        for slot in &mut slots {
            let Some(future) = slot else { continue };
            // SAFETY: a future stays in its slot until it is dropped there.
            if unsafe { Pin::new_unchecked(future) }.poll(cx).is_ready() {
                *slot = None;
                match items.next() {
                    Some(item) => *slot = Some(make(item)),
                    None => live -= 1,
                }
            }
        }
        if live > 0 { Poll::Pending } else { Poll::Ready(()) }
    })
}

/// Sets of futures that their owner polls.
macro_rules! set {
    ($Crew:ident, $NAME:literal, $Set:ident) => {
        pub(crate) struct $Crew;

        impl Crew for $Crew {
            const NAME: &'static str = $NAME;

            fn new(_: usize) -> Self {
                Self
            }

            fn crew<F: Future<Output = ()> + 'static>(
                &self,
                tasks: usize,
                mut make: impl FnMut() -> F,
            ) {
                let set: $Set<F> = (0..tasks).map(|_| make()).collect();
                futures::executor::block_on(set.for_each(|()| async {}));
            }
        }
    };
}
set!(Unordered, "FuturesUnordered", FuturesUnordered);
set!(Buffered, "futures-buffered", FuturesUnorderedBounded);

/// embassy has no join handles, and its executor and tasks are static: what a crew needs is leaked.
pub(crate) struct Embassy;

impl Crew for Embassy {
    const NAME: &'static str = "embassy";

    fn new(_: usize) -> Self {
        Self
    }

    fn crew<F: Future<Output = ()> + 'static>(&self, tasks: usize, mut make: impl FnMut() -> F) {
        let live = Rc::new(Cell::new(tasks));
        let counted = || {
            let (future, live) = (make(), live.clone());
            async move {
                future.await;
                live.set(live.get() - 1);
            }
        };
        let executor = Box::leak(Box::new(embassy_executor::Executor::new()));
        executor.run_until(|spawner| spawn_all(spawner, tasks, counted), || live.get() == 0);
    }
}

fn spawn_all<F: Future<Output = ()> + 'static>(
    spawner: embassy_executor::Spawner,
    tasks: usize,
    mut make: impl FnMut() -> F,
) {
    let storages = (0..tasks).map(|_| TaskStorage::new()).collect::<Vec<_>>();
    for storage in Vec::leak(storages) {
        spawner.spawn(storage.spawn(&mut make).unwrap());
    }
}
