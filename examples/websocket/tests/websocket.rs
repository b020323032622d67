//! WebSockets over loopback, and what goes wrong with them.

use async_tungstenite::tungstenite::{Error, Message};
use async_tungstenite::{WebSocketStream, client_async};
use futures::StreamExt;
use gondola::net::{TcpListener, TcpStream};
use gondola::time::timeout;
use gondola::{Runtime, batch, tasks_done, try_spawn};
use std::net::SocketAddr;
use std::time::Duration;
use testbed::{Fault, Proxy};

const LONG: Duration = Duration::from_secs(20);

fn with_server<F: Future>(patience: Duration, client: impl FnOnce(SocketAddr) -> F) -> F::Output {
    let mut runtime = Runtime::builder().slots(64).build().unwrap();
    runtime.block_on(async {
        let listener = TcpListener::bind(([127, 0, 0, 1], 0)).unwrap();
        let address = listener.local_addr().unwrap();
        let server = try_spawn(websocket::serve(listener, patience)).unwrap();
        let result = timeout(LONG, client(address)).await.expect("it waits for ever");
        // All connections end with their clients, within the patience.
        server.abort();
        timeout(LONG, tasks_done()).await.expect("a connection is left");
        result
    })
}

async fn connect(address: SocketAddr) -> Result<WebSocketStream<TcpStream>, Error> {
    let stream = TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    Ok(client_async("ws://here/", stream).await?.0)
}

async fn echoes(address: SocketAddr, n: usize) -> Result<(), Error> {
    let mut socket = connect(address).await?;
    for round in 0..20 {
        let message = Message::binary(vec![n as u8; n * round * 37]);
        socket.send(Message::Ping(vec![1].into())).await?;
        socket.send(message.clone()).await?;
        loop {
            match socket.next().await.ok_or(Error::ConnectionClosed)?? {
                Message::Pong(_) => {}
                answer => break assert_eq!(answer, message),
            }
        }
    }
    socket.close(None).await
}

#[test]
fn many_at_a_time() {
    with_server(LONG, async |address| {
        let run = batch(0..50).limit(10).try_for_each(|n| echoes(address, n));
        run.await.unwrap();
    });
}

#[test]
fn a_bad_line_is_an_error() {
    with_server(LONG, async |address| {
        let proxy = Proxy::start(address);
        proxy.set(Some(Fault::Delay(Duration::from_millis(1))));
        echoes(proxy.address(), 9).await.unwrap();
        for fault in [Fault::Reset(2_000), Fault::End(2_000), Fault::Garbage] {
            proxy.set(Some(fault));
            assert!(echoes(proxy.address(), 50).await.is_err(), "{fault:?}");
        }
        proxy.set(Some(Fault::Stall(2_000)));
        let stalled = echoes(proxy.address(), 50);
        assert!(timeout(Duration::from_millis(50), stalled).await.is_err());
    });
}

#[test]
fn who_does_not_shake_hands_is_sent_away() {
    with_server(Duration::from_millis(50), async |address| {
        let mut silent = TcpStream::connect(address).await.unwrap();
        assert_eq!(silent.read(&mut [0; 8]).await.unwrap(), 0);
        let mut rude = TcpStream::connect(address).await.unwrap();
        rude.write_all(&[0xff; 2_000]).await.unwrap();
        // An answer or a reset, but an end.
        let mut buffer = [0; 2_000];
        while rude.read(&mut buffer).await.is_ok_and(|count| count > 0) {}
    });
}
