//! What must hold of the types, checked at compile time.

use gondola::time::{Interval, Sleep, Timeout, timeout};
use gondola::{
    BatchError, CancellationToken, Cancelled, DropGuard, JoinError, JoinHandle, Reserve,
    RunUntilCancelled, Runtime, Slot, SlotsOutOfRange, TrySpawnError, batch, net,
};
use std::future::Ready;
use std::marker::PhantomData;

/// `Is<T>::SEND` is the inherent constant if `T: Send`, else that of the blanket trait.
struct Is<T: ?Sized>(PhantomData<T>);
trait Not {
    const SEND: bool = false;
    const SYNC: bool = false;
    const UNPIN: bool = false;
}
impl<T: ?Sized> Not for Is<T> {}
impl<T: ?Sized + Send> Is<T> {
    const SEND: bool = true;
}
impl<T: ?Sized + Sync> Is<T> {
    const SYNC: bool = true;
}
impl<T: ?Sized + Unpin> Is<T> {
    const UNPIN: bool = true;
}

macro_rules! stays_on_its_thread {
    ($($T:ty),* $(,)?) => { $(const _: () = assert!(!Is::<$T>::SEND && !Is::<$T>::SYNC);)* };
}
macro_rules! goes_anywhere {
    ($($T:ty),* $(,)?) => { $(const _: () = assert!(Is::<$T>::SEND && Is::<$T>::SYNC);)* };
}
macro_rules! unpin {
    ($($T:ty),* $(,)?) => { $(const _: () = assert!(Is::<$T>::UNPIN);)* };
}

type Items = std::ops::Range<u8>;
type ForEach = gondola::batch::Run<Items, fn(u8) -> Ready<()>, Ready<()>, gondola::batch::ForEach>;

stays_on_its_thread!(
    Runtime,
    JoinHandle<()>,
    Reserve,
    Slot,
    Sleep,
    Interval,
    Timeout<Ready<()>>,
    net::TcpListener,
    net::TcpStream,
    net::OwnedReadHalf,
    net::OwnedWriteHalf,
    net::ReadHalf<'static>,
    net::WriteHalf<'static>,
    ForEach,
);
goes_anywhere!(
    std::task::Waker,
    CancellationToken,
    Cancelled<'static>,
    RunUntilCancelled<'static, Ready<()>>,
    DropGuard,
    JoinError,
    SlotsOutOfRange,
    TrySpawnError<Ready<()>>,
    BatchError<Items, std::io::Error>,
);
unpin!(JoinHandle<std::marker::PhantomPinned>, Sleep, Reserve, Cancelled<'static>, ForEach);

const _: () = assert!(!Is::<Timeout<std::marker::PhantomPinned>>::UNPIN);
const _: () = assert!(size_of::<Sleep>() <= 48);
const _: () = assert!(size_of::<JoinHandle<[u8; 99]>>() <= 24);

#[test]
fn no_combinator_doubles_its_future() {
    fn overhead<F: Future, G>(future: F, wrap: impl FnOnce(F) -> G) -> usize {
        let before = size_of_val(&future);
        size_of_val(&wrap(future)) - before
    }
    let big = || async {
        let big = [0_u8; 4_000];
        gondola::yield_now().await;
        big[0]
    };
    let token = CancellationToken::new();
    assert!(overhead(big(), |f| timeout(std::time::Duration::ZERO, f)) <= 48);
    assert!(overhead(big(), |f| token.run_until_cancelled(f)) <= 48);
    // A run holds its futures elsewhere.
    assert!(size_of_val(&batch(0..9).limit(3).map(|_| big())) <= 400);
}
