//! Calls that may have to wait for something of which the system tells nobody.
#![forbid(unsafe_code)]

use crate::budget::{LONGEST_RETRY_PAUSE, RETRY_PAUSE};
use crate::coop::consume_budget;
use crate::time::sleep;
use std::io;

/// Calls until it says something other than `WouldBlock`, with pauses that grow.
pub(super) async fn retry<T>(mut call: impl FnMut() -> io::Result<T>) -> io::Result<T> {
    let mut pause = RETRY_PAUSE;
    loop {
        consume_budget().await;
        match call() {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                sleep(pause).await;
                pause = LONGEST_RETRY_PAUSE.min(2 * pause);
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            result => return result,
        }
    }
}
