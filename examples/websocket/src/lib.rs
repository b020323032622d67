//! A WebSocket server that says what it hears.

use async_tungstenite::accept_async;
use async_tungstenite::tungstenite::{Error, Message};
use futures::StreamExt;
use gondola::net::{TcpListener, TcpStream};
use gondola::reserve;
use gondola::time::timeout;
use std::time::Duration;

/// Serves for ever: at most as many connections as there are slots.
pub async fn serve(listener: TcpListener, patience: Duration) {
    loop {
        let slot = reserve().await;
        // An error is a shortage of something, which passes, or concerns one connection.
        let Ok((stream, _)) = listener.accept().await else { continue };
        // A connection that fails is its peer's business.
        slot.spawn(async move { drop(echo(stream, patience).await) }).detach();
    }
}

async fn echo(stream: TcpStream, patience: Duration) -> Result<(), Error> {
    let _ = stream.set_nodelay(true);
    // Who does not shake hands in time is sent away.
    let Ok(shaken) = timeout(patience, accept_async(stream)).await else { return Ok(()) };
    let mut socket = shaken?;
    while let Some(message) = socket.next().await {
        // Pings and closes are answered by the crate.
        if let message @ (Message::Text(_) | Message::Binary(_)) = message? {
            socket.send(message).await?;
        }
    }
    Ok(())
}
