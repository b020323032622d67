//! A server that answers with what it was sent, and a client that sends.

use futures::FutureExt;
use gondola::hyper::{Executor, Io, Timer};
use gondola::net::{TcpListener, TcpStream};
use gondola::time::timeout;
use gondola::{CancellationToken, reserve, tasks_done, try_spawn};
use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper::client::conn::http1::{self as client, SendRequest};
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper::{Request, Response};
use std::error::Error;
use std::net::SocketAddr;
use std::time::Duration;

pub type Failure = Box<dyn Error + Send + Sync>;

async fn echo(request: Request<Incoming>) -> Result<Response<Full<Bytes>>, hyper::Error> {
    let body = request.into_body().collect().await?.to_bytes();
    Ok(Response::new(Full::new(body)))
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Version {
    Http1,
    Http2,
}

/// Serves until `stop`: at most as many connections as there are slots; whoever sends no head
/// within `patience` is sent away. Then each connection ends after its present request, within 2 s.
pub async fn serve(
    listener: TcpListener,
    version: Version,
    patience: Duration,
    stop: &CancellationToken,
) {
    let accepting = async {
        loop {
            // First the slot, then the connection: while all are taken, the queue waits.
            let slot = reserve().await;
            // An error is a shortage of something, which passes, or concerns one connection.
            let Ok((stream, _)) = listener.accept().await else { continue };
            let _ = stream.set_nodelay(true);
            let stop = stop.clone();
            slot.spawn(async move {
                let (io, service) = (Io::new(stream), service_fn(echo));
                // A connection that fails is its peer's business.
                let _ = match version {
                    Version::Http1 => {
                        let mut builder = http1::Builder::new();
                        builder.timer(Timer).header_read_timeout(patience);
                        let mut connection = builder.serve_connection(io, service);
                        futures::select_biased! {
                            ended = (&mut connection).fuse() => return drop(ended),
                            () = stop.cancelled().fuse() => {}
                        }
                        std::pin::Pin::new(&mut connection).graceful_shutdown();
                        connection.await
                    }
                    Version::Http2 => {
                        let mut builder = http2::Builder::new(Executor);
                        let mut connection = builder.timer(Timer).serve_connection(io, service);
                        futures::select_biased! {
                            ended = (&mut connection).fuse() => return drop(ended),
                            () = stop.cancelled().fuse() => {}
                        }
                        std::pin::Pin::new(&mut connection).graceful_shutdown();
                        connection.await
                    }
                };
            })
            .detach();
        }
    };
    let _ = stop.run_until_cancelled(accepting).await;
    let _ = timeout(Duration::from_secs(2), tasks_done()).await;
}

/// A connection for requests, one after the other.
pub async fn connect(address: SocketAddr) -> Result<SendRequest<Full<Bytes>>, Failure> {
    let stream = TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    let (send, connection) = client::handshake(Io::new(stream)).await?;
    try_spawn(connection).map_err(|full| full.to_string())?.detach();
    Ok(send)
}

/// One request over such a connection.
pub async fn ask(
    send: &mut SendRequest<Full<Bytes>>,
    body: impl Into<Bytes>,
) -> Result<Bytes, Failure> {
    send.ready().await?;
    let request = Request::post("/").header("host", "here").body(Full::new(body.into()))?;
    Ok(send.send_request(request).await?.into_body().collect().await?.to_bytes())
}
