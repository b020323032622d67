//! The verdict in plain words.

use crate::experiment::{Control, Findings};
use crate::fits::{Curve, Fit, fits};
use crate::row::Row;
use crate::table::table;
use crate::verdict::{self, Point, Why};
use crate::{Known, Sweep, chart};
use std::fmt::{self, Write};

/// More change than this between the first and the last measurement voids the verdict.
const DRIFT: f64 = 0.1;
/// So much waiting for a processor makes a rate a matter of luck.
const HINDERED: f64 = 0.1;

/// What came of the experiment. To be shown.
#[derive(Debug)]
pub struct Report {
    pub(crate) findings: Findings,
    pub(crate) sweep: Sweep,
}

impl Report {
    /// The limit to use.
    #[must_use]
    pub fn knee(&self) -> usize {
        self.points()[self.chosen()].k
    }

    /// What was measured, by limit.
    #[must_use]
    pub fn points(&self) -> Vec<Point> {
        self.findings.points()
    }

    pub(crate) fn chosen(&self) -> usize {
        verdict::choose(&self.points(), self.sweep.beta)
    }

    fn why(&self) -> Why {
        let Self { sweep, .. } = self;
        verdict::why(&self.points(), self.chosen(), sweep.beta, server_limit(sweep))
    }

    /// What to do, and why, for who reads no further.
    #[must_use]
    pub fn verdict(&self) -> String {
        let why = match self.why() {
            Why::ThreadFull(..) => "More brings nothing: this thread is full.",
            Why::ServerFull(..) => "More brings nothing: the server is full.",
            Why::GetsWorse => "More makes it worse.",
            Why::Failures(_) => "With more, items fail.",
            Why::NoKnee => "Perhaps even more: the highest that was tried was the best.",
            Why::Unclear(_) => "More may bring something; this experiment cannot tell.",
            Why::Elsewhere(_) => {
                "More brings hardly anything: the server, or the way to it, is full."
            }
        };
        format!("Use K = {}. {why}", self.knee())
    }
}

/// The verdict, a picture, the reasons, the table.
impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { findings, sweep } = self;
        let (points, chosen) = (self.points(), self.chosen());
        let parts = [
            self.verdict() + "\n",
            doubts(&findings.control, &findings.rows[chosen]),
            "\n".into(),
            chart::chart(&points, chosen, sweep.waits),
            "\n".into(),
            recommendation(&points, chosen, sweep.beta),
            reason(self.why()),
            prediction(&points, &findings.rows[chosen], sweep),
            curve(&points),
            sweep.waits.map_or(String::new(), |waits| folklore(&points, waits + 1)),
            memory(&findings.rows[chosen]),
            errors(&findings.rows),
            "\n".into(),
            table(&findings.rows),
        ];
        parts.iter().try_for_each(|part| f.write_str(part))
    }
}

fn recommendation(points: &[Point], chosen: usize, beta: f64) -> String {
    let Point { k, rate, .. } = points[chosen];
    let mut text = format!(
        "With K = {k}: {rate:.1} items/s.\n\
         The rule: the smallest K from which no larger one is worth it. One is worth it if 1 % more\n\
         K brings at least {beta} % more items/s (--beta), and the measurements do not overlap.\n"
    );
    if let Some(next) = points.get(chosen + 1) {
        let brings = verdict::elasticity(&points[chosen], next);
        let _ = writeln!(text, "From {k} to {}, 1 % more K brings {brings:.2} %.", next.k);
    }
    text
}

fn reason(why: Why) -> String {
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

/// The items/s that the server can do at best.
fn server_limit(sweep: &Sweep) -> Option<f64> {
    let Known { waits, places, .. } = sweep.known?;
    Some(places as f64 / waits.as_secs_f64())
}

/// What theory says, where all that it asks for is known.
fn prediction(points: &[Point], row: &Row, sweep: &Sweep) -> String {
    let Some(Known { waits, places, cpu }) = sweep.known else { return String::new() };
    let (cpu, source) = match row.cpu_per_item() {
        Some(micros) => (micros / 1e6, "measured"),
        None => (cpu.as_secs_f64(), "as was said"),
    };
    let predicted = verdict::predicted_knee(cpu, waits.as_secs_f64(), places as f64);
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

/// What the better of the two curves says.
fn curve(points: &[Point]) -> String {
    let Fit { curve, error } = fits(points)[0];
    let percent = error * 100.0;
    match curve {
        Curve::TwoLines { alone, full } => format!(
            "The curve: each item in flight brings {:.1} items/s, up to {full:.0}; {percent:.0} % off.\n",
            1.0 / alone
        ),
        // Where it turns is believed only if it fits well.
        Curve::Usl { sigma, kappa, .. } if error < 0.05 && kappa > 0.0 => format!(
            "The curve: the Universal Scalability Law, {percent:.0} % off; it turns down above K = {:.0}.\n",
            ((1.0 - sigma).max(0.0) / kappa).sqrt()
        ),
        Curve::Usl { .. } => {
            format!(
                "The curve: the Universal Scalability Law, {percent:.0} % off; it sees no turn.\n"
            )
        }
    }
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
