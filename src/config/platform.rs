//! The platform's own variables (`PORT`, `REDPANDA_BROKERS`, …), which work as they are.
//!
//! The one table of them is here, as data: variable, the option that it sets, and how its text is read. A test holds
//! that every option exists. `SLUICEGATE__…` overrules them, and they overrule the file.

use super::draft::Draft;
use super::environment::{self, Env};
use Reading::{Capitals, Means, Port, Redis, Suggests, Switch, Text};

/// One variable and one option that it sets.
pub(super) struct Name {
    /// The variable.
    pub variable: &'static str,
    /// The option.
    pub option: &'static str,
    read: Reading,
    /// Whether `<variable>_FILE` may name a file that holds the value.
    secret: bool,
}

/// How a variable's text becomes the option's.
enum Reading {
    /// As it is.
    Text,
    /// In capitals, as such names are written.
    Capitals,
    /// A port on every address.
    Port,
    /// A host, with or without its port, as the address of a Redis.
    Redis,
    /// Whatever the variable says, the option gets this.
    Means(&'static str),
    /// The first for any text but a no (`false`, `0`), the second for that.
    Switch(&'static str, &'static str),
    /// This, unless the file says otherwise.
    Suggests(&'static str),
}

const fn name(variable: &'static str, option: &'static str, read: Reading) -> Name {
    Name { variable, option, read, secret: false }
}

const fn secret(variable: &'static str, option: &'static str) -> Name {
    Name { variable, option, read: Reading::Text, secret: true }
}

/// All of them, in the order in which they are applied: of two that set the same option, the later one wins.
pub(super) const NAMES: &[Name] = &[
    name("PORT", "listeners.bind", Port),
    name("PORT", "listeners.tls", Means("front")),
    name("K_SERVICE", "telemetry.format", Means("json")),
    name("STRUCTURED_LOGS", "telemetry.format", Switch("json", "pretty")),
    name("GOOGLE_CLOUD_PROJECT", "telemetry.project", Text),
    name("GOOGLE_CLOUD_PROJECT", "auth.issuers.firebase.kind", Means("firebase")),
    name("GOOGLE_CLOUD_PROJECT", "auth.issuers.firebase.project", Text),
    name("GOOGLE_CLOUD_PROJECT", "auth.issuers.firebase.topics", Suggests("frontend-events")),
    name("GOOGLE_CLOUD_PROJECT", "auth.issuers.firebase.tier_claim", Suggests("tier")),
    name("FIREBASE_PROJECT_ID", "auth.issuers.firebase.kind", Means("firebase")),
    name("FIREBASE_PROJECT_ID", "auth.issuers.firebase.project", Text),
    name("FIREBASE_PROJECT_ID", "auth.issuers.firebase.topics", Suggests("frontend-events")),
    name("FIREBASE_PROJECT_ID", "auth.issuers.firebase.tier_claim", Suggests("tier")),
    name("GOOGLE_CLOUD_PROJECT", "inbox.firestore.project", Text),
    name("FIREBASE_PROJECT_ID", "inbox.firestore.project", Text),
    name("FIRESTORE_EMULATOR_HOST", "inbox.firestore.emulator", Text),
    secret("FIREBASE_SERVICE_ACCOUNT_JSON", "inbox.firestore.service_account_json"),
    name("GOOGLE_APPLICATION_CREDENTIALS", "inbox.firestore.service_account", Text),
    name("GCE_METADATA_HOST", "inbox.firestore.metadata_host", Text),
    name("SLUICEGATE_KAFKA_USER", "auth.kafka_user", Text),
    secret("SLUICEGATE_KAFKA_PASSWORD", "auth.kafka_password"),
    name("CORS_ALLOWED_ORIGINS", "http.cors_allowed_origins", Text),
    name("PUBLIC_REDPANDA_HOST", "kafka.advertised_host", Text),
    name("PUBLIC_REDPANDA_PORT", "kafka.advertised_port", Text),
    name("REDPANDA_BROKERS", "sink.brokers", Text),
    name("REDPANDA_SECURITY_PROTOCOL", "sink.security_protocol", Capitals),
    name("REDPANDA_SASL_MECHANISM", "sink.sasl_mechanism", Capitals),
    name("REDPANDA_SASL_USERNAME", "sink.sasl_username", Text),
    secret("REDPANDA_SASL_PASSWORD", "sink.sasl_password"),
    name("REDPANDA_SSL_CA_B64", "sink.ssl_ca_b64", Text),
    name("REDPANDA_SSL_CERT_B64", "sink.ssl_cert_b64", Text),
    secret("REDPANDA_SSL_KEY_B64", "sink.ssl_key_b64"),
    name("DRAGONFLY_HOST", "limits.shared.url", Redis),
    secret("REDIS_URL", "limits.shared.url"),
];

/// Takes every variable of the table in that is set.
pub(super) fn overlay(draft: &mut Draft, env: &Env) {
    for name in NAMES {
        if let Some(text) = env.get(name.variable) {
            apply(draft, name, text, name.variable);
        }
        let file = format!("{}_FILE", name.variable);
        match env.get(&file).filter(|_| name.secret).map(environment::secret_file) {
            Some(_) if env.get(name.variable).is_some() => {
                draft.mistake(
                    &format!("environment {file}"),
                    name.option,
                    &format!("{} is set as well: keep one of the two", name.variable),
                );
            }
            Some(Ok(text)) => apply(draft, name, &text, &file),
            Some(Err(problem)) => draft.mistake(&format!("environment {file}"), name.option, &problem),
            None => {}
        }
    }
    draft.check();
}

fn apply(draft: &mut Draft, name: &Name, text: &str, variable: &str) {
    let segments: Vec<String> = name.option.split('.').map(str::to_owned).collect();
    let text = match name.read {
        Text => text.to_owned(),
        Capitals => text.to_ascii_uppercase(),
        Means(this) => this.to_owned(),
        Switch(yes, no) => if is_no(text) { no } else { yes }.to_owned(),
        Suggests(_) if draft.says(&segments) => return,
        Suggests(this) => this.to_owned(),
        Redis => redis(text.trim()),
        Port => match text.trim().parse::<u16>() {
            Ok(port) => format!("0.0.0.0:{port}"),
            Err(_) => {
                let problem = "expected a port, a whole number from 0 to 65535";
                return draft.mistake(&format!("environment {variable}"), name.option, problem);
            }
        },
    };
    draft.set(&segments, &text, variable);
}

/// Some write the whole address where a host is asked for.
fn redis(host: &str) -> String {
    match host.parse::<std::net::Ipv6Addr>() {
        _ if host.contains("://") => host.to_owned(),
        Ok(address) => format!("redis://[{address}]"),
        Err(_) => format!("redis://{host}"),
    }
}

fn is_no(text: &str) -> bool {
    ["0", "false", "no", "off"].iter().any(|no| text.trim().eq_ignore_ascii_case(no))
}
