//! The servers: an echo over HTTP/1.1, HTTP/2, TLS and UDP, as one would write it on each runtime.

use futures::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper::rt;
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper::{Request, Response};
use std::io::{self, Write};
use std::net::SocketAddr;
use std::sync::Arc;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};

#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Service {
    Http1,
    Http2,
    Tls,
    Udp,
}

const LOCAL: ([u8; 4], u16) = ([127, 0, 0, 1], 0);

/// Tells the parent where it listens.
fn announce(address: SocketAddr) {
    println!("{address}");
    io::stdout().flush().expect("the parent listens");
}

async fn answer(request: Request<Incoming>) -> Result<Response<Full<Bytes>>, hyper::Error> {
    Ok(Response::new(Full::new(request.into_body().collect().await?.to_bytes())))
}

/// What hyper does is the same for all.
async fn http<I, E>(service: Service, io: I, executor: E)
where
    I: rt::Read + rt::Write + Unpin + 'static,
    E: rt::bounds::Http2ServerConnExec<Answer, Full<Bytes>> + Clone,
{
    let service_fn = service_fn(|request| Box::pin(answer(request)) as Answer);
    let _ = match service {
        Service::Http1 => http1::Builder::new().serve_connection(io, service_fn).await,
        _ => http2::Builder::new(executor).serve_connection(io, service_fn).await,
    };
}

type Answer = std::pin::Pin<Box<dyn Future<Output = Result<Response<Full<Bytes>>, hyper::Error>>>>;

async fn echo(mut stream: impl AsyncRead + AsyncWrite + Unpin) {
    let mut buffer = [0; 4096];
    while let Ok(count @ 1..) = stream.read(&mut buffer).await {
        if stream.write_all(&buffer[..count]).await.is_err() || stream.flush().await.is_err() {
            return;
        }
    }
}

fn tls() -> Arc<ServerConfig> {
    let made =
        rcgen::generate_simple_self_signed(["localhost".to_string()]).expect("a certificate");
    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(made.signing_key.serialize_der()));
    let config = ServerConfig::builder()
        .with_no_client_auth()
        .with_single_cert(vec![made.cert.der().clone()], key);
    Arc::new(config.expect("a certificate with its key"))
}

pub mod on_gondola {
    use super::*;
    use gondola::hyper::{Executor, Io};
    use gondola::net::{TcpListener, UdpSocket};
    use gondola::{Runtime, reserve};

    pub fn run(service: Service) {
        let mut runtime = Runtime::builder().slots(20_000).build().expect("a runtime");
        runtime.block_on(async {
            if service == Service::Udp {
                let socket = UdpSocket::bind(LOCAL).expect("a port");
                announce(socket.local_addr().expect("bound"));
                let mut buffer = [0; 2048];
                loop {
                    let (count, from) = socket.recv_from(&mut buffer).await.expect("a datagram");
                    socket.send_to(&buffer[..count], from).await.expect("sent");
                }
            }
            let listener = TcpListener::bind(LOCAL).expect("a port");
            announce(listener.local_addr().expect("bound"));
            let acceptor = futures_rustls::TlsAcceptor::from(tls());
            loop {
                let slot = reserve().await;
                let (stream, _) = listener.accept().await.expect("a connection");
                let _ = stream.set_nodelay(true);
                match service {
                    Service::Tls => {
                        let handshake = acceptor.accept(stream);
                        let task = async { echo(handshake.await.expect("TLS")).await };
                        slot.spawn(task).detach();
                    }
                    _ => slot.spawn(http(service, Io::new(stream), Executor)).detach(),
                }
            }
        })
    }
}

pub mod on_tokio {
    use super::*;
    use hyper_util::rt::TokioIo;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::{TcpListener, UdpSocket};
    use tokio::task::{LocalSet, spawn_local};

    #[derive(Clone)]
    struct Local;

    impl<F: Future + 'static> rt::Executor<F> for Local {
        fn execute(&self, future: F) {
            spawn_local(async { drop(future.await) });
        }
    }

    pub fn run(service: Service) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        runtime.expect("a runtime").block_on(LocalSet::new().run_until(async {
            if service == Service::Udp {
                let socket = UdpSocket::bind(SocketAddr::from(LOCAL)).await.expect("a port");
                announce(socket.local_addr().expect("bound"));
                let mut buffer = [0; 2048];
                loop {
                    let (count, from) = socket.recv_from(&mut buffer).await.expect("a datagram");
                    socket.send_to(&buffer[..count], from).await.expect("sent");
                }
            }
            let listener = TcpListener::bind(SocketAddr::from(LOCAL)).await.expect("a port");
            announce(listener.local_addr().expect("bound"));
            let acceptor = tokio_rustls::TlsAcceptor::from(tls());
            loop {
                let (stream, _) = listener.accept().await.expect("a connection");
                let _ = stream.set_nodelay(true);
                match service {
                    Service::Tls => {
                        let handshake = acceptor.accept(stream);
                        spawn_local(async {
                            let mut stream = handshake.await.expect("TLS");
                            let mut buffer = [0; 4096];
                            while let Ok(count @ 1..) = stream.read(&mut buffer).await {
                                let _ = stream.write_all(&buffer[..count]).await;
                                let _ = stream.flush().await;
                            }
                        });
                    }
                    _ => drop(spawn_local(http(service, TokioIo::new(stream), Local))),
                }
            }
        }))
    }
}

pub mod on_smol {
    use super::*;
    use smol::net::{TcpListener, UdpSocket};
    use smol_hyper::rt::FuturesIo;
    use std::rc::Rc;

    #[derive(Clone)]
    struct Local(Rc<smol::LocalExecutor<'static>>);

    impl<F: Future + 'static> rt::Executor<F> for Local {
        fn execute(&self, future: F) {
            self.0.spawn(async { drop(future.await) }).detach();
        }
    }

    pub fn run(service: Service) {
        let executor = Rc::new(smol::LocalExecutor::new());
        smol::block_on(executor.run(async {
            if service == Service::Udp {
                let socket = UdpSocket::bind(SocketAddr::from(LOCAL)).await.expect("a port");
                announce(socket.local_addr().expect("bound"));
                let mut buffer = [0; 2048];
                loop {
                    let (count, from) = socket.recv_from(&mut buffer).await.expect("a datagram");
                    socket.send_to(&buffer[..count], from).await.expect("sent");
                }
            }
            let listener = TcpListener::bind(SocketAddr::from(LOCAL)).await.expect("a port");
            announce(listener.local_addr().expect("bound"));
            let acceptor = futures_rustls::TlsAcceptor::from(tls());
            loop {
                let (stream, _) = listener.accept().await.expect("a connection");
                let _ = stream.set_nodelay(true);
                match service {
                    Service::Tls => {
                        let handshake = acceptor.accept(stream);
                        let task = async { echo(handshake.await.expect("TLS")).await };
                        executor.spawn(task).detach();
                    }
                    _ => {
                        let io = FuturesIo::new(stream);
                        executor.spawn(http(service, io, Local(executor.clone()))).detach();
                    }
                }
            }
        }))
    }
}
