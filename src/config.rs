//! The configuration: the areas' `Config` structs, read from one TOML file and the environment.
//!
//! What always holds: defaults < file < the platform's variables < `SLUICEGATE__SECTION__KEY`; one run reports every
//! mistake, each with where it was written, its key, and what is expected; a secret comes from a variable or from a file
//! of its own, and is in no message and no printed configuration.

mod crosscheck;
mod draft;
mod environment;
mod platform;
mod print;
mod schema;

use std::fmt;
use std::path::Path;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::listeners::http as door;
use crate::units::Span;
use crate::{admin, auth, inbox, journal, limits, listeners, route, sink, telemetry};
use draft::{Draft, Origins};
pub use environment::Env;

/// Everything that can be set, each area's part beside its code.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Allows what is unsafe beyond loopback: TLS or authentication switched off. Default false, and then either is a mistake.
    pub insecure: bool,
    /// The doors' sockets: address, TLS, connections and their deadlines.
    pub listeners: listeners::Config,
    /// The HTTPS door: its routes, bodies and origins.
    pub http: door::Config,
    /// The OTLP door: telemetry of OpenTelemetry's SDKs and Collectors, over HTTP and gRPC.
    pub otlp: listeners::otlp::Config,
    /// The Kafka door: what producers are told to connect to, and its bounds.
    pub kafka: listeners::kafka::Config,
    /// Who is let in: the issuers of tokens and their keys, and users with passwords.
    pub auth: auth::Config,
    /// How much is let in: bytes in flight in all, and quotas by tier.
    pub limits: limits::Config,
    /// The topics that events may go to, each a section `[[routes]]`. The first `[[routes]]` that is written takes the
    /// place of the default ones.
    pub routes: Vec<route::RouteConfig>,
    /// The headers that the gate writes into every record.
    pub headers: route::Config,
    /// The broker: addresses, credentials, deadlines, and librdkafka's own properties.
    pub sink: sink::Config,
    /// Where events are kept durably while the broker does not take them.
    pub inbox: inbox::Config,
    /// The journal of refused events, for `sluicegate trace`.
    pub journal: journal::Config,
    /// The listener for operators: probes, metrics, status.
    pub admin: admin::Config,
    /// Logs.
    pub telemetry: telemetry::Config,
    /// The orderly stop on SIGTERM.
    pub drain: DrainConfig,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            insecure: false,
            listeners: listeners::Config::default(),
            http: door::Config::default(),
            otlp: listeners::otlp::Config::default(),
            kafka: listeners::kafka::Config::default(),
            auth: auth::Config::default(),
            limits: limits::Config::default(),
            routes: route::defaults(),
            headers: route::Config::default(),
            sink: sink::Config::default(),
            inbox: inbox::Config::default(),
            journal: journal::Config::default(),
            admin: admin::Config::default(),
            telemetry: telemetry::Config::default(),
            drain: DrainConfig::default(),
        }
    }
}

/// The times of the orderly stop.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct DrainConfig {
    /// How long every answer says `Connection: close`, and `/readyz` says no, before connections are no longer accepted.
    /// Default 1s.
    pub leaving: Span,
    /// The time for the whole stop. What is left then is named in the log and given up. Default 8s: Cloud Run kills after 10.
    pub limit: Span,
}

impl Default for DrainConfig {
    fn default() -> Self {
        Self { leaving: Span::secs(1), limit: Span::secs(8) }
    }
}

impl DrainConfig {
    fn mistakes(&self) -> Vec<(String, String)> {
        let problem = || ("limit".to_owned(), format!("expected more than drain.leaving ({}), found {}", self.leaving, self.limit));
        (self.limit <= self.leaving).then(problem).into_iter().collect()
    }
}

/// One mistake: where it was written, which key, and what is expected.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mistake {
    /// The file, or `environment NAME`.
    pub place: String,
    /// The key's path, as in `routes[1].topic`; empty where the whole text is meant.
    pub key: String,
    /// What is wrong and what is expected.
    pub problem: String,
}

impl fmt::Display for Mistake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let key = if self.key.is_empty() { String::new() } else { format!("{}: ", self.key) };
        // One line for each, whatever a library puts into its words.
        write!(f, "{}: {key}{}", self.place, self.problem.replace('\n', " "))
    }
}

/// A configuration without mistakes, and where its values came from.
#[derive(Debug, Clone)]
pub struct Loaded {
    /// The configuration.
    pub config: Config,
    origins: Origins,
}

impl Loaded {
    /// The configuration in force as TOML, secrets masked, each value that a variable set with that variable's name.
    pub fn effective(&self) -> String {
        print::effective(&self.config, &self.origins)
    }

    /// What was found wrong later than by reading, `<key>: <problem>`, with the variable that has set the key.
    pub fn located(&self, found: &str) -> String {
        let origin = found.split_once(": ").and_then(|(key, problem)| Some((key, self.origins.get(key)?, problem)));
        origin.map_or_else(|| found.to_owned(), |(key, variable, problem)| format!("environment {variable}: {key}: {problem}"))
    }
}

impl Config {
    /// Reads the file, if there is one, and the environment. All mistakes are reported in one go.
    pub fn load(path: Option<&Path>, env: &Env) -> Result<Loaded, Vec<Mistake>> {
        let mut draft = Draft::of::<Self>();
        if let Some(path) = path {
            let name = path.display().to_string();
            match std::fs::read_to_string(path) {
                Ok(text) => draft.file(&name, &text),
                Err(error) => draft.mistake(&name, "", &format!("cannot be read: {error}")),
            }
        }
        Self::finish(draft, env)
    }

    fn finish(mut draft: Draft, env: &Env) -> Result<Loaded, Vec<Mistake>> {
        platform::overlay(&mut draft, env);
        draft.overrides(env);
        let config: Self = draft.read();
        // What was not understood is not judged: it would not be what was written. (No section: the whole file.)
        let at_fault = draft.sections_at_fault();
        let judge = |section: &str| !at_fault.contains(section) && !at_fault.contains("");
        for (section, mistakes) in config.mistakes().into_iter().filter(|(section, _)| judge(section)) {
            mistakes.iter().for_each(|(key, problem)| draft.judged(section, key, problem));
        }
        if draft.mistakes.is_empty() { Ok(Loaded { config, origins: draft.origins }) } else { Err(draft.mistakes) }
    }

    /// What each area says of its own values, and what does not go together.
    fn mistakes(&self) -> Vec<(&'static str, Vec<(String, String)>)> {
        let mut all = vec![
            ("listeners", self.listeners.mistakes()),
            ("http", self.http.mistakes()),
            ("otlp", self.otlp.mistakes()),
            ("kafka", self.kafka.mistakes()),
            ("auth", self.auth.mistakes()),
            ("limits", self.limits.mistakes()),
            ("routes", route::mistakes(&self.routes)),
            ("headers", self.headers.mistakes()),
            ("sink", self.sink.mistakes()),
            ("inbox", self.inbox.mistakes()),
            ("journal", self.journal.mistakes()),
            ("admin", self.admin.mistakes()),
            ("telemetry", self.telemetry.mistakes()),
            ("drain", self.drain.mistakes()),
        ];
        all.extend(crosscheck::mistakes(self));
        all
    }

    /// Whether this is a developer's own gate: on loopback, and nobody configured who could be let in. Then it makes its
    /// own development token.
    pub fn is_development(&self) -> bool {
        self.listeners.is_loopback() && !self.auth.lets_somebody_in()
    }

    /// `config/sluicegate.toml`: every option with its documentation and default.
    pub fn sample() -> String {
        print::sample::<Self>()
    }
}

#[cfg(test)]
mod tests;
