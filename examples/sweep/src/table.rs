//! The table: what each K was good for.

use crate::row::Row;
use crate::verdict;
use std::fmt::Write;

const HEADER: &str = "    K  items/s        (interval)     e  p50 ms  p99 ms  in flight  µs/item   busy  \
                      RSS MiB  errors";

const LEGEND: &str = "\
items/s: the median of the repetitions, and its interval: their extremes, if they are few.
e: elasticity, how many % more items/s each 1 % more of K brought, since the row above.
p50, p99: latency of an item, from admission to completion.
in flight: Little's law, rate times mean latency. K not reached: it is off K by 3 % or more. The
source never runs dry, but a busy thread is slow to fill a slot that has come free.
µs/item: processor time of the thread per item. busy: the share of the time in which it ran.
RSS: memory of the whole process, all that came before included.
";

pub(crate) fn table(rows: &[Row]) -> String {
    let mut text = format!("{HEADER}\n");
    let points: Vec<_> = rows.iter().map(Row::point).collect();
    for (index, (row, point)) in rows.iter().zip(&points).enumerate() {
        let before = index.checked_sub(1).map(|before| &points[before]);
        let busy = row.part(|used| used.ran).map(|part| format!("{:.0} %", part * 100.0));
        let cells = [
            format!("{:5}", point.k),
            format!("{:>8}", rate(point.rate)),
            format!("{:>17}", format!("({} - {})", rate(point.low), rate(point.high))),
            cell(5, 2, before.map(|before| verdict::elasticity(before, point))),
            cell(7, 2, Some(row.latency(0.5))),
            cell(7, 2, Some(row.latency(0.99))),
            cell(10, 2, Some(row.in_flight())),
            cell(8, 1, row.cpu_per_item()),
            format!("{:>6}", busy.unwrap_or("-".into())),
            cell(8, 1, row.resident_kib().map(|kib| kib as f64 / 1024.0)),
            format!("{:7}", row.failed()),
        ];
        let note = match (row.in_flight() / row.k as f64 - 1.0).abs() < 0.03 {
            true => "",
            false => "  K not reached",
        };
        let _ = writeln!(text, "{}{note}", cells.join(" "));
    }
    text + LEGEND
}

/// Four digits are as many as the noise allows.
fn rate(rate: f64) -> String {
    format!("{rate:.*}", if rate < 1000.0 { 1 } else { 0 })
}

/// A number, or a dash for what is not known.
fn cell(width: usize, digits: usize, value: Option<f64>) -> String {
    match value {
        Some(value) if value.is_finite() => format!("{value:width$.digits$}"),
        _ => format!("{:>width$}", "-"),
    }
}
