//! Who is there, and what may they do.
//!
//! [`Authenticator::authenticate`] alone makes a [`Principal`]; [`authorize`] alone makes a [`Permit`]; the route consumes
//! the permit. What was not authorized cannot be sent because it cannot be written down.

mod credentials;
pub mod grants;
mod principal;

pub use credentials::{Authenticator, Credentials};
pub use principal::Principal;

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

/// May they? The answer to "no grant" and to "no such topic" is the same.
pub fn authorize(principal: &Principal, topic: &Topic) -> Result<Permit, Refusal> {
    if principal.grants().cover(topic) {
        return Ok(Permit { principal: principal.clone(), topic: topic.clone() });
    }
    Err(Refusal::Denied { topic: topic.to_string() })
}
