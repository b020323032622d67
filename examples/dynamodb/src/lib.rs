//! What the AWS SDK needs of a runtime: an HTTP client and a sleep. Nothing of tokio runs.

mod http;

use aws_sdk_dynamodb::config::retry::RetryConfig;
use aws_sdk_dynamodb::config::timeout::TimeoutConfig;
use aws_sdk_dynamodb::config::{AsyncSleep, Credentials, Region, Sleep};
use aws_sdk_dynamodb::error::SdkError;
use aws_sdk_dynamodb::operation::batch_get_item::BatchGetItemError;
use aws_sdk_dynamodb::types::{AttributeValue, KeysAndAttributes};
use aws_sdk_dynamodb::{Client, Config};
use gondola::{AssertLocal, time};
use std::collections::HashMap;
use std::net::SocketAddr;
use std::time::Duration;

pub type Item = HashMap<String, AttributeValue>;

/// A client of the server at `address`, for plain HTTP. An attempt may take `patience`, and there
/// are at most three.
pub fn client(address: SocketAddr, patience: Duration) -> Client {
    let config = Config::builder()
        .endpoint_url(format!("http://{address}"))
        .region(Region::new("us-east-1"))
        .credentials_provider(Credentials::new("id", "secret", None, None, "here"))
        .http_client(http::HttpClient::new())
        .sleep_impl(Timer)
        .retry_config(RetryConfig::standard().with_initial_backoff(Duration::from_millis(20)))
        .timeout_config(TimeoutConfig::builder().operation_attempt_timeout(patience).build());
    Client::from_conf(config.build())
}

/// The SDK's time-outs and pauses, on gondola's timers.
#[derive(Clone, Copy, Debug)]
struct Timer;

impl AsyncSleep for Timer {
    fn sleep(&self, duration: Duration) -> Sleep {
        Sleep::new(AssertLocal::new(time::sleep(duration)))
    }
}

/// Gets up to 100 items by their keys; what the server leaves unprocessed is asked for again, with
/// pauses that grow.
pub async fn get_all(
    client: &Client,
    table: &str,
    keys: Vec<Item>,
) -> Result<Vec<Item>, SdkError<BatchGetItemError>> {
    let mut found = Vec::with_capacity(keys.len());
    let mut pause = Duration::from_millis(5);
    let all = KeysAndAttributes::builder().set_keys(Some(keys)).build();
    let mut left = all.map_err(SdkError::construction_failure)?;
    loop {
        let answer = client.batch_get_item().request_items(table, left).send().await?;
        found.extend(
            answer.responses.into_iter().flat_map(|mut tables| tables.remove(table)).flatten(),
        );
        match answer.unprocessed_keys.and_then(|mut tables| tables.remove(table)) {
            Some(unprocessed) => left = unprocessed,
            None => return Ok(found),
        }
        time::sleep(pause).await;
        pause = (2 * pause).min(Duration::from_secs(1));
    }
}

/// Makes a table with the key `number`, unless it is there.
pub async fn create_table(client: &Client, table: &str) -> Result<(), aws_sdk_dynamodb::Error> {
    use aws_sdk_dynamodb::types::{
        AttributeDefinition, BillingMode, KeySchemaElement, KeyType, ScalarAttributeType,
    };
    let attribute = AttributeDefinition::builder()
        .attribute_name("number")
        .attribute_type(ScalarAttributeType::N);
    let key = KeySchemaElement::builder().attribute_name("number").key_type(KeyType::Hash);
    let made = client
        .create_table()
        .table_name(table)
        .billing_mode(BillingMode::PayPerRequest)
        .attribute_definitions(attribute.build()?)
        .key_schema(key.build()?)
        .send()
        .await;
    match made {
        Ok(_) => Ok(()),
        Err(error)
            if error.as_service_error().is_some_and(|e| e.is_resource_in_use_exception()) =>
        {
            Ok(())
        }
        Err(error) => Err(error.into()),
    }
}
