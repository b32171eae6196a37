//! The settings of the Firestore inbox: `[inbox.firestore]`.
//!
//! What always holds: what stands in a document's name is checked here, so that no name has to be escaped.

use std::path::PathBuf;
use std::time::Duration;

use http::Uri;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::document::is_collection;
use crate::route::Documents;
use crate::units::{Secret, Span};

/// Bytes of a project's id and of `source`: far above what anybody writes.
const MAX_ID_BYTES: usize = 200;

/// Which database, who we are to it, and how much it is asked to do.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// The project of the database. Without one: the service account's, else the one that the metadata server names. Also
    /// `FIREBASE_PROJECT_ID` or `GOOGLE_CLOUD_PROJECT`.
    pub project: Option<String>,
    /// The database's name in the project, `(default)` or another.
    pub database: String,
    /// The collection for everything but commands. It is this gate's and its siblings', who share it; its leases are in
    /// `<collection>_leases`. A route may name one of its own.
    pub collection: String,
    /// Collections that `collection` or a route has named before: what waits in them is replayed, and nothing is stored there.
    pub former_collections: Vec<String>,
    /// The collection for routes with `shape = "command"`. It is drained by somebody else's program.
    pub command_collection: String,
    /// What the field `source` says in the documents of commands.
    pub source: String,
    /// A Firestore emulator, `host:port`, instead of the service: no TLS, no credentials, nothing durable. Also
    /// `FIRESTORE_EMULATOR_HOST`. Beyond loopback only with `insecure` or `inbox.allow_volatile`, on Cloud Run only with the latter.
    pub emulator: Option<String>,
    /// A file with a service account's key, as Google hands it out (JSON). Without one, and without
    /// `service_account_json`: the account of the machine or the container, from the metadata server. Also
    /// `GOOGLE_APPLICATION_CREDENTIALS`.
    pub service_account: Option<PathBuf>,
    /// The same JSON itself; it wins over the file. Only from `FIREBASE_SERVICE_ACCOUNT_JSON` or a file.
    pub service_account_json: Secret,
    /// Where the service is: `https://` and a host, or `http://` on loopback for tests.
    pub endpoint: String,
    /// The metadata server's `host` or `host:port`. Also `GCE_METADATA_HOST`.
    pub metadata_host: String,
    /// How long a write may take, and a query five times as long. The broker is given up so much, and 300 ms, before
    /// `sink.answer_deadline`. An event whose write takes longer may be stored all the same, and is answered as one
    /// of which that is not known.
    pub call_timeout: Span,
    /// Writes a second, at most.
    pub writes_per_second: u32,
    /// Writes a second after a time without any; from there they may grow by half every 5 minutes. Firestore asks for 500.
    pub ramp_from: u32,
    /// Writes a day (of UTC), at most: a bound on what an outage can cost. Beyond, events are refused with `unavailable`.
    pub writes_per_day: u64,
    /// Of so many writes one is read back before it is acknowledged; one that is not there is made and read back once more. 0: none.
    pub audit_one_in: u32,
    /// How long an instance that has died keeps others from replaying what it was replaying.
    pub lease: Span,
    /// When rows are replayed. `background`: whenever the broker takes them. `request`: only while a request is being
    /// answered, for a host that gives no CPU between requests.
    pub replay: ReplayWhen,
}

/// When rows are replayed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum ReplayWhen {
    /// Whenever the broker takes them.
    Background,
    /// While a request is being answered.
    Request,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            project: None,
            database: "deml".to_owned(),
            collection: "sluicegate_inbox".to_owned(),
            former_collections: Vec::new(),
            command_collection: "frontend_command_inbox".to_owned(),
            source: "firebase-fallback".to_owned(),
            emulator: None,
            service_account: None,
            service_account_json: Secret::default(),
            endpoint: "https://firestore.googleapis.com".to_owned(),
            metadata_host: "metadata.google.internal".to_owned(),
            call_timeout: Span::secs(1),
            writes_per_second: 5_000,
            ramp_from: 500,
            writes_per_day: 20_000_000,
            audit_one_in: 1_000,
            lease: Span::secs(30),
            replay: ReplayWhen::Background,
        }
    }
}

impl Config {
    /// The collection of the leases.
    pub fn leases(&self) -> String {
        format!("{}_leases", self.collection)
    }

    /// What it holds, and where, for the routes.
    pub fn documents(&self) -> Documents {
        Documents {
            source: self.source.clone(),
            command_collection: self.command_collection.clone(),
            collection: self.collection.clone(),
            leases: self.leases(),
        }
    }

    /// The emulator, if it is not on this machine.
    pub fn emulator_elsewhere(&self) -> Option<&str> {
        self.emulator.as_deref().filter(|place| !place.parse::<http::uri::Authority>().is_ok_and(|place| is_loopback(place.host())))
    }

    /// Where calls go: the emulator, if there is one.
    pub(super) fn url(&self) -> String {
        self.emulator.as_ref().map_or_else(|| self.endpoint.clone(), |emulator| format!("http://{emulator}"))
    }

    /// Mistakes that only this area can see.
    pub fn mistakes(&self) -> Vec<(String, String)> {
        let mut found = Vec::new();
        let mut expect = |holds: bool, key: &str, problem: &str| {
            if !holds {
                found.push((key.to_owned(), problem.to_owned()));
            }
        };
        self.names(&mut expect);
        self.places(&mut expect);
        let within = |span: Span, low: u64, high: u64| (Duration::from_millis(low)..=Duration::from_secs(high)).contains(&span.get());
        expect(within(self.call_timeout, 50, 10), "call_timeout", "expected 50ms to 10s");
        expect(within(self.lease, 5_000, 600), "lease", "expected 5s to 10m");
        expect(self.writes_per_second > 0, "writes_per_second", "must be at least 1");
        expect((1..=self.writes_per_second).contains(&self.ramp_from), "ramp_from", "expected 1 to writes_per_second");
        expect(self.writes_per_day > 0, "writes_per_day", "must be at least 1");
        found
    }

    fn names(&self, expect: &mut impl FnMut(bool, &str, &str)) {
        let project = self.project.as_deref().is_none_or(is_project);
        expect(project, "project", "expected a project's id: lower-case letters, digits, `-`, `.`, `:`");
        let database = self.database == "(default)" || is_database(&self.database);
        expect(
            database,
            "database",
            "expected `(default)`, or 4 to 63 lower-case letters, digits and `-`, the first a letter, the last none of `-`",
        );
        let id = "expected the name of a collection: up to 200 letters, digits, `_`, `-`, `.`; not `__x__`";
        expect(is_collection(&self.collection), "collection", id);
        expect(is_collection(&self.command_collection), "command_collection", id);
        let former = |name: &String| is_collection(name) && *name != self.command_collection;
        expect(
            self.former_collections.iter().all(former),
            "former_collections",
            "expected names of collections, none of them `command_collection`",
        );
        let apart = self.command_collection != self.collection && self.command_collection != self.leases();
        expect(apart, "command_collection", "expected another one than `collection` and its leases: it is drained by somebody else");
        expect((1..=MAX_ID_BYTES).contains(&self.source.len()), "source", "expected 1 to 200 bytes");
    }

    fn places(&self, expect: &mut impl FnMut(bool, &str, &str)) {
        let emulator = self.emulator.as_deref().is_none_or(|place| is_place(place) && place.contains(':'));
        expect(emulator, "emulator", "expected `host:port`");
        expect(is_place(&self.metadata_host), "metadata_host", "expected `host` or `host:port`");
        expect(is_endpoint(&self.endpoint), "endpoint", "expected `https://host`, or `http://` on loopback, without a path");
    }
}

/// A database's id.
fn is_database(text: &str) -> bool {
    let plain = text.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-');
    plain && (4..=63).contains(&text.len()) && text.starts_with(|first: char| first.is_ascii_lowercase()) && !text.ends_with('-')
}

/// A project's id; old ones have a domain before a colon.
pub(super) fn is_project(text: &str) -> bool {
    let plain = text.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'-' | b'.' | b':'));
    plain && (1..=MAX_ID_BYTES).contains(&text.len()) && !text.starts_with('.')
}

fn is_place(text: &str) -> bool {
    let authority = text.parse::<http::uri::Authority>();
    !text.contains('@') && authority.is_ok_and(|place| !place.host().is_empty() && (!text.ends_with(':')))
}

fn is_endpoint(text: &str) -> bool {
    let Ok(uri) = text.parse::<Uri>() else { return false };
    let (Some(scheme), Some(authority)) = (uri.scheme_str(), uri.authority()) else { return false };
    let bare = matches!(uri.path(), "" | "/") && uri.query().is_none() && !authority.as_str().contains('@');
    bare && !authority.host().is_empty() && (scheme == "https" || (scheme == "http" && is_loopback(authority.host())))
}

fn is_loopback(host: &str) -> bool {
    let host = host.trim_start_matches('[').trim_end_matches(']');
    host == "localhost" || host.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys(change: impl FnOnce(&mut Config)) -> Vec<String> {
        let mut config = Config::default();
        change(&mut config);
        config.mistakes().into_iter().map(|(key, _)| key).collect()
    }

    #[test]
    fn what_is_shipped_has_no_mistake() {
        assert_eq!(keys(|_| ()), [""; 0]);
    }

    #[test]
    fn names_that_firestore_would_not_take_are_mistakes() {
        for name in ["", "a/b", ".", "..", "__x__", "ä", "a b", &"x".repeat(201)] {
            assert_eq!(keys(|config| name.clone_into(&mut config.collection)), ["collection"], "{name}");
            assert_eq!(keys(|config| config.project = Some(name.to_owned()))[..1], ["project"], "{name}");
        }
        assert_eq!(keys(|config| config.command_collection = "sluicegate_inbox_leases".to_owned()), ["command_collection"]);
        assert_eq!(keys(|config| config.command_collection = config.collection.clone()), ["command_collection"]);
        assert_eq!(keys(|config| config.former_collections = vec![config.command_collection.clone()]), ["former_collections"]);
        for name in ["(other)", "", "abc", "Deml", "1abc", "abc-", "a_bc", &"x".repeat(64)] {
            assert_eq!(keys(|config| name.clone_into(&mut config.database)), ["database"], "{name}");
        }
        assert_eq!(keys(|config| config.database = "(default)".to_owned()), [""; 0]);
        assert_eq!(keys(|config| config.project = Some("example.com:my-project-1".to_owned())), [""; 0]);
    }

    #[test]
    fn tokens_go_out_in_the_clear_only_to_loopback() {
        for endpoint in ["http://firestore.googleapis.com", "http://10.0.0.1:80", "https://", "firestore", "https://a@b", "https://a/b", ""]
        {
            assert_eq!(keys(|config| endpoint.clone_into(&mut config.endpoint)), ["endpoint"], "{endpoint}");
        }
        for endpoint in ["https://restricted.googleapis.com", "http://127.0.0.1:1", "http://[::1]:1", "https://localhost:8443/"] {
            assert_eq!(keys(|config| endpoint.clone_into(&mut config.endpoint)), [""; 0], "{endpoint}");
        }
    }

    #[test]
    fn an_emulator_is_a_host_and_a_port() {
        for emulator in ["http://127.0.0.1:1", "127.0.0.1", "", "a:", "a@b:1"] {
            assert_eq!(keys(|config| config.emulator = Some(emulator.to_owned())), ["emulator"], "{emulator}");
        }
        assert_eq!(keys(|config| config.emulator = Some("localhost:8080".to_owned())), [""; 0]);
        for (emulator, here) in
            [("localhost:1", true), ("127.0.0.1:1", true), ("[::1]:1", true), ("firestore:1", false), ("10.0.0.1:1", false)]
        {
            let config = Config { emulator: Some(emulator.to_owned()), ..Config::default() };
            assert_eq!(config.emulator_elsewhere().is_none(), here, "{emulator}");
        }
    }
}
