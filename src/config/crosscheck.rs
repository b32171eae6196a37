//! What does not go together across sections: openness beyond loopback must be meant.

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
            "nobody could be let in: {bind} is not loopback, so there is no development token; expected a section [auth.issuers.NAME] (FIREBASE_PROJECT_ID makes one), or auth.users_file"
        );
        found.push(("auth", vec![("issuers".to_owned(), problem)]));
    }
    found
}
