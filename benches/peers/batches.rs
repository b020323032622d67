//! The bounded batch, and the ways to have one elsewhere.

use crate::harness::{Done, Row, Tally, leak};
use crate::runtimes::*;
use futures::stream::FuturesUnordered;
use futures::{StreamExt, stream};
use futures_buffered::{BufferedStreamExt, FuturesUnorderedBounded};
use std::cell::Cell;
use std::marker::PhantomData;
use std::pin::Pin;
use std::task::{Context, Poll};

/// A way to run a future for each of `0..n`, at most `limit` at a time.
pub(crate) trait Batch: 'static {
    /// What it runs on.
    type On;

    fn name() -> String;

    fn new(limit: usize) -> Self;

    fn on(&self) -> &Self::On;

    fn batch<F, Fut>(&self, n: u64, limit: usize, f: F)
    where
        F: Fn(u64) -> Fut + Clone + 'static,
        Fut: Future<Output = ()> + 'static;
}

/// Calls `$add` with the row for all ways that work on a runtime with timers and tasks.
macro_rules! on_runtimes {
    ($row:expr, $add:ident $(, $argument:expr)*) => {{
        use crate::batches::*;
        let row = $row;
        let row = $add::<Over<Gondola, Ours>>(row $(, $argument)*);
        let row = $add::<Workers<Tokio>>(row $(, $argument)*);
        let row = $add::<Workers<TokioLocalSet>>(row $(, $argument)*);
        let row = $add::<Workers<Smol>>(row $(, $argument)*);
        let row = $add::<Over<Tokio, JoinSet>>(row $(, $argument)*);
        let row = $add::<Over<Tokio, ForEachConcurrent>>(row $(, $argument)*);
        let row = $add::<Over<Tokio, BufferUnordered>>(row $(, $argument)*);
        let row = $add::<Over<Tokio, UnorderedByHand>>(row $(, $argument)*);
        let row = $add::<Over<Tokio, ForEachBuffered>>(row $(, $argument)*);
        #[cfg(target_os = "linux")]
        let row = $add::<Workers<Monoio>>(row $(, $argument)*);
        #[cfg(target_os = "linux")]
        let row = $add::<Workers<Compio>>(row $(, $argument)*);
        row
    }};
}
pub(crate) use on_runtimes;

/// The same for all ways that need no more than to be polled.
macro_rules! everywhere {
    ($row:expr, $add:ident $(, $argument:expr)*) => {{
        use crate::batches::*;
        let row = $row;
        let row = $add::<ByHand>(row $(, $argument)*);
        let row = $add::<Over<Gondola, Ours>>(row $(, $argument)*);
        let row = $add::<Workers<Gondola>>(row $(, $argument)*);
        let row = $add::<Workers<Tokio>>(row $(, $argument)*);
        let row = $add::<Workers<TokioLocalSet>>(row $(, $argument)*);
        let row = $add::<Workers<Smol>>(row $(, $argument)*);
        let row = $add::<Workers<Embassy>>(row $(, $argument)*);
        let row = $add::<Over<Tokio, JoinSet>>(row $(, $argument)*);
        let row = $add::<Over<BlockOn, ForEachConcurrent>>(row $(, $argument)*);
        let row = $add::<Over<BlockOn, BufferUnordered>>(row $(, $argument)*);
        let row = $add::<Over<BlockOn, UnorderedByHand>>(row $(, $argument)*);
        let row = $add::<Over<BlockOn, ForEachBuffered>>(row $(, $argument)*);
        let row = $add::<Over<BlockOn, BufferedByHand>>(row $(, $argument)*);
        #[cfg(target_os = "linux")]
        let row = $add::<Workers<Monoio>>(row $(, $argument)*);
        #[cfg(target_os = "linux")]
        let row = $add::<Workers<Compio>>(row $(, $argument)*);
        row
    }};
}
pub(crate) use everywhere;

pub(crate) fn rows() -> Vec<Row> {
    let row = |name| Row::new(name, "ns/item", 512_000, 1);
    let cases =
        [(1, 0), (8, 0), (64, 0), (1, 1), (8, 1), (64, 1), (1024, 1), (8, 2), (64, 2), (1024, 2)];
    let mut rows = Vec::from(cases.map(|(limit, waits)| {
        everywhere!(row(format!("batch-{limit}-{waits}")), waiting, limit, waits)
    }));
    rows.push(everywhere!(row("batch-64-1-256B".into()), big));
    rows.extend([nest(1, 4), nest(8, 16)]);
    rows
}

fn waiting<B: Batch>(row: Row, limit: usize, waits: usize) -> Row {
    batches::<B, _>(row, limit, move |item, tally| async move {
        Waits(waits).await;
        tally.add(item);
    })
}

fn big<B: Batch>(row: Row) -> Row {
    batches::<B, _>(row, 64, |item, tally| Big { item, tally, waits: 1, pad: [0; 29] })
}

/// A batch whose items are batches of `inner` items, all with the same limit. An inner item waits
/// once. There are no workers here: an item would have to spawn and join them, as JoinSet does.
fn nest(limit: usize, inner: u64) -> Row {
    let row = Row::new(format!("nest-{limit}-{limit}"), "ns/inner item", 512_000, inner);
    let row = nests::<Loop, Swept>(row, limit, inner);
    let row = nests::<Gondola, Ours>(row, limit, inner);
    let row = nests::<Tokio, JoinSet>(row, limit, inner);
    let row = nests::<BlockOn, ForEachConcurrent>(row, limit, inner);
    let row = nests::<BlockOn, BufferUnordered>(row, limit, inner);
    let row = nests::<BlockOn, UnorderedByHand>(row, limit, inner);
    let row = nests::<BlockOn, ForEachBuffered>(row, limit, inner);
    nests::<BlockOn, BufferedByHand>(row, limit, inner)
}

fn nests<P: Peer, S: Style>(row: Row, limit: usize, inner: u64) -> Row {
    row.entry(Over::<P, S>::name(), move |n| {
        let (batch, tally) = (Over::<P, S>::new(limit), Tally::leaked());
        move || {
            batch.batch(n / inner, limit, move |outer| {
                S::drive(inner, limit, move |item| async move {
                    Waits(1).await;
                    tally.add(outer * inner + item);
                })
            });
            Done::sum(tally.take())
        }
    })
}

/// The work of a row: `f`'s future for each item.
fn batches<B: Batch, Fut: Future<Output = ()> + 'static>(
    row: Row,
    limit: usize,
    f: impl Fn(u64, &'static Tally) -> Fut + Copy + 'static,
) -> Row {
    row.entry(B::name(), move |n| {
        let (batch, tally) = (B::new(limit), Tally::leaked());
        move || {
            batch.batch(n, limit, move |item| f(item, tally));
            Done::sum(tally.take())
        }
    })
}

/// A future of 256 bytes.
struct Big {
    item: u64,
    tally: &'static Tally,
    waits: u64,
    pad: [u64; 29],
}
const _: () = assert!(size_of::<Big>() == 256);

impl Future for Big {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        if self.waits > 0 {
            self.waits -= 1;
            self.pad[0] += 1;
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        self.tally.add(self.item);
        Poll::Ready(())
    }
}

/// The best that can be written by hand with tasks: K of them pull from one shared iterator.
pub(crate) struct Workers<C>(C);

impl<C: Crew> Batch for Workers<C> {
    type On = C;

    fn name() -> String {
        format!("{} workers", C::NAME)
    }

    fn new(limit: usize) -> Self {
        Self(C::new(limit + 1))
    }

    fn on(&self) -> &C {
        &self.0
    }

    fn batch<F, Fut>(&self, n: u64, limit: usize, f: F)
    where
        F: Fn(u64) -> Fut + Clone + 'static,
        Fut: Future<Output = ()> + 'static,
    {
        let next = leak(Cell::new(0));
        self.0.crew(limit, || {
            let f = f.clone();
            async move {
                while next.get() < n {
                    f(next.replace(next.get() + 1)).await;
                }
            }
        });
    }
}

/// A future that runs a batch.
pub(crate) trait Style: 'static {
    const NAME: &'static str;

    async fn drive<Fut: Future<Output = ()> + 'static>(
        n: u64,
        limit: usize,
        f: impl Fn(u64) -> Fut,
    );
}

/// A batch that is the root future of some runtime.
pub(crate) struct Over<P, S>(P, PhantomData<S>);

impl<P: Peer, S: Style> Batch for Over<P, S> {
    type On = P;

    fn name() -> String {
        match P::NAME {
            "limit" | "block_on" | "gondola" => S::NAME.into(),
            runtime => format!("{} on {runtime}", S::NAME),
        }
    }

    fn new(_: usize) -> Self {
        Self(P::new(1), PhantomData)
    }

    fn on(&self) -> &P {
        &self.0
    }

    fn batch<F, Fut>(&self, n: u64, limit: usize, f: F)
    where
        F: Fn(u64) -> Fut + Clone + 'static,
        Fut: Future<Output = ()> + 'static,
    {
        self.0.run(P::unconstrained(S::drive(n, limit, f)));
    }
}

/// The limit: a loop over K slots.
pub(crate) type ByHand = Over<Loop, Swept>;

/// See [`sweep`].
pub(crate) struct Swept;

impl Style for Swept {
    const NAME: &'static str = "limit";

    fn drive<Fut: Future<Output = ()>>(
        n: u64,
        limit: usize,
        f: impl Fn(u64) -> Fut,
    ) -> impl Future<Output = ()> {
        sweep(limit, n, f)
    }
}

pub(crate) struct Ours;

impl Style for Ours {
    const NAME: &'static str = "gondola";

    async fn drive<Fut: Future<Output = ()>>(n: u64, limit: usize, f: impl Fn(u64) -> Fut) {
        gondola::batch(0..n).limit(limit).for_each(f).await.unwrap();
    }
}

pub(crate) struct ForEachConcurrent;

impl Style for ForEachConcurrent {
    const NAME: &'static str = "for_each_concurrent";

    async fn drive<Fut: Future<Output = ()>>(n: u64, limit: usize, f: impl Fn(u64) -> Fut) {
        StreamExt::for_each_concurrent(stream::iter(0..n), limit, f).await;
    }
}

pub(crate) struct BufferUnordered;

impl Style for BufferUnordered {
    const NAME: &'static str = "buffer_unordered";

    async fn drive<Fut: Future<Output = ()>>(n: u64, limit: usize, f: impl Fn(u64) -> Fut) {
        stream::iter((0..n).map(f)).buffer_unordered(limit).for_each(async |()| {}).await;
    }
}

/// futures-buffered's adapter.
pub(crate) struct ForEachBuffered;

impl Style for ForEachBuffered {
    const NAME: &'static str = "futures-buffered";

    async fn drive<Fut: Future<Output = ()>>(n: u64, limit: usize, f: impl Fn(u64) -> Fut) {
        BufferedStreamExt::for_each_concurrent(stream::iter(0..n), limit, f).await;
    }
}

/// A set that is filled up again whenever one is done.
pub(crate) struct UnorderedByHand;

impl Style for UnorderedByHand {
    const NAME: &'static str = "FuturesUnordered";

    async fn drive<Fut: Future<Output = ()>>(n: u64, limit: usize, f: impl Fn(u64) -> Fut) {
        let mut items = (0..n).map(f);
        let mut set: FuturesUnordered<Fut> = items.by_ref().take(limit).collect();
        while let Some(()) = set.next().await {
            set.extend(items.next());
        }
    }
}

/// The same, of futures-buffered: the loop in its README.
pub(crate) struct BufferedByHand;

impl Style for BufferedByHand {
    const NAME: &'static str = "FuturesUnorderedBounded";

    async fn drive<Fut: Future<Output = ()>>(n: u64, limit: usize, f: impl Fn(u64) -> Fut) {
        let mut items = (0..n).map(f);
        let mut set = FuturesUnorderedBounded::new(limit);
        items.by_ref().take(limit).for_each(|future| set.push(future));
        while let Some(()) = set.next().await {
            items.next().into_iter().for_each(|future| set.push(future));
        }
    }
}

/// tokio's, within a runtime for local tasks.
pub(crate) struct JoinSet;

impl Style for JoinSet {
    const NAME: &'static str = "JoinSet";

    async fn drive<Fut: Future<Output = ()> + 'static>(
        n: u64,
        limit: usize,
        f: impl Fn(u64) -> Fut,
    ) {
        let mut items = (0..n).map(f);
        let mut set = tokio::task::JoinSet::new();
        items.by_ref().take(limit).for_each(|future| drop(set.spawn_local(future)));
        while let Some(done) = set.join_next().await {
            done.unwrap();
            items.next().into_iter().for_each(|future| drop(set.spawn_local(future)));
        }
    }
}
