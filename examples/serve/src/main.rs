//! `serve [--address A] [--slots N] [--patience SECONDS]`: ends gracefully on SIGTERM or ctrl-c.

use axum::Router;
use axum::body::Bytes;
use axum::extract::Path;
use axum::routing::{get, post};
use futures::future::{Either, select};
use gondola::net::{Async, TcpListener};
use gondola::time::sleep;
use gondola::{AssertLocal, CancellationToken, Runtime};
use lexopt::{Arg, Parser, ValueExt};
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::low_level::pipe;
use std::error::Error;
use std::future::pending;
use std::io;
use std::net::SocketAddr;
use std::os::unix::net::UnixStream;
use std::pin::pin;
use std::time::Duration;

fn app() -> Router {
    Router::new()
        .route("/", get(async || "hello\n"))
        .route("/echo", post(async |body: Bytes| body))
        .route("/nap/{millis}", get(nap))
}

/// axum wants handlers that are `Send`, though all of this stays on one thread.
async fn nap(Path(millis): Path<u64>) -> &'static str {
    AssertLocal::new(sleep(Duration::from_millis(millis))).await;
    "slept\n"
}

fn main() -> Result<(), Box<dyn Error>> {
    let mut address = SocketAddr::from(([127, 0, 0, 1], 8080));
    let (mut slots, mut patience) = (1_024, 10);
    let mut parser = Parser::from_env();
    while let Some(argument) = parser.next()? {
        match argument {
            Arg::Long("address") => address = parser.value()?.parse()?,
            Arg::Long("slots") => slots = parser.value()?.parse()?,
            Arg::Long("patience") => patience = parser.value()?.parse()?,
            _ => return Err(argument.unexpected().into()),
        }
    }
    let stop = CancellationToken::new();
    let mut runtime = Runtime::builder().slots(slots).build()?;
    runtime.block_on(async {
        let signals = signals()?;
        let listener = TcpListener::bind(address)?;
        println!("http://{}", listener.local_addr()?);
        let serving = serve::serve(listener, app(), Duration::from_secs(patience), &stop);
        let stopping = async {
            signals.readable().await?;
            stop.cancel();
            pending().await
        };
        match select(pin!(serving), pin!(stopping)).await {
            Either::Left(((), _)) => Ok(()),
            Either::Right((failed, _)) => failed,
        }
    })
}

/// A socket that becomes readable at the first signal to stop.
fn signals() -> io::Result<Async<UnixStream>> {
    let (signals, sender) = UnixStream::pair()?;
    pipe::register(SIGTERM, sender.try_clone()?)?;
    pipe::register(SIGINT, sender)?;
    Async::new(signals)
}
