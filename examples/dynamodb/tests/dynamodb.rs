//! The SDK against dynalite, over a line that may be bad.

use aws_sdk_dynamodb::error::DisplayErrorContext;
use aws_sdk_dynamodb::types::AttributeValue;
use aws_sdk_dynamodb::{Client, Error};
use dynamodb::{Item, client, create_table, get_all};
use gondola::time::{sleep, timeout};
use gondola::{OnError, batch, block_on};
use std::time::Duration;
use testbed::{Fault, Proxy, Server};

const LONG: Duration = Duration::from_secs(60);
const PATIENCE: Duration = Duration::from_secs(10);

fn run(test: impl Future<Output = Result<(), Error>>) {
    let result = block_on(timeout(LONG, test)).expect("it waits for ever");
    result.unwrap_or_else(|error| panic!("{}", DisplayErrorContext(error)));
}

fn key(n: usize) -> AttributeValue {
    AttributeValue::N(n.to_string())
}

async fn put(client: &Client, n: usize, text: &str) -> Result<(), Error> {
    let text = AttributeValue::S(text.into());
    let put = client.put_item().table_name("numbers").item("number", key(n)).item("text", text);
    Ok(put.send().await.map(drop)?)
}

async fn get(client: &Client, n: usize) -> Result<String, Error> {
    let got = client.get_item().table_name("numbers").key("number", key(n)).send().await?;
    let item = got.item.expect("it is there");
    Ok(item["text"].as_s().expect("a text").clone())
}

#[test]
fn twenty_five_at_a_time() {
    let server = Server::dynalite();
    run(async {
        let client = client(server.address(), PATIENCE);
        create_table(&client, "numbers").await?;
        let threads = || std::fs::read_dir("/proc/self/task").unwrap().count();
        let run =
            batch(0..300).limit(25).try_for_each(async |n| put(&client, n, &n.to_string()).await);
        run.await.unwrap_or_else(|record| panic!("{record}"));
        let run = batch(0..300).limit(25).try_map(async |n| get(&client, n).await);
        let all = run.await.unwrap_or_else(|record| panic!("{record}"));
        assert!(all.into_iter().eq((0..300).map(|n| n.to_string())));
        // This test's, the harness's, and those of the resolver.
        assert!(threads() <= 12, "{} threads", threads());

        // What DynamoDB refuses is one item's error.
        let wrong = batch([7, 8]).limit(2).on_error(OnError::Collect).try_for_each(async |n| {
            let put = client.put_item().table_name("numbers").item("number", key(n));
            let absent = "attribute_not_exists(#n)";
            let put = put.condition_expression(absent).expression_attribute_names("#n", "number");
            put.send().await.map(drop)
        });
        let record = wrong.await.unwrap_err();
        assert!(record.errors.iter().all(|failed| {
            failed
                .error
                .as_service_error()
                .is_some_and(|e| e.is_conditional_check_failed_exception())
        }));
        assert_eq!(record.errors.len(), 2);
        Ok(())
    });
}

#[test]
fn what_is_left_unprocessed_is_asked_for_again() {
    let server = Server::dynalite();
    run(async {
        let client = client(server.address(), PATIENCE);
        create_table(&client, "numbers").await?;
        // More than one answer may have.
        let large = "x".repeat(390_000);
        let run = batch(0..20).limit(8).try_for_each(async |n| put(&client, n, &large).await);
        run.await.unwrap_or_else(|record| panic!("{record}"));
        let keys: Vec<Item> = (0..20).map(|n| Item::from([("number".into(), key(n))])).collect();
        let asked = client.batch_get_item().request_items(
            "numbers",
            aws_sdk_dynamodb::types::KeysAndAttributes::builder()
                .set_keys(Some(keys.clone()))
                .build()?,
        );
        assert!(!asked.send().await?.unprocessed_keys.unwrap_or_default().is_empty());
        let found = get_all(&client, "numbers", keys).await?;
        let mut numbers: Vec<usize> =
            found.iter().map(|item| item["number"].as_n().unwrap().parse().unwrap()).collect();
        numbers.sort_unstable();
        assert!(numbers.into_iter().eq(0..20));
        Ok(())
    });
}

#[test]
fn a_bad_line_is_tried_again_and_then_an_error() {
    let server = Server::dynalite();
    let proxy = Proxy::start(server.address());
    run(async {
        let near = client(server.address(), PATIENCE);
        create_table(&near, "numbers").await?;
        put(&near, 1, "one").await?;
        for fault in [Fault::Reset(0), Fault::End(10), Fault::Garbage, Fault::Stall(0)] {
            // A client of its own, without connections from before.
            let far = client(proxy.address(), Duration::from_millis(300));
            proxy.set(Some(fault));
            let before = proxy.connections();
            let failed = get(&far, 1).await.unwrap_err();
            assert_eq!(
                proxy.connections() - before,
                3,
                "{fault:?}: {}",
                DisplayErrorContext(failed)
            );
            // The line is mended after the first attempt.
            let mended = async {
                let before = proxy.connections();
                while proxy.connections() == before {
                    sleep(Duration::from_millis(1)).await;
                }
                proxy.set(None);
            };
            let (got, ()) = futures::join!(get(&far, 1), mended);
            assert_eq!(got?, "one", "{fault:?}");
        }
        Ok(())
    });
}

/// Node closes connections that were idle for 5 s.
#[test]
fn a_kept_connection_that_the_server_closed_is_replaced() {
    let server = Server::dynalite();
    let proxy = Proxy::start(server.address());
    run(async {
        let client = client(proxy.address(), PATIENCE);
        create_table(&client, "numbers").await?;
        put(&client, 1, "one").await?;
        assert_eq!(proxy.connections(), 1);
        sleep(Duration::from_millis(6_500)).await;
        assert_eq!(get(&client, 1).await?, "one");
        assert_eq!(proxy.connections(), 2);
        Ok(())
    });
}
