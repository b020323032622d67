//! How near the limit that finds itself comes to the one that the experiment found.

use crate::cli::{Options, Peer};
use crate::item::Load;
use crate::sweep;
use gondola::batch::Auto;
use gondola_sweep::Report;
use std::cell::Cell;
use std::error::Error;
use std::io;
use std::iter;
use std::time::{Duration, Instant};

pub(crate) fn check(mut options: Options) -> Result<String, Box<dyn Error>> {
    let peers = match options.peer {
        Peer::Url(_) => vec![options.peer],
        Peer::Own { delay, .. } => {
            let own = |places, slows| Peer::Own { delay, places, slows };
            vec![own(8, 0.0), own(1_000, 0.0), own(8, 0.05)]
        }
    };
    let mut text = String::new();
    for peer in peers {
        options.peer = peer;
        text += &options.intro();
        text += &sweep(&options, async |load, report| compare(load, &report, &options).await)?;
    }
    Ok(text)
}

async fn compare(load: &Load, report: &Report, options: &Options) -> io::Result<String> {
    let k = report.knee();
    let rate = report.points().into_iter().find(|point| point.k == k).expect("it is one").rate;
    let limit = Auto::new(options.sweep.most()).beta(options.beta);
    let first = seek(load, &limit, options.time).await?;
    let begun = limit.get();
    let later = seek(load, &limit.clone().start(begun), 4 * options.time).await?;
    Ok(format!(
        "The experiment: K = {k}, {rate:.0} items/s.\nThe limit that finds itself: in the first {:.1} s K \
         came to {begun}, with {first:.0} items/s\n({:.0} %); then to {}, with {later:.0} items/s ({:.0} %).\n\n",
        options.time.as_secs_f64(),
        100.0 * first / rate,
        limit.get(),
        100.0 * later / rate,
    ))
}

/// Items per second for so long.
async fn seek(load: &Load, limit: &Auto, time: Duration) -> io::Result<f64> {
    let (start, done) = (Instant::now(), Cell::new(0_u32));
    let items = iter::from_fn(|| (start.elapsed() < time).then_some(()));
    let run = gondola::batch(items).limit(limit).try_for_each(async |()| {
        load.item().await?;
        done.set(done.get() + 1);
        Ok::<_, io::Error>(())
    });
    run.await?;
    Ok(f64::from(done.get()) / start.elapsed().as_secs_f64())
}
