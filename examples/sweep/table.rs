//! The table: what each K was good for.

use crate::row::Row;
use crate::verdict;
use std::fmt::Write;

const HEADER: &str = "    K   items/s            (min - max)      e   p50 ms   p99 ms  in flight  \
                      µs/item  busy  RSS MiB  errors";

const LEGEND: &str = "\
e: elasticity, how many % more items/s each 1 % more of K brought, since the row above.
p50, p99: latency of an item, from admission to completion. in flight: rate times mean latency.
µs/item: processor time of the thread per item. busy: the share of the time in which it ran.
RSS: memory of the whole process, all that came before included.
";

pub(crate) fn table(rows: &[Row]) -> String {
    let mut text = format!("{HEADER}\n");
    let points: Vec<_> = rows.iter().map(Row::point).collect();
    for (index, (row, point)) in rows.iter().zip(&points).enumerate() {
        let before = index.checked_sub(1).map(|before| &points[before]);
        let cells = [
            format!("{:5}", point.k),
            format!("{:9.1}", point.rate),
            format!("{:>22}", format!("({:.1} - {:.1})", point.slowest, point.fastest)),
            cell(6, 2, before.map(|before| verdict::elasticity(before, point))),
            cell(8, 2, Some(row.latency(0.5))),
            cell(8, 2, Some(row.latency(0.99))),
            format!("{:10.2}", row.in_flight()),
            cell(8, 1, row.cpu_per_item()),
            cell(4, 0, row.part(|used| used.ran).map(|part| part * 100.0)) + "%",
            cell(8, 1, row.resident_kib().map(|kib| kib as f64 / 1024.0)),
            format!("{:7}", row.failed()),
        ];
        let note = match (row.in_flight() / row.k as f64 - 1.0).abs() < 0.03 {
            true => "",
            false => "  source-limited, or K not reached",
        };
        let _ = writeln!(text, "{}{note}", cells.join(" "));
    }
    text + LEGEND
}

/// A number, or a dash for what is not known.
fn cell(width: usize, digits: usize, value: Option<f64>) -> String {
    match value {
        Some(value) if value.is_finite() => format!("{value:width$.digits$}"),
        _ => format!("{:>width$}", "-"),
    }
}
