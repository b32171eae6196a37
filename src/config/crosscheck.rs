//! What does not go together across sections: openness beyond loopback must be meant, and the gate's own credentials are its own.

use super::Config;
use crate::listeners::TlsMode;

type Found = (&'static str, Vec<(String, String)>);

/// Mistakes that no single section can see.
pub(super) fn mistakes(config: &Config) -> Vec<Found> {
    let bind = config.listeners.bind;
    let mut found = Vec::new();
    if config.admin.enabled && config.admin.bind == bind && bind.port() != 0 {
        found.push(("admin", vec![("bind".to_owned(), format!("{bind} is the address of listeners.bind too; expected another one"))]));
    }
    let (own, sink) = (config.auth.given(), &config.sink);
    if own.is_some_and(|own| own.name == sink.sasl_username && own.password == sink.sasl_password) {
        let problem = "sink.sasl_username and sink.sasl_password are the same pair: whoever sends to the gate could go to the broker past it; expected a user of the gate's own";
        found.push(("auth", vec![("kafka_password".to_owned(), problem.to_owned())]));
    }
    if bind.ip().is_loopback() {
        return found;
    }
    if config.listeners.tls == TlsMode::Off && !config.insecure {
        let problem = format!(
            "TLS is off and {bind} is not loopback: expected `files`, or `front` behind a proxy that ends TLS, or `insecure = true`"
        );
        found.push(("listeners", vec![("tls".to_owned(), problem)]));
    }
    if !config.auth.lets_somebody_in() {
        let problem = format!(
            "nobody could be let in: {bind} is not loopback, so there is no development token; expected a section [auth.issuers.NAME] (FIREBASE_PROJECT_ID makes one), or auth.users_file, or SLUICEGATE_KAFKA_USER"
        );
        found.push(("auth", vec![("issuers".to_owned(), problem)]));
    }
    found
}
