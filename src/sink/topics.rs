//! The routes' topics as the broker has them, and the making of missing ones, which only `sluicegate topics --create` does.

use std::time::Duration;

use rdkafka::admin::{AdminOptions, NewTopic, TopicReplication};
use rdkafka::types::RDKafkaErrorCode;

use crate::auth::grants::Grant;
use crate::route::RouteConfig;

use super::{Config, catalog};

const TIMEOUT: Duration = Duration::from_secs(10);

/// One of the routes' topics at the broker.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Found {
    /// The topic, or a prefix that ends in `*`.
    pub topic: String,
    /// Its partitions; none: the broker does not have it. For a prefix, those of all its topics together.
    pub partitions: Option<usize>,
    /// Whether it was made just now.
    pub created: bool,
}

impl Found {
    /// `there`, `created` or `missing`.
    pub const fn state(&self) -> &'static str {
        match (self.partitions, self.created) {
            (None, _) => "missing",
            (Some(_), true) => "created",
            (Some(_), false) => "there",
        }
    }
}

/// Lists the routes' topics; with `create`, makes the missing ones that a route names exactly.
pub async fn list(config: &Config, routes: &[RouteConfig], create: bool) -> Result<Vec<Found>, String> {
    if config.brokers.is_empty() {
        return Err("no broker is configured: set REDPANDA_BROKERS or sink.brokers".into());
    }
    let mut found = look(config, routes).await?;
    if create {
        make(config, routes, &mut found).await?;
    }
    Ok(found)
}

async fn look(config: &Config, routes: &[RouteConfig]) -> Result<Vec<Found>, String> {
    let settings = config.client().map_err(|(key, what)| format!("sink.{key} {what}"))?;
    let fetched = tokio::task::spawn_blocking(move || {
        let admin = catalog::admin(&settings)?;
        let metadata = admin.inner().fetch_metadata(None, TIMEOUT)?;
        Ok(metadata.topics().iter().map(|topic| (topic.name().to_owned(), topic.partitions().len())).collect::<Vec<_>>())
    });
    let topics = fetched
        .await
        .map_err(|error| error.to_string())?
        .map_err(|error: rdkafka::error::KafkaError| format!("the broker at {} does not answer: {error}", config.brokers.join(",")))?;
    let partitions = |grant: &Grant| {
        let fits = |name: &str| match grant {
            Grant::Exact(exact) => name == exact,
            Grant::Prefix(prefix) => name.starts_with(prefix.as_str()) && !name.starts_with("__"),
        };
        let counts: Vec<usize> = topics.iter().filter(|(name, _)| fits(name)).map(|(_, count)| *count).collect();
        (!counts.is_empty()).then(|| counts.iter().sum())
    };
    Ok(routes.iter().map(|route| Found { topic: route.topic.to_string(), partitions: partitions(&route.topic), created: false }).collect())
}

async fn make(config: &Config, routes: &[RouteConfig], found: &mut [Found]) -> Result<(), String> {
    let settings = config.client().map_err(|(key, what)| format!("sink.{key} {what}"))?;
    let admin = catalog::admin(&settings).map_err(|error| error.to_string())?;
    let options = AdminOptions::new().operation_timeout(Some(TIMEOUT)).request_timeout(Some(TIMEOUT));
    for (route, topic) in routes.iter().zip(found).filter(|(_, topic)| topic.partitions.is_none()) {
        let Grant::Exact(name) = &route.topic else { continue };
        let new = NewTopic::new(name, route.partitions, TopicReplication::Fixed(route.replication));
        let answers = admin.create_topics([&new], &options).await.map_err(|error| format!("topic `{name}` could not be made: {error}"))?;
        match answers.first() {
            Some(Err((_, code))) if *code != RDKafkaErrorCode::TopicAlreadyExists => {
                return Err(format!("topic `{name}` could not be made: {code}"));
            }
            _ => {
                topic.partitions = usize::try_from(route.partitions).ok();
                topic.created = true;
            }
        }
    }
    Ok(())
}
