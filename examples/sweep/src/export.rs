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
}
