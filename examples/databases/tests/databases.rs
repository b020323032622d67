//! Real servers, and what happens when they are slow, reset, refuse, or answer garbage.

use databases::{Failure, postgres, redis, rows};
use futures::{StreamExt, TryStreamExt};
use gondola::time::timeout;
use gondola::{batch, block_on};
use gondola_sweep::Sweep;
use std::cell::Cell;
use std::net::SocketAddr;
use std::pin::pin;
use std::time::Duration;
use testbed::{Fault, Proxy, Server, free_port};

const LONG: Duration = Duration::from_secs(20);
const SHORT: Duration = Duration::from_millis(100);

fn run(test: impl Future<Output = Result<(), Failure>>) {
    block_on(async { timeout(LONG, test).await.expect("it waits for ever").unwrap() });
}

fn threads() -> usize {
    std::fs::read_dir("/proc/self/task").unwrap().count()
}

async fn set_and_get(address: SocketAddr, count: usize) -> Result<(), Failure> {
    let connection = redis(address).await?;
    let run = batch(0..count).limit(25).try_map(async |n| {
        let mut connection = connection.clone();
        redis::cmd("SET").arg(n).arg(n * n).exec_async(&mut connection).await?;
        redis::cmd("GET").arg(n).query_async(&mut connection).await
    });
    let squares: Vec<usize> = run.await?;
    assert!(squares.into_iter().eq((0..count).map(|n| n * n)));
    Ok(())
}

#[test]
fn redis_in_a_batch_and_in_a_pipeline() {
    let server = Server::redis();
    run(async {
        let before = threads();
        set_and_get(server.address(), 5_000).await?;
        let mut connection = redis(server.address()).await?;
        let mut pipeline = redis::pipe();
        for n in 0..1_000 {
            pipeline.get(n);
        }
        let squares: Vec<usize> = pipeline.query_async(&mut connection).await?;
        assert!(squares.into_iter().eq((0..1_000).map(|n| n * n)));
        // An error is one command's.
        let error = redis::cmd("INCR").arg("text").arg("no").exec_async(&mut connection).await;
        assert!(error.is_err());
        redis::cmd("PING").exec_async(&mut connection).await?;
        assert!(tokio::runtime::Handle::try_current().is_err(), "a runtime of tokio");
        assert_eq!(threads(), before);
        Ok(())
    });
}

#[test]
fn redis_behind_a_bad_line() {
    let server = Server::redis();
    let proxy = Proxy::start(server.address());
    run(async {
        proxy.set(Some(Fault::Delay(Duration::from_millis(2))));
        set_and_get(proxy.address(), 200).await?;

        // What it says first are the answers to its greeting.
        for fault in [Fault::Reset(500), Fault::End(500)] {
            proxy.set(Some(fault));
            let cut_off = set_and_get(proxy.address(), 5_000).await.unwrap_err();
            assert!(cut_off.to_string().starts_with("item "), "{cut_off}");
        }
        proxy.set(Some(Fault::Stall(500)));
        assert!(timeout(SHORT, set_and_get(proxy.address(), 5_000)).await.is_err());

        proxy.set(Some(Fault::Garbage));
        assert!(redis(proxy.address()).await.is_err());

        let nobody = SocketAddr::from(([127, 0, 0, 1], free_port()));
        let Err(refused) = redis(nobody).await else { panic!("nobody listens") };
        let refused = refused.downcast::<std::io::Error>().unwrap();
        assert_eq!(refused.kind(), std::io::ErrorKind::ConnectionRefused);

        proxy.set(None);
        set_and_get(proxy.address(), 200).await
    });
}

#[test]
fn postgres_in_a_batch_and_behind_a_bad_line() {
    let server = Server::postgres();
    let proxy = Proxy::start(server.address());
    run(async {
        let mut client = postgres(server.address()).await?;
        client.batch_execute("CREATE TABLE squares (number int, square int)").await?;
        let insert = client.prepare("INSERT INTO squares VALUES ($1, $2)").await?;
        // On one connection: what is under way at the same time is pipelined.
        let run = batch(0..500_i32)
            .limit(25)
            .try_for_each(async |n| client.execute(&insert, &[&n, &(n * n)]).await.map(drop));
        run.await?;
        let rows = client.query("SELECT square FROM squares ORDER BY number", &[]).await?;
        assert!(rows.iter().map(|row| row.get::<_, i32>(0)).eq((0..500).map(|n| n * n)));

        // A transaction that is given up is rolled back.
        let transaction = client.transaction().await?;
        transaction.execute("DELETE FROM squares", &[]).await?;
        drop(transaction);
        let count = client.query_one("SELECT count(*) FROM squares", &[]).await?;
        assert_eq!(count.get::<_, i64>(0), 500);

        // An error is one query's.
        assert!(client.query("SELECT nonsense", &[]).await.is_err());
        client.query("SELECT 1", &[]).await?;

        let ask = async || -> Result<(), Failure> {
            let client = postgres(proxy.address()).await?;
            let select = "SELECT repeat('x', 10000) FROM generate_series(1, 100)";
            let run = batch(0..20)
                .limit(5)
                .try_for_each(async |_| client.query(select, &[]).await.map(drop));
            run.await.map_err(Into::into)
        };
        proxy.set(Some(Fault::Delay(Duration::from_millis(2))));
        ask().await?;
        for fault in [Fault::Reset(100_000), Fault::End(100_000), Fault::Reset(0), Fault::Garbage] {
            proxy.set(Some(fault));
            assert!(ask().await.is_err(), "{fault:?}");
        }
        proxy.set(Some(Fault::Stall(100_000)));
        assert!(timeout(SHORT, ask()).await.is_err());
        proxy.set(None);
        ask().await
    });
}

#[test]
fn rows_of_a_cursor_come_as_they_are_asked_for() {
    let server = Server::postgres();
    run(async {
        let mut client = postgres(server.address()).await?;
        let updates = postgres(server.address()).await?;
        client
            .batch_execute(
                "CREATE TABLE jobs (job int); INSERT INTO jobs SELECT generate_series(0, 4999)",
            )
            .await?;
        let transaction = client.transaction().await?;
        let statement = transaction.prepare("SELECT job FROM jobs ORDER BY job").await?;
        let cursor = transaction.bind(&statement, &[]).await?;
        let (pulled, sum) = (Cell::new(0), Cell::new(0));
        let jobs = pin!(rows(&transaction, &cursor).inspect(|_| pulled.set(pulled.get() + 1)));
        let run = batch::stream(jobs).limit(8).try_for_each(async |row| {
            let job: i32 = row?.get(0);
            let double = updates.query_one("SELECT $1::int * 2", &[&job]).await?;
            sum.set(sum.get() + double.get::<_, i32>(0));
            if job == 4_500 { Err(Failure::from("enough")) } else { Ok(()) }
        });
        let record = run.await.unwrap_err();
        assert_eq!(record.index(), Some(4_500));
        // What was pulled was begun, and the rest was not even read.
        assert_eq!(pulled.get(), record.pulled);
        assert!((4_501..4_999).contains(&record.pulled), "{pulled:?}");
        // The rest can be had: the cursor stands behind the last chunk.
        let rest = record.rest.try_collect::<Vec<_>>().await?;
        assert_eq!(pulled.get(), 5_000);
        assert_eq!(rest.len(), 5_000 - record.pulled);
        Ok(())
    });
}

/// How many at once? The experiment takes any closure; here it is too short to mean much.
#[test]
fn the_sweep_measures_queries_and_commands() {
    let (sql, redis_server) = (Server::postgres(), Server::redis());
    run(async {
        let sweep = Sweep::new().limits([1, 4, 16]).repetitions(1).time(SHORT / 2);
        let client = postgres(sql.address()).await?;
        let report = sweep.run(async || client.query_one("SELECT 1", &[]).await.map(drop)).await?;
        assert!([1, 4, 16].contains(&report.knee()), "{report}");

        let connection = redis(redis_server.address()).await?;
        let ping = async || redis::cmd("PING").exec_async(&mut connection.clone()).await;
        let report = sweep.run(ping).await?;
        assert!(report.points().iter().all(|point| point.rate > 0.0), "{report}");
        Ok(())
    });
}
