//! Four sleepers, two beds: `cargo run --example hello`

use gondola::{batch, block_on, time};
use std::io::{self, Write};
use std::time::Duration;

fn main() -> io::Result<()> {
    let slept = block_on(batch([400, 100, 200, 50]).limit(2).try_map(async |millis| {
        time::sleep(Duration::from_millis(millis)).await;
        // Not `println!`, which panics where nothing can be printed.
        writeln!(io::stdout(), "slept {millis} ms").map(|()| millis)
    }))?;
    writeln!(io::stdout(), "in the order of the items: {slept:?}")
}
