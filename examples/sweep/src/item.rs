//! One item: some requests, one after the other, and some work for the processor.

use crate::http_client::{Connection, Error, Target};
use crate::work::Work;
use gondola::time;
use std::cell::RefCell;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

/// An item that takes longer has failed.
const PATIENCE: Duration = Duration::from_secs(10);

/// What every item does, and the connections that the items pass on to each other.
pub(crate) struct Load {
    target: Target,
    addresses: Vec<SocketAddr>,
    requests: usize,
    work: Work,
    idle: RefCell<Vec<Connection>>,
}

impl Load {
    pub(crate) async fn new(target: Target, requests: usize, cpu: Duration) -> io::Result<Self> {
        let addresses = target.resolve().await?;
        let (work, idle) = (Work::lasting(cpu), RefCell::default());
        Ok(Self { target, addresses, requests, work, idle })
    }

    /// Whether it works at all. One failure proves nothing, three in a row do.
    pub(crate) async fn check(&self) -> io::Result<()> {
        let mut result = self.item().await;
        for _ in 0..2 {
            if result.is_err() {
                result = self.item().await;
            }
        }
        result
    }

    pub(crate) async fn item(&self) -> io::Result<()> {
        let requests = async {
            for _ in 0..self.requests {
                self.get().await?;
            }
            Ok(())
        };
        match time::timeout(PATIENCE, requests).await {
            Ok(Ok(())) => {}
            Ok(Err(Error::Io(error))) => return Err(error),
            Ok(Err(error)) => return Err(io::Error::other(error)),
            Err(_) => {
                let text = format!("an item took more than {} s", PATIENCE.as_secs());
                return Err(io::Error::new(io::ErrorKind::TimedOut, text));
            }
        }
        self.work.perform();
        Ok(())
    }

    async fn get(&self) -> Result<(), Error> {
        let kept = self.idle.borrow_mut().pop();
        if let Some(kept) = kept {
            match self.get_on(kept).await {
                // The server had waited long enough for us. A GET may be repeated.
                Err(error) if is_closed(&error) => {}
                result => return result,
            }
        }
        self.get_on(Connection::connect(&self.addresses).await?).await
    }

    async fn get_on(&self, mut connection: Connection) -> Result<(), Error> {
        let head = connection.get(&self.target).await?;
        while connection.next_chunk().await?.is_some() {}
        if connection.is_reusable() {
            self.idle.borrow_mut().push(connection);
        }
        match head.status.is_success() {
            true => Ok(()),
            false => Err(io::Error::other(format!("the server answers {}", head.status)).into()),
        }
    }
}

fn is_closed(error: &Error) -> bool {
    use io::ErrorKind::{BrokenPipe, ConnectionAborted, ConnectionReset};
    match error {
        Error::Io(error) => {
            matches!(error.kind(), BrokenPipe | ConnectionAborted | ConnectionReset)
        }
        error => matches!(error, Error::Closed),
    }
}
