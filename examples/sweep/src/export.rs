//! The report for other programs.

use crate::report::Report;
use std::fmt::Write;

impl Report {
    /// A line for each limit, under a line of names.
    #[must_use]
    pub fn to_csv(&self) -> String {
        let mut text =
            String::from("k,items_per_second,low,high,p50_ms,p99_ms,busy,failed,chosen\n");
        let chosen = self.chosen();
        for (at, (row, point)) in self.findings.rows.iter().zip(self.points()).enumerate() {
            let busy = point.busy.map_or(String::new(), |busy| format!("{busy:.4}"));
            let (p50, p99) = (row.latency(0.5), row.latency(0.99));
            let crate::verdict::Point { k, rate, low, high, failed, .. } = point;
            let chosen = at == chosen;
            let _ = writeln!(
                text,
                "{k},{rate:.2},{low:.2},{high:.2},{p50:.4},{p99:.4},{busy},{failed:.6},{chosen}"
            );
        }
        text
    }

    /// The same as JSON, with the verdict, and with what was run where.
    #[must_use]
    pub fn to_json(&self) -> String {
        let number =
            |value: Option<f64>| value.map_or("null".into(), |value| format!("{value:.4}"));
        let points: Vec<String> = (self.findings.rows.iter().zip(self.points()))
            .map(|(row, point)| {
                let crate::verdict::Point { k, rate, low, high, busy, failed } = point;
                let (p50, p99) = (row.latency(0.5), row.latency(0.99));
                let busy = number(busy);
                format!(
                    "{{\"k\": {k}, \"items_per_second\": {rate:.2}, \"low\": {low:.2}, \"high\": {high:.2}, \
                     \"p50_ms\": {p50:.4}, \"p99_ms\": {p99:.4}, \"busy\": {busy}, \"failed\": {failed:.6}}}"
                )
            })
            .collect();
        let (os, arch) = (std::env::consts::OS, std::env::consts::ARCH);
        let cores = std::thread::available_parallelism().map_or(0, Into::into);
        format!(
            "{{\"use\": {}, \"drift\": {:.4}, \"machine\": \"{os} {arch}, {cores} cores\", \"points\": [\n  {}\n]}}\n",
            self.knee(),
            self.findings.control.drift(),
            points.join(",\n  ")
        )
    }
}
