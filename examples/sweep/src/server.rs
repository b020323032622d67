//! The sweep's own server: as slow, and as small, as the command line says, so that the right K is
//! known beforehand. It lives on a second thread, with a runtime of its own.

use gondola::net::{TcpListener, TcpStream};
use gondola::{CancellationToken, Runtime, reserve, time};
use std::cell::Cell;
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;
use tokio::sync::Semaphore;

/// A request head must fit.
const MAX_HEAD: usize = 8 << 10;

const OK: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\ndone\n";
const BAD_REQUEST: &[u8] =
    b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\nContent-Length: 0\r\n\r\n";

pub(crate) struct Server {
    address: SocketAddr,
    stop: CancellationToken,
    thread: Option<thread::JoinHandle<()>>,
}

impl Server {
    /// Listens on a free port of the loopback. A request takes `delay` in one of the `places`; as
    /// many `connections` may exist at a time, the others wait in the kernel's queue.
    pub(crate) fn start(
        delay: Duration,
        places: usize,
        slows: f64,
        connections: usize,
    ) -> io::Result<Self> {
        let stop = CancellationToken::new();
        let (sender, receiver) = mpsc::channel();
        let thread = thread::spawn({
            let stop = stop.clone();
            move || {
                let serve = async {
                    // A socket belongs to the runtime in which it was made, so it is made in here.
                    let listener = TcpListener::bind(([127, 0, 0, 1], 0))?;
                    let _ = sender.send(Ok(listener.local_addr()?));
                    let accepting = accept_all(&listener, Service::new(delay, places, slows));
                    stop.run_until_cancelled(accepting).await;
                    Ok(())
                };
                let runtime = Runtime::builder().slots(connections).build();
                if let Err(error) = runtime.and_then(|mut runtime| runtime.block_on(serve)) {
                    let _ = sender.send(Err(error));
                }
            }
        });
        let address = receiver.recv().expect("the server says how its start went")?;
        Ok(Self { address, stop, thread: Some(thread) })
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}/", self.address)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop.cancel();
        if let Some(thread) = self.thread.take() {
            // If it has panicked, it has said so itself.
            let _ = thread.join();
        }
    }
}

/// What the server sells.
struct Service {
    delay: Duration,
    /// Tokio's semaphore is fair (first come, first served), and needs no runtime of tokio.
    places: Semaphore,
    /// How much longer a request takes, as a share, for each one that waits for a place.
    slows: f64,
    waiting: Cell<usize>,
}

impl Service {
    fn new(delay: Duration, places: usize, slows: f64) -> Rc<Self> {
        Rc::new(Self { delay, places: Semaphore::new(places), slows, waiting: Cell::new(0) })
    }

    async fn serve_one(&self) {
        self.waiting.set(self.waiting.get() + 1);
        let _place = self.places.acquire().await.expect("nobody closes it");
        self.waiting.set(self.waiting.get() - 1);
        time::sleep(self.delay.mul_f64(1.0 + self.slows * self.waiting.get() as f64)).await;
    }
}

async fn accept_all(listener: &TcpListener, service: Rc<Service>) {
    loop {
        // First the slot, then the connection: who finds no slot waits in the kernel's queue.
        let slot = reserve().await;
        match listener.accept().await {
            Ok((stream, _)) => {
                let service = service.clone();
                // A client that goes away in the middle is the client's business.
                slot.spawn(async move { drop(keep_alive(stream, &service).await) }).detach();
            }
            // The next call waits a little. The server ends with the sweep in any case.
            Err(error) => {
                crate::say(format_args!("sweep: the server could not accept: {error}"));
            }
        }
    }
}

/// One connection: one request after the other, until the client has had enough.
async fn keep_alive(mut stream: TcpStream, service: &Service) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let mut received = Vec::with_capacity(1024);
    let mut buffer = [0; 1024];
    loop {
        let request = loop {
            match Request::parse(&received) {
                Parsed::Complete(request) => break request,
                Parsed::Partial if received.len() < MAX_HEAD => {}
                Parsed::Partial | Parsed::Bad => {
                    return stream.write_all(BAD_REQUEST).await;
                }
            }
            match stream.read(&mut buffer).await? {
                0 => return Ok(()),
                count => received.extend_from_slice(&buffer[..count]),
            }
        };
        received.drain(..request.head);
        service.serve_one().await;
        stream.write_all(OK).await?;
        if request.close {
            return Ok(());
        }
    }
}

struct Request {
    /// The length of its head; no body follows, as it is a GET.
    head: usize,
    close: bool,
}

enum Parsed {
    Complete(Request),
    Partial,
    Bad,
}

impl Request {
    fn parse(received: &[u8]) -> Parsed {
        let mut headers = [httparse::EMPTY_HEADER; 32];
        let mut request = httparse::Request::new(&mut headers);
        match request.parse(received) {
            Ok(httparse::Status::Complete(head)) if request.method == Some("GET") => {
                let close = request.headers.iter().any(|header| {
                    header.name.eq_ignore_ascii_case("connection")
                        && header.value.eq_ignore_ascii_case(b"close")
                });
                Parsed::Complete(Request { head, close })
            }
            Ok(httparse::Status::Partial) => Parsed::Partial,
            Ok(httparse::Status::Complete(_)) | Err(_) => Parsed::Bad,
        }
    }
}
