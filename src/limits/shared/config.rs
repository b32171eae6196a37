//! Where the shared accounts are, and how patiently they are asked for.
//!
//! What always holds: the address is a secret, because a password may stand in it; what is wrong with it is said without
//! repeating it.

use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use redis::{IntoConnectionInfo, RedisConnectionInfo};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::units::{Secret, Span};

const DEFAULT_PORT: u16 = 6379;

/// What an address looks like, for whoever has written another one.
const EXPECTED: &str = "expected `redis://[user:password@]host[:port][/number]`, or `rediss://…` for TLS, with `%XX` for what an address \
                        cannot hold, and nothing behind it";

/// Quotas that all gates count together, in Redis or Dragonfly. Without an address each gate counts by itself.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// The address, `redis://[user:password@]host[:port][/number]`, or `rediss://` for TLS: one server, no cluster. None: each
    /// gate counts by itself. Also `REDIS_URL`, or `DRAGONFLY_HOST` (`host` or `host:port`).
    pub url: Secret,
    /// A file with the certificate authorities for `rediss://` (PEM). None: the system's.
    pub ca_file: Option<PathBuf>,
    /// How often the gates tell each other what they have admitted. A principal who uses several gates at once gets, once, at
    /// most what they admit within this time beside its burst; it is owed afterwards. Default: 100ms.
    pub interval: Span,
    /// How long a call may take. No request waits for one; after a failure each gate counts by itself, and the server is asked
    /// again after 1 to 30 seconds. Default: 50ms.
    pub timeout: Span,
    /// What the keys begin with. Gates share with those that have the same, with tiers of the same names.
    pub prefix: String,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            url: Secret::default(),
            ca_file: None,
            interval: Span::millis(100),
            timeout: Span::millis(50),
            prefix: "sluicegate:quota".to_owned(),
        }
    }
}

impl Config {
    /// Every mistake in these settings.
    pub fn mistakes(&self) -> Vec<(String, String)> {
        let mut found = Vec::new();
        let mut expect = |holds: bool, key: &str, problem: &str| {
            if !holds {
                found.push((key.to_owned(), problem.to_owned()));
            }
        };
        let within = |span: Span, low: u64, high: u64| (Duration::from_millis(low)..=Duration::from_millis(high)).contains(&span.get());
        expect(self.url.is_empty() || self.place().is_some(), "url", EXPECTED);
        expect(within(self.interval, 10, 10_000), "interval", "expected 10ms to 10s");
        expect(within(self.timeout, 1, 1_000), "timeout", "expected 1ms to 1s");
        let prefix = (1..=100).contains(&self.prefix.len()) && self.prefix.bytes().all(|byte| byte.is_ascii_graphic());
        expect(prefix, "prefix", "expected 1 to 100 letters, digits and signs of ASCII");
        found
    }

    /// The address, taken apart; none: there is none, or it is a mistake.
    pub(super) fn place(&self) -> Option<Place> {
        let url = redis::parse_redis_url(self.url.expose())?;
        let tls = match url.scheme() {
            "redis" => false,
            "rediss" => true,
            _ => return None,
        };
        let host = url.host_str()?.trim_start_matches('[').trim_end_matches(']').to_owned();
        if host.is_empty() || url.query().is_some() || url.fragment().is_some() {
            return None;
        }
        // TLS is ours: the library has its part of the address alone.
        let plain = self.url.expose().trim().replacen("rediss:", "redis:", 1);
        let login = plain.into_connection_info().ok()?.redis_settings().clone();
        Some(Place { port: url.port().unwrap_or(DEFAULT_PORT), host, tls, login })
    }
}

/// An address, taken apart.
#[derive(Clone)]
pub(super) struct Place {
    pub(super) host: String,
    pub(super) port: u16,
    pub(super) tls: bool,
    /// User, password and number of the database.
    pub(super) login: RedisConnectionInfo,
}

impl Place {
    /// Whether what is said to it could be read on the way.
    pub(super) fn is_open(&self) -> bool {
        let here = self.host == "localhost" || self.host.parse::<IpAddr>().is_ok_and(|address| address.to_canonical().is_loopback());
        !self.tls && !here
    }
}

impl std::fmt::Debug for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Place").field("host", &self.host).field("port", &self.port).field("tls", &self.tls).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(url: &str) -> Config {
        Config { url: Secret::new(url), ..Config::default() }
    }

    #[test]
    fn an_address_is_taken_apart() {
        let place = with("redis://alice:p%40ss@redis.internal:6380/3").place().expect("an address");
        assert_eq!((place.host.as_str(), place.port, place.tls), ("redis.internal", 6380, false));
        assert_eq!((place.login.username(), place.login.password(), place.login.db()), (Some("alice"), Some("p@ss"), 3));
        let place = with("rediss://:secret@[::1]").place().expect("an address");
        assert_eq!((place.host.as_str(), place.port, place.tls), ("::1", 6379, true));
        assert_eq!((place.login.username(), place.login.password(), place.login.db()), (None, Some("secret"), 0));
        assert!(!format!("{place:?}").contains("secret"));
    }

    #[test]
    fn what_is_no_address_is_a_mistake_that_does_not_repeat_it() {
        for url in [
            "redis",
            "redis://",
            "http://a",
            "redis+unix:///a",
            "unix:///a",
            "redis://canary:canary@a/x",
            "redis://a/0?protocol=resp3",
            "rediss://a#insecure",
            "canary",
        ] {
            let mistakes = with(url).mistakes();
            assert_eq!(mistakes.len(), 1, "{url}");
            assert!(mistakes[0].0 == "url" && !mistakes[0].1.contains("canary"), "{url}");
        }
        for url in ["", "redis://a", "redis://a/", "rediss://u:p@127.0.0.1:1/15"] {
            assert_eq!(with(url).mistakes(), [], "{url}");
        }
    }

    #[test]
    fn times_and_prefixes_have_bounds() {
        let keys = |config: Config| config.mistakes().into_iter().map(|(key, _)| key).collect::<Vec<_>>();
        assert_eq!(keys(Config { interval: Span::millis(9), timeout: Span::secs(2), ..Config::default() }), ["interval", "timeout"]);
        assert_eq!(keys(Config { prefix: "a b".to_owned(), ..Config::default() }), ["prefix"]);
        assert_eq!(keys(Config { prefix: String::new(), ..Config::default() }), ["prefix"]);
    }

    #[test]
    fn plain_text_beyond_this_machine_is_open() {
        for (url, open) in [
            ("redis://a", true),
            ("rediss://a", false),
            ("redis://localhost", false),
            ("redis://[::1]", false),
            ("redis://127.9.9.9", false),
        ] {
            assert_eq!(with(url).place().expect("an address").is_open(), open, "{url}");
        }
    }
}
