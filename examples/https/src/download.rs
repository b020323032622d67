//! A URL into a file, from where the file ends.

use crate::{Client, Error};
use hyper::StatusCode;
use hyper::header::CONTENT_RANGE;
use std::fs::OpenOptions;
use std::io::{Seek, SeekFrom, Write};
use std::path::Path;
use url::Url;

/// Downloads into `path`, and returns the bytes that came. What is there already is taken for the
/// beginning. (Writing to a file blocks, here for a piece of a few kB at a time.)
pub async fn download(client: &Client, url: Url, path: &Path) -> Result<u64, Error> {
    let file = OpenOptions::new().create(true).append(true).open(path);
    let mut file = file.map_err(Error::File)?;
    let from = file.seek(SeekFrom::End(0)).map_err(Error::File)?;
    let mut answer = client.get(url, from).await?;
    let headers = answer.response.headers();
    match answer.response.status() {
        StatusCode::OK => file.set_len(0).map_err(Error::File)?,
        StatusCode::PARTIAL_CONTENT => {
            let range = headers.get(CONTENT_RANGE).and_then(|range| range.to_str().ok());
            if !range.is_some_and(|range| range.starts_with(&format!("bytes {from}-"))) {
                return Err(Error::Range);
            }
        }
        // Nothing is left to come.
        StatusCode::RANGE_NOT_SATISFIABLE
            if headers
                .get(CONTENT_RANGE)
                .is_some_and(|range| range == &*format!("bytes */{from}")) =>
        {
            return Ok(0);
        }
        status => return Err(Error::Status(status)),
    }
    let mut came = 0;
    while let Some(piece) = answer.chunk().await? {
        file.write_all(&piece).map_err(Error::File)?;
        came += piece.len() as u64;
    }
    Ok(came)
}
