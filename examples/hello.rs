//! Four sleepers, two beds: `cargo run --example hello`

use gondola::{batch, block_on, time};
use std::time::Duration;

fn main() {
    let slept = block_on(batch([400, 100, 200, 50]).limit(2).map(|millis| async move {
        time::sleep(Duration::from_millis(millis)).await;
        println!("slept {millis} ms");
        millis
    }));
    println!("in the order of the items: {:?}", slept.expect("nobody cancels a nap"));
}
