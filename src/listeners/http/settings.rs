//! The `[http]` section: what the HTTPS door takes and for whom.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::auth::{self, Authenticator, BadConfig, IssuerConfig, Kind};
use crate::event::Topic;

/// The HTTPS door.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Most events in one request. Default 10000. More are refused with 413.
    pub max_events: u32,
    /// Web origins whose pages may use the gate, each exactly as a browser sends it (`https://app.example`), or `*` for all.
    /// Default none: pages of other origins are served without CORS headers, so that browsers keep the answer from them.
    pub cors_allowed_origins: Vec<String>,
    /// Topic of native events that name none, neither in the path nor in the event nor in the query. Default none: they are refused.
    pub default_topic: String,
    /// Topics (exact names) for which a native event without `data` is itself the data. Default none: such events are refused.
    pub bare_topics: Vec<String>,
    /// Number of proxies in front whose `X-Forwarded-For` and `X-Forwarded-Proto` are believed. Default 0: the headers are ignored.
    pub trusted_hops: u8,
    /// Whether Kafka is spoken over WebSocket at `/kafka`, on listeners that have both doors: HTTP/1.1, binary frames, and in
    /// them what is spoken on the Kafka port. Pages of other origins than `cors_allowed_origins` are refused. Default true.
    pub websocket: bool,
    /// The Firebase callable function.
    pub callable: Callable,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            max_events: 10_000,
            cors_allowed_origins: Vec::new(),
            default_topic: String::new(),
            bare_topics: Vec::new(),
            trusted_hops: 0,
            websocket: true,
            callable: Callable::default(),
        }
    }
}

/// The function that Firebase's `httpsCallable` calls: `POST /<name>`.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Callable {
    /// Name of the function, which is its path. Default `ingestEvent`.
    pub name: String,
    /// Topic of its events. Default `frontend-events`.
    pub topic: String,
    /// Firebase App Check.
    pub app_check: AppCheck,
}

/// What is done with `X-Firebase-AppCheck`, by which an app proves that it is the app.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct AppCheck {
    /// `off`: the header is ignored. `watch`: it is verified, and what fails is counted (`auth_failures`) and let through.
    /// `enforce`: who has no valid one is refused like one without a token. Default `off`.
    pub mode: AppCheckMode,
    /// The number (not the id) of the Firebase project; needed unless `off`.
    pub project_number: String,
    /// Where App Check's keys are. Default Google's.
    pub jwks_url: String,
}

/// How strict App Check is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum AppCheckMode {
    /// Not looked at.
    Off,
    /// Looked at, and let through.
    Watch,
    /// Refused unless valid.
    Enforce,
}

impl Default for AppCheck {
    fn default() -> Self {
        let jwks_url = "https://firebaseappcheck.googleapis.com/v1/jwks".to_owned();
        Self { mode: AppCheckMode::Off, project_number: String::new(), jwks_url }
    }
}

impl AppCheck {
    /// Who verifies it; none: nobody has to.
    pub fn authenticator(&self) -> Result<Option<Authenticator>, BadConfig> {
        if self.mode == AppCheckMode::Off {
            return Ok(None);
        }
        let issuer = IssuerConfig {
            kind: Kind::Oidc,
            issuer: Some(format!("https://firebaseappcheck.googleapis.com/{}", self.project_number)),
            audience: Some(format!("projects/{}", self.project_number)),
            jwks_url: Some(self.jwks_url.clone()),
            ..IssuerConfig::default()
        };
        let issuers = BTreeMap::from([("app-check".to_owned(), issuer)]);
        Authenticator::new(&auth::Config { issuers, ..auth::Config::default() }).map(Some)
    }
}

impl Default for Callable {
    fn default() -> Self {
        Self { name: "ingestEvent".to_owned(), topic: "frontend-events".to_owned(), app_check: AppCheck::default() }
    }
}

impl Config {
    /// What is wrong with the section: the key below it, and what is expected.
    pub fn mistakes(&self) -> Vec<(String, String)> {
        let mut mistakes = Vec::new();
        let mut wrong = |key: &str, what: String| mistakes.push((key.to_owned(), what));
        if self.max_events == 0 {
            wrong("max_events", "must be at least 1".to_owned());
        }
        for origin in self.cors_allowed_origins.iter().filter(|origin| !is_origin(origin)) {
            wrong(
                "cors_allowed_origins",
                format!("`{origin}` is not an origin: write `https://host` or `https://host:port` without a path, or `*`"),
            );
        }
        let default_topic = (!self.default_topic.is_empty()).then_some(&self.default_topic);
        let topics = default_topic.map(|topic| ("default_topic", topic)).into_iter();
        let topics = topics.chain(self.bare_topics.iter().map(|topic| ("bare_topics", topic)));
        for (key, topic) in topics.chain([("callable.topic", &self.callable.topic)]) {
            if let Err(error) = Topic::new(topic) {
                wrong(key, format!("`{topic}`: {error}"));
            }
        }
        if !is_function_name(&self.callable.name) {
            wrong("callable.name", format!("`{}` is not a function's name: write letters, digits, `-` and `_`", self.callable.name));
        }
        let app_check = &self.callable.app_check;
        let number = &app_check.project_number;
        if app_check.mode != AppCheckMode::Off && (number.is_empty() || !number.bytes().all(|b| b.is_ascii_digit())) {
            wrong(
                "callable.app_check.project_number",
                "must be the project's number, digits alone (Firebase console, project settings)".to_owned(),
            );
        }
        mistakes
    }
}

fn is_origin(text: &str) -> bool {
    let Some((scheme, host)) = text.split_once("://") else { return text == "*" };
    matches!(scheme, "http" | "https")
        && !host.is_empty()
        && host.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'.' | b'-' | b':' | b'[' | b']'))
}

fn is_function_name(name: &str) -> bool {
    // The door's own paths stay its own.
    let taken = ["livez", "readyz", "live", "ready", "v1", "kafka"].contains(&name);
    !taken && !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_are_without_mistakes() {
        assert_eq!(Config::default().mistakes(), Vec::new());
    }

    #[test]
    fn all_mistakes_are_named_at_once() {
        let config = Config {
            max_events: 0,
            cors_allowed_origins: ["*", "https://app.example", "http://[::1]:4200", "https://app.example/", "app.example", "HTTPS://X"]
                .map(str::to_owned)
                .to_vec(),
            default_topic: "__internal".to_owned(),
            bare_topics: vec!["a b".to_owned()],
            callable: Callable { name: "readyz".to_owned(), topic: String::new(), ..Callable::default() },
            ..Config::default()
        };
        let keys: Vec<_> = config.mistakes().into_iter().map(|(key, _)| key).collect();
        assert_eq!(
            keys,
            [
                "max_events",
                "cors_allowed_origins",
                "cors_allowed_origins",
                "cors_allowed_origins",
                "default_topic",
                "bare_topics",
                "callable.topic",
                "callable.name"
            ]
        );
    }

    #[test]
    fn unknown_keys_are_refused() {
        assert!(toml::from_str::<Config>("max_bodies = 1").is_err());
        assert!(toml::from_str::<Config>("[callable]\nname = \"x\"").is_ok());
    }
}
