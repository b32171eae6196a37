//! Who is there, and what may they do.
//!
//! [`Authenticator::authenticate`] alone makes a [`Principal`]; [`authorize`] alone makes a [`Permit`]; the route consumes
//! the permit. What was not authorized cannot be sent because it cannot be written down.

mod authenticator;
mod claims;
mod config;
mod credentials;
pub mod dev;
mod fetch;
pub mod grants;
mod jwks;
pub mod jws;
pub mod key;
pub mod mint;
mod principal;
pub mod sasl;
pub mod scram;
mod tokens;
pub mod users;

pub use authenticator::{Authenticator, BadConfig, IssuerStatus};
pub use config::{Config, DEFAULT_TIER, IssuerConfig, Kind, Mistake};
pub use credentials::{AuthFailure, Credentials};
pub use principal::Principal;
pub use tokens::Now;

use crate::event::Topic;
use crate::receipt::Refusal;

/// Proof that a principal may send to a topic. Consumed by the route; cannot be copied.
#[derive(Debug)]
#[must_use = "a permit that is not used has sent nothing"]
pub struct Permit {
    principal: Principal,
    topic: Topic,
}

impl Permit {
    /// Who.
    pub fn principal(&self) -> &Principal {
        &self.principal
    }

    /// Where to.
    pub fn topic(&self) -> &Topic {
        &self.topic
    }
}

/// Proof that somebody administers the gate. Cannot be copied.
#[derive(Debug)]
#[must_use = "who administers has done nothing yet"]
pub struct Administrator {
    principal: Principal,
}

impl Administrator {
    /// Who.
    pub fn principal(&self) -> &Principal {
        &self.principal
    }
}

/// Do they administer the gate? No grant of topics says so.
pub fn administrator(principal: &Principal) -> Option<Administrator> {
    principal.grants().administer().then(|| Administrator { principal: principal.clone() })
}

/// May they? The answer to "no grant" and to "no such topic" is the same.
pub fn authorize(principal: &Principal, topic: &Topic) -> Result<Permit, Refusal> {
    if principal.grants().cover(topic) {
        return Ok(Permit { principal: principal.clone(), topic: topic.clone() });
    }
    Err(Refusal::Denied { topic: topic.to_string() })
}
