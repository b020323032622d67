#![doc = include_str!("../../../src/cookbook-crates.md")]
