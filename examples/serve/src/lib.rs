//! An axum Router on gondola.

use axum::Router;
use futures::{FutureExt, select_biased};
use gondola::hyper::{Executor, Io, Timer};
use gondola::net::{TcpListener, TcpStream};
use gondola::time::{sleep, timeout};
use gondola::{CancellationToken, reserve, tasks_done};
use hyper::body::Incoming;
use hyper::service::{Service, service_fn};
use hyper_util::server::conn::auto::Builder;
use hyper_util::service::TowerToHyperService;
use std::cell::Cell;
use std::pin::pin;
use std::time::Duration;

/// Serves until `stop`, at most as many connections as there are slots. A connection without a
/// request, or with half a head, for `patience` is closed. After `stop` each connection ends with
/// its present request, within 10 s.
pub async fn serve(
    listener: TcpListener,
    app: Router,
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
            slot.spawn(connection(stream, app.clone(), patience, stop.clone())).detach();
        }
    };
    let _ = stop.run_until_cancelled(accepting).await;
    drop(listener);
    let _ = timeout(Duration::from_secs(10), tasks_done()).await;
}

async fn connection(stream: TcpStream, app: Router, patience: Duration, stop: CancellationToken) {
    let begun = Cell::new(false);
    let app = TowerToHyperService::new(app);
    let service = service_fn(|request: hyper::Request<Incoming>| {
        begun.set(true);
        app.call(request)
    });
    let mut builder = Builder::new(Executor);
    builder.http1().timer(Timer).header_read_timeout(patience);
    builder.http2().timer(Timer).keep_alive_interval(patience);
    let mut connection = pin!(builder.serve_connection(Io::new(stream), service));
    let mut late = pin!(sleep(patience).fuse());
    let mut stopped = pin!(stop.cancelled().fuse());
    loop {
        let stops = select_biased! {
            // A connection that fails is its peer's business.
            _ = connection.as_mut().fuse() => return,
            () = late => match begun.get() {
                true => false,
                false => return,
            },
            () = stopped => true,
        };
        if stops {
            connection.as_mut().graceful_shutdown();
        }
    }
}
