//! The halves of a Unix stream.
#![forbid(unsafe_code)]

use super::halves::{halves, read_methods, socket_methods, write_methods};
use super::transfer::{self, Reading, ReadingVectored, Writing, WritingVectored};
use crate::reactor::Direction;
use std::future::Future;
use std::io::{self, IoSlice, IoSliceMut};
use std::net::Shutdown;
use std::os::unix::net::SocketAddr;
use std::task::{Context, Poll};

halves!("UnixStream", mio::net::UnixStream, SocketAddr, unix_connected);
