//! The feature `anyhow`: what `?` makes of a record in a function that returns `anyhow::Result`.
#![forbid(unsafe_code)]

use super::error::BatchError;

/// The error of the first item that failed, if any did, below what is told of the batch.
///
/// ```
/// use gondola::{batch, block_on};
///
/// fn run(texts: &[&str]) -> anyhow::Result<Vec<u8>> {
///     let numbers = batch(texts).limit(2).try_map(async |text| text.parse::<u8>());
///     Ok(block_on(numbers)?)
/// }
/// assert_eq!(
///     format!("{:#}", run(&["1", "x"]).unwrap_err()),
///     "item 1 failed (1 completed, 1 failed, 0 cut off in flight): invalid digit found in string",
/// );
/// ```
#[cfg_attr(docsrs, doc(cfg(feature = "anyhow")))]
impl<I, E: Into<anyhow::Error>, P> From<Box<BatchError<I, E, P>>> for anyhow::Error {
    fn from(record: Box<BatchError<I, E, P>>) -> Self {
        let told = record.tell();
        match record.into_error() {
            Some(error) => error.into().context(told),
            None => anyhow::Error::msg(told),
        }
    }
}
