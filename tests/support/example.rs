//! Where `cargo test` puts the examples that it builds.

use std::path::PathBuf;

pub(crate) fn example(name: &str) -> PathBuf {
    // This test is target/PROFILE/deps/NAME-HASH.
    let test = std::env::current_exe().expect("a test knows where it is");
    let folder = test.parent().and_then(|deps| deps.parent()).expect("it is in a target folder");
    let path = folder.join("examples").join(name).with_extension(std::env::consts::EXE_EXTENSION);
    assert!(path.exists(), "{} is missing: run `cargo build --examples`", path.display());
    path
}
