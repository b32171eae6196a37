//! What a principal may send to: topics by exact name or by prefix (`orders`, `telemetry-*`, `*`); and whether it administers.
//!
//! What always holds: no grant of topics, `*` included, makes an administrator; that is said apart, or it is not so.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::event::{MAX_TOPIC_LENGTH, Topic};

/// One grant: an exact topic, or all that start with a prefix.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Grant {
    /// This topic.
    Exact(String),
    /// All topics that start so; written with a `*` at the end.
    Prefix(String),
}

impl Grant {
    /// Whether the topic is one of those.
    pub fn covers(&self, topic: &Topic) -> bool {
        match self {
            Self::Exact(name) => topic.as_str() == name,
            Self::Prefix(prefix) => topic.as_str().starts_with(prefix.as_str()),
        }
    }
}

impl FromStr for Grant {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (name, prefix) = match text.strip_suffix('*') {
            Some(name) => (name, true),
            None => (text, false),
        };
        let legal = name.len() <= MAX_TOPIC_LENGTH && name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-'));
        if !legal || (name.is_empty() && !prefix) {
            return Err(format!("`{text}` is not a grant: write a topic, or a prefix that ends in `*`"));
        }
        Ok(if prefix { Self::Prefix(name.to_owned()) } else { Self::Exact(name.to_owned()) })
    }
}

impl fmt::Display for Grant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exact(name) => f.write_str(name),
            Self::Prefix(prefix) => write!(f, "{prefix}*"),
        }
    }
}

impl<'de> Deserialize<'de> for Grant {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

impl Serialize for Grant {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl JsonSchema for Grant {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Grant".into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "format": "grant" })
    }
}

/// All grants of a principal.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Grants {
    topics: Arc<[Grant]>,
    admin: bool,
}

impl Grants {
    /// Collects grants of topics. Whoever has them administers nothing.
    pub fn new(grants: impl IntoIterator<Item = Grant>) -> Self {
        Self { topics: grants.into_iter().collect(), admin: false }
    }

    /// The same topics, and whether their holder administers.
    pub fn with_admin(self, admin: bool) -> Self {
        Self { admin, ..self }
    }

    /// Whether one of them covers the topic.
    pub fn cover(&self, topic: &Topic) -> bool {
        self.topics.iter().any(|grant| grant.covers(topic))
    }

    /// Whether their holder administers the gate.
    pub fn administer(&self) -> bool {
        self.admin
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn grants_are_exact_or_by_prefix_and_nothing_else() {
        let topic = |name| Topic::new(name).expect("a topic");
        let grants = Grants::new(["orders".parse().expect("exact"), "tele-*".parse().expect("prefix")]);
        assert!(grants.cover(&topic("orders")));
        assert!(grants.cover(&topic("tele-raw")));
        assert!(!grants.cover(&topic("orders2")));
        assert!(!grants.cover(&topic("tele")));
        assert!(!Grants::default().cover(&topic("orders")));
        for text in ["", "a*b", "a b", "ü*"] {
            assert!(text.parse::<Grant>().is_err(), "{text}");
        }
    }

    #[test]
    fn no_grant_of_topics_makes_an_administrator() {
        let words = ["*", "admin", "admin*"].map(|word| word.parse().expect("a grant"));
        let grants = Grants::new(words);
        assert!(!grants.administer());
        assert_ne!(grants.clone().with_admin(true), grants, "who becomes one is another somebody");
        assert!(grants.with_admin(true).administer());
        assert!(!Grants::default().with_admin(true).cover(&Topic::new("orders").expect("a topic")), "and sends nothing by it");
    }
}
