//! A picture for the terminal: a bar for each limit.

use crate::verdict::Point;
use std::fmt::Write;

/// In cells. With all else a line has less than 80.
const WIDTH: f64 = 40.0;

pub(crate) fn chart(points: &[Point], chosen: usize, waits: Option<usize>) -> String {
    let best = points.iter().map(|point| point.rate).fold(f64::MIN_POSITIVE, f64::max);
    let mut text = String::from("items/s, with so many in flight (K):\n");
    for (at, Point { k, rate, .. }) in points.iter().enumerate() {
        let halves = (2.0 * WIDTH * rate / best).round() as usize;
        let bar = "█".repeat(halves / 2) + if halves % 2 == 1 { "▌" } else { "" };
        let mark = match at == chosen {
            true => "  ◀ use this",
            false if waits.is_some_and(|waits| *k == waits + 1) => "  waits + 1",
            false => "",
        };
        let _ = writeln!(text, "{k:5} {bar} {rate:.0}{mark}");
    }
    text
}
