//! What does not go together across sections: openness beyond loopback must be meant, and the gate's own credentials are its own.

use std::time::Duration;

use super::Config;
use crate::inbox::Kind;

type Found = (&'static str, Vec<(String, String)>);

/// Mistakes that no single section can see.
pub(super) fn mistakes(config: &Config) -> Vec<Found> {
    let mut found = Vec::new();
    let admin = config.admin.bind;
    let place = config.listeners.places().into_iter().find(|place| place.bind == admin && admin.port() != 0);
    if let Some(place) = place.filter(|_| config.admin.enabled) {
        let problem = format!("{admin} is the address of listeners.{}bind too; expected another one", place.key);
        found.push(("admin", vec![("bind".to_owned(), problem)]));
    }
    if config.inbox.kind == Kind::Firestore {
        // Rows among commands would be eaten by the commands' reader, and commands among rows by nobody.
        found.push(("routes", config.inbox.firestore.documents().mistakes(&config.routes)));
        found.extend(time_to_store(config));
        found.extend(known_producers(config));
    }
    let (inbox, meant) = (&config.inbox, config.insecure || config.inbox.allow_volatile);
    if let Some(emulator) = inbox.firestore.emulator_elsewhere().filter(|_| inbox.kind == Kind::Firestore && !meant) {
        let problem = format!(
            "`{emulator}` is an emulator beyond loopback: nothing would be durable, and all of it would go in plain text; expected none (FIRESTORE_EMULATOR_HOST), or `insecure = true`, or `inbox.allow_volatile = true`"
        );
        found.push(("inbox", vec![("firestore.emulator".to_owned(), problem)]));
    }
    let (own, sink) = (config.auth.given(), &config.sink);
    if own.is_some_and(|own| own.name == sink.sasl_username && own.password == sink.sasl_password) {
        let problem = "sink.sasl_username and sink.sasl_password are the same pair: whoever sends to the gate could go to the broker past it; expected a user of the gate's own";
        found.push(("auth", vec![("kafka_password".to_owned(), problem.to_owned())]));
    }
    let Some(open) = config.listeners.places().into_iter().find(|place| !place.bind.ip().is_loopback()) else { return found };
    let exposed = if config.insecure { Vec::new() } else { config.listeners.exposed() };
    for (key, bind) in exposed {
        let problem = match key.ends_with("tls") {
            true => format!(
                "TLS is off and {bind} is not loopback: expected `files`, or `front` behind a proxy that ends TLS, or `insecure = true`"
            ),
            false => format!("plain text is spoken too and {bind} is not loopback: expected false, or `insecure = true`"),
        };
        found.push(("listeners", vec![(key, problem)]));
    }
    let bind = open.bind;
    if !config.auth.lets_somebody_in() {
        let problem = format!(
            "nobody could be let in: {bind} is not loopback, so there is no development token; expected a section [auth.issuers.NAME] (FIREBASE_PROJECT_ID makes one), or auth.users_file, or SLUICEGATE_KAFKA_USER"
        );
        found.push(("auth", vec![("issuers".to_owned(), problem)]));
    }
    found
}

/// What is kept with a producer's numbers must be known for the same producer's after a restart.
fn known_producers(config: &Config) -> Option<Found> {
    let wanted = config.inbox.idempotent == Some(true) && config.kafka.producer_id_key.is_empty();
    let problem = "required beside `inbox.idempotent = true` with Firestore: a gate that starts again would not know its producers by their ids; expected the same 32 random characters or more on every gate (SLUICEGATE__KAFKA__PRODUCER_ID_KEY, or a file)";
    wanted.then(|| ("kafka", vec![("producer_id_key".to_owned(), problem.to_owned())]))
}

/// The broker is given up in time for a call of Firestore's, but not before the breaker could open.
fn time_to_store(config: &Config) -> Option<Found> {
    let (sink, call) = (&config.sink, config.inbox.firestore.call_timeout);
    let left = sink.answer_deadline.get().saturating_sub(sink.failover_after.get() + Duration::from_millis(300));
    let problem = || {
        format!(
            "a write of {call} cannot be waited for within sink.answer_deadline ({}): expected at most {}ms",
            sink.answer_deadline,
            left.as_millis()
        )
    };
    (call.get() > left).then(|| ("inbox", vec![("firestore.call_timeout".to_owned(), problem())]))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::units::{Secret, Span};

    #[test]
    fn a_firestore_that_may_take_longer_than_an_answer_is_a_mistake() {
        let is_mistake = |kind, call: Span| {
            let mut config = Config::default();
            (config.inbox.kind, config.inbox.firestore.call_timeout) = (kind, call);
            mistakes(&config).iter().any(|(section, found)| *section == "inbox" && found[0].0 == "firestore.call_timeout")
        };
        assert!(!is_mistake(Kind::Firestore, Span::millis(1_950)) && is_mistake(Kind::Firestore, Span::millis(1_951)));
        assert!(!is_mistake(Kind::Disk, Span::secs(10)));
    }

    #[test]
    fn producers_numbers_are_kept_in_firestore_only_by_who_will_know_them_again() {
        let is_mistake = |kind, kept, key: &str| {
            let mut config = Config::default();
            (config.inbox.kind, config.inbox.idempotent, config.kafka.producer_id_key) = (kind, kept, Secret::new(key));
            mistakes(&config).iter().any(|(section, found)| *section == "kafka" && found[0].0 == "producer_id_key")
        };
        assert!(is_mistake(Kind::Firestore, Some(true), ""));
        assert!(!is_mistake(Kind::Firestore, Some(true), "some key") && !is_mistake(Kind::Firestore, None, ""));
        assert!(!is_mistake(Kind::Disk, Some(true), ""));
    }
}
