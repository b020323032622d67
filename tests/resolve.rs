//! Names, by the feature `resolve`.

use gondola::resolve::lookup_host;
use gondola::time::timeout;
use gondola::{batch, block_on};
use std::io::{self, ErrorKind};
use std::net::{SocketAddr, ToSocketAddrs};
use std::sync::mpsc;
use std::time::Duration;
use std::vec;

#[test]
fn localhost_has_addresses() {
    block_on(async {
        let mut found = lookup_host(("localhost", 80)).await.unwrap();
        assert!(found.all(|address| address.ip().is_loopback() && address.port() == 80));
        let address = lookup_host("127.0.0.1:53").await.unwrap().next();
        assert_eq!(address, Some(SocketAddr::from(([127, 0, 0, 1], 53))));
    });
}

#[test]
fn what_is_no_name_is_an_error() {
    block_on(async {
        assert!(lookup_host(("no such name", 80)).await.is_err());
        assert!(lookup_host((String::new(), 80)).await.is_err());
        let no_port = lookup_host("localhost").await.map(drop);
        assert_eq!(no_port.unwrap_err().kind(), ErrorKind::InvalidInput);
    });
}

/// A resolver that answers when it is told to.
struct Slow(mpsc::Receiver<()>);

impl ToSocketAddrs for Slow {
    type Iter = vec::IntoIter<SocketAddr>;

    fn to_socket_addrs(&self) -> io::Result<Self::Iter> {
        let _ = self.0.recv();
        Ok(vec![].into_iter())
    }
}

#[test]
fn a_name_that_takes_for_ever_can_be_given_up() {
    block_on(async {
        let (answer, question) = mpsc::channel();
        let patience = Duration::from_millis(20);
        assert!(timeout(patience, lookup_host(Slow(question))).await.is_err());
        // Others are served meanwhile.
        assert!(lookup_host(("localhost", 1)).await.is_ok());
        answer.send(()).unwrap();
    });
}

#[test]
fn many_at_a_time() {
    block_on(async {
        let run = batch(0..200_u16).limit(50).try_map(async |port| {
            lookup_host(("localhost", port)).await.map(|mut found| found.next())
        });
        let found = run.await.unwrap();
        assert!((0..).zip(found).all(|(port, address)| address.unwrap().port() == port));
    });
}
