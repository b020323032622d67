//! Connections of the databases' own clients, on gondola.
//!
//! The clients want tokio's traits, which `compat()` of tokio-util makes of futures-io's. No runtime
//! of tokio runs.

use futures::stream::{self, Stream, StreamExt, TryStreamExt};
use gondola::net::TcpStream;
use gondola::{AssertLocal, try_spawn};
use redis::AsyncConnectionConfig;
use redis::aio::MultiplexedConnection;
use std::error::Error;
use std::net::SocketAddr;
use tokio_postgres::{Client, NoTls, Portal, Row, Transaction};
use tokio_util::compat::FuturesAsyncReadCompatExt;

pub type Failure = Box<dyn Error + Send + Sync>;

/// A connection to Redis that may be cloned: what its clones ask goes out together, and the answers
/// come in order.
pub async fn redis(address: SocketAddr) -> Result<MultiplexedConnection, Failure> {
    let stream = TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    // redis-rs wants `Send`, though all of it stays here.
    let stream = AssertLocal::new(stream).compat();
    // Its own time-outs are tokio's; ours is `gondola::time::timeout`, around a call.
    let config =
        AsyncConnectionConfig::new().set_connection_timeout(None).set_response_timeout(None);
    let (connection, driver) =
        MultiplexedConnection::new_with_config(&Default::default(), stream, config).await?;
    try_spawn(driver).map_err(|full| full.to_string())?.detach();
    Ok(connection)
}

/// A connection to PostgreSQL. Queries that are under way at the same time are pipelined.
pub async fn postgres(address: SocketAddr) -> Result<Client, Failure> {
    let stream = TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    let mut config = tokio_postgres::Config::new();
    config.user("postgres").dbname("postgres");
    let (client, connection) = config.connect_raw(stream.compat(), NoTls).await?;
    // How it ends, each query is told as well.
    let driver = async { drop(connection.await) };
    try_spawn(driver).map_err(|full| full.to_string())?.detach();
    Ok(client)
}

/// The rows of a cursor, a hundred at a time, as they are asked for: of a table that is larger than
/// memory. The source of a [`batch::stream`](gondola::batch::stream), once it is pinned.
pub fn rows(
    transaction: &Transaction<'_>,
    cursor: &Portal,
) -> impl Stream<Item = Result<Row, tokio_postgres::Error>> {
    let chunks = stream::try_unfold((), async |()| {
        let rows = transaction.query_portal(cursor, 100).await?;
        Ok((!rows.is_empty()).then_some((rows, ())))
    });
    chunks.map_ok(|rows| stream::iter(rows).map(Ok)).try_flatten()
}
