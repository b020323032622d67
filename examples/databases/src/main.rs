//! `databases redis|postgres ADDRESS [COUNT]`: the same inserts one by one, in a batch on one
//! connection (the last K is one that found itself), and, with Redis, in one pipeline.

use databases::{Failure, postgres, redis};
use gondola::batch::Auto;
use gondola::{batch, block_on};
use std::time::Instant;

/// Four that are fixed, and one that finds itself.
fn limits() -> impl Iterator<Item = Auto> {
    let fixed = [1, 8, 25, 100].into_iter().map(|limit| Auto::new(limit).min(limit));
    fixed.chain([Auto::new(100)])
}

fn main() -> Result<(), Failure> {
    let mut arguments = std::env::args().skip(1);
    let usage = "databases redis|postgres ADDRESS [COUNT]";
    let (Some(kind), Some(address)) = (arguments.next(), arguments.next()) else {
        return Err(usage.into());
    };
    let address = address.parse()?;
    let count: u32 = arguments.next().map_or(Ok(10_000), |count| count.parse())?;
    let report = |what: &str, start: Instant| {
        println!("{what:20} {:8.0}/s", f64::from(count) / start.elapsed().as_secs_f64());
    };
    block_on(async {
        match kind.as_str() {
            "redis" => {
                let connection = redis(address).await?;
                for limit in limits() {
                    let start = Instant::now();
                    let run = batch(0..count).limit(&limit).try_for_each(async |n| {
                        let mut connection = connection.clone();
                        ::redis::cmd("SET").arg(n).arg(n).exec_async(&mut connection).await
                    });
                    run.await?;
                    report(&format!("batch, K = {}", limit.get()), start);
                }
                let start = Instant::now();
                let mut pipeline = ::redis::pipe();
                for n in 0..count {
                    pipeline.set(n, n).ignore();
                }
                pipeline.exec_async(&mut connection.clone()).await?;
                report("one pipeline", start);
            }
            "postgres" => {
                let client = postgres(address).await?;
                client.batch_execute("CREATE TEMPORARY TABLE numbers (number int)").await?;
                let insert = client.prepare("INSERT INTO numbers VALUES ($1)").await?;
                for limit in limits() {
                    let start = Instant::now();
                    let run = batch(0..count).limit(&limit).try_for_each(async |n| {
                        client.execute(&insert, &[&(n as i32)]).await.map(drop)
                    });
                    run.await?;
                    report(&format!("batch, K = {}", limit.get()), start);
                }
            }
            _ => return Err(usage.into()),
        }
        Ok(())
    })
}
