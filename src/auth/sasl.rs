//! SASL's server side, sans I/O: SCRAM-SHA-256 and -512, PLAIN, OAUTHBEARER. What comes out is the same
//! [`Principal`](super::Principal) as at every other door.
//!
//! What always holds: somebody is there only at the end of an exchange that was followed message by message; a message has a
//! bound, and is refused as a whole or understood as a whole; every no comes late and says the same; a name that does not exist
//! costs what one costs that does; an exchange that was given up halfway lets nobody in.

mod bearer;
mod gs2;
mod plain;
mod scram;

use std::mem;

use bytes::Bytes;
use tokio::time::{Instant, sleep_until};

use super::authenticator::count;
use super::credentials::AuthFailure;
use super::scram::Mechanism;
use super::tokens::Now;
use super::users::FAILURE_DELAY;
use super::{Authenticator, Principal};
use crate::telemetry::metrics;

/// A mechanism that the gate speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum SaslMechanism {
    /// RFC 7677.
    ScramSha256,
    /// The same with SHA-512.
    ScramSha512,
    /// RFC 4616; only where nobody listens.
    Plain,
    /// RFC 7628, as Kafka speaks it (KIP-255); only where nobody listens.
    OAuthBearer,
}

/// What the server says to a client's message.
#[derive(Clone, Debug)]
pub enum Step {
    /// These bytes, and the exchange goes on.
    Continue(Bytes),
    /// These bytes, and it is over: this is who is there.
    Done {
        /// The last message to the client; may be empty.
        message: Bytes,
        /// Who.
        principal: Principal,
    },
    /// No. It was delayed already; the connection is closed behind the answer. One text for every reason.
    Refused,
    /// Too many are tried at once; this one was not. Not the client's fault: the connection is closed, it may come again.
    Busy,
}

/// One exchange. Dropped when it is over.
#[derive(Debug)]
pub struct Exchange {
    state: State,
    confidential: bool,
}

/// What is expected next.
#[derive(Debug)]
enum State {
    /// The first message of SCRAM.
    Scram(Mechanism),
    /// The last one.
    Challenged(Box<scram::Challenge>),
    /// The only message of PLAIN.
    Plain,
    /// A token.
    Bearer,
    /// That the client has heard the no.
    Denied,
    /// Nothing. Whatever comes is refused.
    Over,
}

impl SaslMechanism {
    /// All, in the order in which they are offered.
    pub const ALL: [Self; 4] = [Self::ScramSha256, Self::ScramSha512, Self::Plain, Self::OAuthBearer];

    /// The name that IANA has registered.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::ScramSha256 => Mechanism::Sha256.as_str(),
            Self::ScramSha512 => Mechanism::Sha512.as_str(),
            Self::Plain => "PLAIN",
            Self::OAuthBearer => "OAUTHBEARER",
        }
    }

    /// The mechanism of this name, in capitals as clients write it.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|mechanism| mechanism.as_str() == name)
    }
}

impl Authenticator {
    /// What is offered on a connection. `confidential`: over TLS, or on loopback.
    pub fn mechanisms(&self, confidential: bool) -> Vec<SaslMechanism> {
        SaslMechanism::ALL.into_iter().filter(|mechanism| self.offers(*mechanism, confidential)).collect()
    }

    fn offers(&self, mechanism: SaslMechanism, confidential: bool) -> bool {
        match mechanism {
            SaslMechanism::ScramSha256 | SaslMechanism::ScramSha512 => self.has_users(),
            SaslMechanism::Plain => self.has_users() && confidential,
            SaslMechanism::OAuthBearer => self.has_issuers() && confidential,
        }
    }

    /// Begins an exchange by one of the offered mechanisms. By another one nobody is let in.
    pub fn exchange(&self, mechanism: SaslMechanism, confidential: bool) -> Exchange {
        let state = match mechanism {
            _ if !self.offers(mechanism, confidential) => State::Over,
            SaslMechanism::ScramSha256 => State::Scram(Mechanism::Sha256),
            SaslMechanism::ScramSha512 => State::Scram(Mechanism::Sha512),
            SaslMechanism::Plain => State::Plain,
            SaslMechanism::OAuthBearer => State::Bearer,
        };
        Exchange { state, confidential }
    }
}

impl Exchange {
    /// Takes the client's next message.
    pub async fn step(&mut self, authenticator: &Authenticator, message: &[u8]) -> Step {
        let answer = Instant::now() + FAILURE_DELAY;
        // Whoever drops this future in the middle finds the exchange over.
        let failure = match self.advance(authenticator, message).await {
            Ok(step) => return step,
            Err(failure) => failure,
        };
        if let Some(failure) = failure {
            count(failure);
        }
        if failure == Some(AuthFailure::Busy) {
            return Step::Busy;
        }
        sleep_until(answer).await;
        match self.state {
            State::Denied => Step::Continue(Bytes::from_static(bearer::CHALLENGE)),
            _ => Step::Refused,
        }
    }

    /// The next step; or why there is none, unless that was counted before.
    async fn advance(&mut self, authenticator: &Authenticator, message: &[u8]) -> Result<Step, Option<AuthFailure>> {
        match mem::replace(&mut self.state, State::Over) {
            State::Scram(mechanism) => {
                let users = authenticator.users.as_ref().ok_or(AuthFailure::Issuer)?;
                let (challenge, said) = scram::challenge(message, &scram::nonce(), |name| users.claimed(name, mechanism))?;
                self.state = State::Challenged(Box::new(challenge));
                Ok(Step::Continue(said.into()))
            }
            State::Challenged(challenge) => {
                let proven = challenge.answer(message, authenticator.repeated_nonce && self.confidential)?;
                if proven.repeated {
                    metrics().sasl_repeated_nonces.inc();
                }
                Ok(Step::Done { message: proven.message.into(), principal: proven.principal })
            }
            State::Plain => {
                let principal = authenticator.recognize(&plain::read(message)?, Now::read()).await?;
                Ok(Step::Done { message: Bytes::new(), principal })
            }
            State::Bearer => {
                let shown = bearer::read(message)?;
                let known = authenticator.recognize(&shown.credentials, Now::read()).await;
                let principal = known.and_then(|principal| shown.is_for(principal)).inspect_err(|_| self.state = State::Denied)?;
                Ok(Step::Done { message: Bytes::new(), principal })
            }
            State::Denied => Err(None),
            State::Over => Err(Some(AuthFailure::Malformed)),
        }
    }
}

/// How many of the messages a mechanism understands, one after the other, where there is nobody: for fuzzing. Waits for nothing.
pub fn rehearse(mechanism: SaslMechanism, messages: &[&[u8]]) -> usize {
    let message = |at: usize| messages.get(at).copied().unwrap_or_default();
    match mechanism {
        SaslMechanism::ScramSha256 => scram::rehearse(Mechanism::Sha256, message(0), message(1)),
        SaslMechanism::ScramSha512 => scram::rehearse(Mechanism::Sha512, message(0), message(1)),
        SaslMechanism::Plain => usize::from(plain::read(message(0)).is_ok()),
        SaslMechanism::OAuthBearer => usize::from(bearer::read(message(0)).is_ok()),
    }
}

#[cfg(test)]
mod tests;
