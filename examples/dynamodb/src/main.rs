//! `dynamodb [--auto] ADDRESS [COUNT]`: GetItem per second by K, directly and with 5 ms each way between;
//! with `--auto`, by the K that finds itself.
//!
//! A server to try it on: `npm install dynalite@4`, then
//! `node node_modules/dynalite/cli.js --port 4567 --createTableMs 0`.

use aws_sdk_dynamodb::types::AttributeValue;
use aws_sdk_dynamodb::{Client, Error};
use dynamodb::{client, create_table};
use gondola::batch::Auto;
use gondola::{batch, block_on};
use std::net::SocketAddr;
use std::time::{Duration, Instant};
use testbed::{Fault, Proxy};

const PATIENCE: Duration = Duration::from_secs(10);

async fn items_per_second(client: &Client, limit: &Auto, count: usize) -> Result<f64, Error> {
    let start = Instant::now();
    let run = batch(0..count).limit(limit).try_for_each(async |n| {
        let key = AttributeValue::N((n % 100).to_string());
        let get = client.get_item().table_name("numbers").key("number", key);
        get.send().await.map(|got| assert!(got.item.is_some()))
    });
    run.await.map_err(|record| record.errors.into_iter().next().expect("it failed").error)?;
    Ok(count as f64 / start.elapsed().as_secs_f64())
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let auto = std::env::args().any(|argument| argument == "--auto");
    let mut arguments = std::env::args().skip(1).filter(|argument| argument != "--auto");
    let address =
        arguments.next().ok_or("dynamodb [--auto] ADDRESS [COUNT]")?.parse::<SocketAddr>()?;
    let count: usize = arguments.next().map_or(Ok(4_000), |count| count.parse())?;
    let proxy = Proxy::start(address);
    proxy.set(Some(Fault::Delay(Duration::from_millis(5))));
    block_on(async {
        let (near, far) = (client(address, PATIENCE), client(proxy.address(), PATIENCE));
        create_table(&near, "numbers").await?;
        let run = batch(0..100).limit(8).try_for_each(async |n| {
            let number = AttributeValue::N(n.to_string());
            near.put_item().table_name("numbers").item("number", number).send().await.map(drop)
        });
        run.await?;
        // A first turn for the server's own sake.
        items_per_second(&near, &Auto::new(8).min(8), count).await?;
        if auto {
            for (name, client) in [("near", &near), ("5 ms each way", &far)] {
                let limit = Auto::new(64);
                let speed = items_per_second(client, &limit, count).await?;
                println!("{name}: {speed:.0} items/s, K = {} at the end", limit.get());
            }
            return Ok(());
        }
        println!("| K | items/s | items/s, 5 ms each way |\n|---:|---:|---:|");
        for limit in [1, 2, 4, 8, 16, 25, 32, 64] {
            let fixed = Auto::new(limit).min(limit);
            let near = items_per_second(&near, &fixed, count).await?;
            // As long as it takes to see something.
            let far = items_per_second(&far, &fixed, count.min(100 * limit)).await?;
            println!("| {limit} | {near:.0} | {far:.0} |");
        }
        Ok(())
    })
}
