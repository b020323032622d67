//! The verdict in plain words.

use crate::cli::{Options, Peer};
use crate::experiment::{Control, Findings};
use crate::row::Row;
use crate::verdict::{self, Point, Why};
use std::fmt::Write;
use std::time::Duration;

/// More change than this between the first and the last measurement voids the verdict.
const DRIFT: f64 = 0.1;
/// So much waiting for a processor makes a rate a matter of luck.
const HINDERED: f64 = 0.1;

/// What was asked for.
pub(crate) fn intro(options: &Options) -> String {
    let peer = match &options.peer {
        Peer::Url(url) => url.clone(),
        Peer::Own { delay, places, slows } => {
            let slows = match slows {
                0.0 => String::new(),
                slows => format!(", slower by {:.0} % per request that queues", slows * 100.0),
            };
            format!(
                "its own, L = {} ms per request, S = {places} places{slows}",
                delay.as_secs_f64() * 1e3
            )
        }
    };
    format!(
        "An item: W = {} requests, one after the other, then {} µs of work.\nThe server: {peer}.\n",
        options.requests,
        options.cpu.as_secs_f64() * 1e6
    )
}

/// What came of it.
pub(crate) fn report(findings: &Findings, options: &Options) -> String {
    let points = findings.points();
    let chosen = verdict::choose(&points, options.beta);
    let parts = [
        doubts(&findings.control, &findings.rows[chosen]),
        recommendation(&points, chosen, options.beta),
        reason(&points, chosen, options),
        prediction(&points, &findings.rows[chosen], options),
        folklore(&points, options.requests + 1),
        memory(&findings.rows[chosen]),
        errors(&findings.rows),
    ];
    parts.into_iter().filter(|part| !part.is_empty()).collect()
}

fn recommendation(points: &[Point], chosen: usize, beta: f64) -> String {
    let Point { k, rate, .. } = points[chosen];
    let mut text = format!(
        "Use K = {k}: {rate:.1} items/s.\n\
         The rule: the smallest K from which no larger one is worth it. One is worth it if 1 % more\n\
         K brings at least {beta} % more items/s (--beta), and the measurements do not overlap.\n"
    );
    if let Some(next) = points.get(chosen + 1) {
        let brings = verdict::elasticity(&points[chosen], next);
        let _ = writeln!(text, "From {k} to {}, 1 % more K brings {brings:.2} %.", next.k);
    }
    text
}

fn reason(points: &[Point], chosen: usize, options: &Options) -> String {
    let why = verdict::why(points, chosen, options.beta, server_limit(options));
    let words = match why {
        Why::ThreadFull(k, busy) => format!(
            "the thread is full. At K = {k}, it is busy {:.0} % of the time. Less work\n\
             per item would help, or a second thread.",
            busy * 100.0
        ),
        Why::ServerFull(k, used) => format!(
            "the server is full. At K = {k}, it does {:.0} % of S / (W * L), its places\n\
             over the time that an item waits.",
            used * 100.0
        ),
        Why::GetsWorse => "it gets worse: with more in flight, fewer items are done.".into(),
        Why::Failures(failed) => {
            format!("with more in flight, {:.1} % of the items fail.", failed * 100.0)
        }
        Why::NoKnee => "no knee seen, the highest K was the best. Raise the maximum (--k).".into(),
        Why::Unclear(k) => format!(
            "K = {k} may be better, but the measurements overlap, so the smaller K\n\
             wins. More --repetitions or more --seconds-per-point would tell."
        ),
        Why::Elsewhere(true) => {
            "the server, or the way to it, gives hardly more; this thread has time left.".into()
        }
        Why::Elsewhere(false) => "the thread or the server is full. This system does not say how \
                                  busy a thread is."
            .into(),
    };
    format!("Why not more: {words}\n")
}

/// The items/s that the sweep's own server can do at best.
fn server_limit(options: &Options) -> Option<f64> {
    match options.peer {
        Peer::Own { delay, places, .. } => Some(places as f64 / waits(options, delay)),
        Peer::Url(_) => None,
    }
}

/// The time that an item waits, in seconds.
fn waits(options: &Options, delay: Duration) -> f64 {
    options.requests as f64 * delay.as_secs_f64()
}

/// What theory says, where all that it asks for is known.
fn prediction(points: &[Point], row: &Row, options: &Options) -> String {
    let Peer::Own { delay, places, .. } = options.peer else { return String::new() };
    let (cpu, source) = match row.cpu_per_item() {
        Some(micros) => (micros / 1e6, "measured"),
        None => (options.cpu.as_secs_f64(), "from --cpu"),
    };
    let predicted = verdict::predicted_knee(cpu, waits(options, delay), places as f64);
    let mut text = format!(
        "Predicted: K* = min(1 + W*L/c, S*(1 + c/(W*L))) = {predicted:.1}, with c = {:.1} µs of \
         processor\ntime per item ({source}).",
        cpu * 1e6
    );
    if let Some(observed) = verdict::observed_knee(points) {
        let _ = write!(text, " Observed: the best rate is {observed:.1} times that of K = 1.");
    }
    text + "\n"
}

/// How the well-known rule would have done.
fn folklore(points: &[Point], k: usize) -> String {
    let Some(point) = points.iter().find(|point| point.k == k) else { return String::new() };
    format!(
        "\"Waits + 1\", K = {k}, would have done {:.1} items/s: {:.0} % of the best.\n",
        point.rate,
        point.rate / verdict::best_rate(points) * 100.0
    )
}

fn memory(row: &Row) -> String {
    let bytes = row.samples[0].slot_bytes;
    format!(
        "Memory: an item's future has {bytes} bytes, so a batch with K = {} has {} KiB of slots.\n",
        row.k,
        (bytes * row.k).div_ceil(1024)
    )
}

fn errors(rows: &[Row]) -> String {
    let mut text = String::new();
    for row in rows {
        let first = row.samples.iter().find_map(|sample| sample.first_error.as_ref());
        if let Some(error) = first {
            let _ =
                writeln!(text, "Errors at K = {}: {}, the first: {error}.", row.k, row.failed());
        }
    }
    text
}

/// Whether to trust the rest.
fn doubts(control: &Control, chosen: &Row) -> String {
    let Control { k, first, last } = control;
    let drift = control.drift();
    let percent = drift * 100.0;
    let seen = format!(
        "K = {k}, measured first of all and last of all, did {first:.0} and\n{last:.0} items/s \
         ({percent:+.1} %)"
    );
    let mut text = match drift.abs() <= DRIFT {
        true => format!("Nothing drifted: {seen}.\n"),
        false => format!("UNCERTAIN, as something drifted: {seen}.\nRun it again.\n"),
    };
    let failed = chosen.point().failed;
    if failed > verdict::TOO_MANY_FAILURES {
        let percent = failed * 100.0;
        let _ = writeln!(text, "UNCERTAIN, as {percent:.1} % of the items fail in any case.");
    }
    if let Some(waited) = chosen.part(|used| used.waited).filter(|&waited| waited > HINDERED) {
        let (k, percent) = (chosen.k, waited * 100.0);
        let _ = writeln!(
            text,
            "UNCERTAIN, as others were in the way: at K = {k}, the thread waited for a processor\n\
             {percent:.0} % of the time."
        );
    }
    text
}
