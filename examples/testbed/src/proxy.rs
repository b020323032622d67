//! A proxy between a client and a server, with delay and faults. It is a gondola program itself, on
//! a thread of its own.

use futures::channel::mpsc;
use futures::future::{Either, FutureExt, select};
use futures::{SinkExt, StreamExt, pin_mut, select_biased};
use gondola::net::{OwnedReadHalf, OwnedWriteHalf, TcpListener, TcpStream};
use gondola::time::{now, sleep_until};
use gondola::{CancellationToken, Runtime, reserve};
use std::future::pending;
use std::io;
use std::net::{Ipv4Addr, Shutdown, SocketAddr};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

/// What happens to a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Each byte takes so long on its way, in either direction. The rate stays as it is.
    Delay(Duration),
    /// It is reset after so many bytes from the server.
    Reset(usize),
    /// It ends after so many bytes from the server.
    End(usize),
    /// Nothing comes after so many bytes from the server.
    Stall(usize),
    /// The answer is no protocol at all.
    Garbage,
}

#[derive(Debug, Default)]
struct Shared {
    fault: Mutex<Option<Fault>>,
    connections: AtomicUsize,
}

/// A proxy. It ends when dropped, with its connections.
#[derive(Debug)]
pub struct Proxy {
    address: SocketAddr,
    shared: Arc<Shared>,
    stop: CancellationToken,
    thread: Option<JoinHandle<()>>,
}

impl Proxy {
    /// Starts a proxy in front of `server`, without a fault.
    pub fn start(server: SocketAddr) -> Self {
        let (shared, stop) = (Arc::<Shared>::default(), CancellationToken::new());
        let (send, receive) = std::sync::mpsc::channel();
        let thread = thread::spawn({
            let (shared, stop) = (shared.clone(), stop.clone());
            move || {
                let mut runtime = Runtime::builder().slots(4_096).build().expect("a runtime");
                runtime.block_on(async {
                    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
                    send.send(listener.local_addr().expect("it is bound")).expect("start waits");
                    let _ = stop.run_until_cancelled(accept(listener, server, &shared)).await;
                });
            }
        });
        let address = receive.recv().expect("the thread has a port");
        Self { address, shared, stop, thread: Some(thread) }
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// What happens to connections that begin from now on.
    pub fn set(&self, fault: Option<Fault>) {
        *self.shared.fault.lock().unwrap() = fault;
    }

    /// How many connections have begun.
    pub fn connections(&self) -> usize {
        self.shared.connections.load(Ordering::SeqCst)
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.stop.cancel();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

async fn accept(listener: TcpListener, server: SocketAddr, shared: &Shared) {
    loop {
        let slot = reserve().await;
        let Ok((client, _)) = listener.accept().await else { continue };
        shared.connections.fetch_add(1, Ordering::SeqCst);
        let fault = *shared.fault.lock().unwrap();
        slot.spawn(async move {
            // A connection that fails is what a proxy is for.
            let _ = pass(client, server, fault).await;
        })
        .detach();
    }
}

async fn pass(mut client: TcpStream, server: SocketAddr, fault: Option<Fault>) -> io::Result<()> {
    client.set_nodelay(true)?;
    if fault == Some(Fault::Garbage) {
        let _ = client.read(&mut [0; 1_024]).await?;
        return client.write_all(&[0xf7; 300]).await;
    }
    let server = TcpStream::connect(server).await?;
    server.set_nodelay(true)?;
    let delay = match fault {
        Some(Fault::Delay(delay)) => delay,
        _ => Duration::ZERO,
    };
    let (client_reads, client_writes) = client.into_split();
    let (server_reads, server_writes) = server.into_split();
    let upwards = carry(client_reads, server_writes, delay, None).fuse();
    let downwards = carry(server_reads, client_writes, delay, fault).fuse();
    pin_mut!(upwards, downwards);
    loop {
        // What the client says may end before what it hears.
        select_biased! {
            ended = downwards => return ended,
            _ = upwards => {}
        }
    }
}

/// Carries bytes until the end of them. Each piece leaves `delay` after it came.
async fn carry(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    delay: Duration,
    fault: Option<Fault>,
) -> io::Result<()> {
    let (mut send, mut receive) = mpsc::channel::<(Instant, Vec<u8>)>(1_024);
    let reads = async move {
        let mut buffer = vec![0; 1 << 14];
        while let Ok(count @ 1..) = from.read(&mut buffer).await {
            if send.send((now() + delay, buffer[..count].to_vec())).await.is_err() {
                break;
            }
        }
        // At the end the sender is dropped; the half stays until the other direction ends too.
        drop(send);
        pending::<()>().await
    };
    let writes = async {
        let mut left = match fault {
            Some(Fault::Reset(bytes) | Fault::End(bytes) | Fault::Stall(bytes)) => bytes,
            _ => usize::MAX,
        };
        while left > 0 {
            let Some((at, piece)) = receive.next().await else { break };
            sleep_until(at).await;
            let some = piece.len().min(left);
            to.write_all(&piece[..some]).await?;
            left -= some;
        }
        match fault {
            Some(Fault::Stall(_)) if left == 0 => pending().await,
            // A close that does not wait for its bytes is a reset.
            Some(Fault::Reset(_)) if left == 0 => {
                socket2::SockRef::from(&to).set_linger(Some(Duration::ZERO))
            }
            _ => to.shutdown(Shutdown::Write),
        }
    };
    pin_mut!(reads, writes);
    match select(writes, reads).await {
        Either::Left((ended, _)) => ended,
        Either::Right(((), _)) => unreachable!("it never ends"),
    }
}
