//! Tasks that give way to each other.

use crate::harness::{Done, Row, leak};
use crate::runtimes::*;
use std::cell::Cell;

pub(crate) fn rows() -> Vec<Row> {
    let row = |tasks| {
        let row = Row::new(format!("yield-{tasks}"), "ns/yield", 512_000, tasks).counted();
        let row = yields::<Loop>(row, tasks);
        let row = yields::<Gondola>(row, tasks);
        let row = yields::<Tokio>(row, tasks);
        let row = yields::<TokioLocalSet>(row, tasks);
        let row = yields::<Smol>(row, tasks);
        let row = yields::<Pool>(row, tasks);
        let row = yields::<Unordered>(row, tasks);
        let row = yields::<Buffered>(row, tasks);
        let row = yields::<Embassy>(row, tasks);
        #[cfg(target_os = "linux")]
        let row = yields::<Compio>(yields::<Monoio>(row, tasks), tasks);
        row
    };
    vec![row(1), row(64), row(4096)]
}

pub(crate) fn yields<C: Crew>(row: Row, tasks: u64) -> Row {
    row.entry(C::NAME, move |n| {
        let crew = C::new(tasks as usize);
        let each = n / tasks;
        let (count, hasty) = (leak(Cell::new(0)), leak(Cell::new(false)));
        move || {
            crew.crew(tasks as usize, || async move {
                for _ in 0..each {
                    C::give_way().await;
                    count.set(count.get() + 1);
                }
                // About as often as each of the others, in the mean: tokio's order varies.
                if count.get() < tasks * each / 2 {
                    hasty.set(true);
                }
            });
            let but = hasty.get().then_some("not in turn");
            Done { sum: count.take(), but, ..Done::default() }
        }
    })
}
