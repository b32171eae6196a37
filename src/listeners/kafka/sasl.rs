//! SaslHandshake and SaslAuthenticate: who is there, asked once for a connection and again when it ends (KIP-368).
//!
//! The exchange itself is [`auth::sasl`](crate::auth::sasl)'s; here is how it stands on the wire. What always holds: the full
//! list of mechanisms is in every answer to a handshake (kafkajs, aiokafka and kafka-python look for theirs in it, also in
//! one that succeeds); a failure is one code and one text, and the end; a renewal is by the same principal and mechanism.

use std::time::{Duration, SystemTime};

use bytes::Bytes;
use tokio::time::Instant;

use super::api::Request;
use super::body::{Body, Read};
use super::reply;
use crate::auth::Principal;
use crate::auth::sasl::{Exchange, SaslMechanism};
use crate::telemetry::metrics::labels::Mechanism;

/// The one text of every failure.
pub const FAILED: &str = "authentication failed: these are not the credentials of anybody who may come in by this mechanism";

/// Messages of one exchange.
pub const MAX_ROUNDS: u8 = 3;

/// Who a connection was authenticated as.
#[derive(Clone, Debug)]
pub struct Login {
    /// Who.
    pub principal: Principal,
    /// By what; none: not by SASL.
    pub mechanism: Option<SaslMechanism>,
    /// When it ends.
    pub ends: Instant,
}

/// An exchange that is going on.
#[derive(Debug)]
pub struct Exchanging {
    /// The exchange.
    pub exchange: Exchange,
    /// By what.
    pub mechanism: SaslMechanism,
    /// Whether its messages come without Kafka's headers (SaslHandshake 0).
    pub raw: bool,
    /// How many messages there were.
    pub rounds: u8,
    /// What it renews; none: it is the first.
    pub renews: Option<Login>,
}

impl Login {
    /// Somebody whose credentials were verified just now. It counts until they end, and at most so long.
    pub fn new(principal: Principal, mechanism: Option<SaslMechanism>, longest: Duration) -> Self {
        let rest = principal.expires().map(|end| end.duration_since(SystemTime::now()).unwrap_or_default());
        let ends = Instant::now() + rest.unwrap_or(longest).min(longest);
        Self { principal, mechanism, ends }
    }

    /// How long it still counts, as clients are told: 0 would mean for ever.
    pub fn lifetime_ms(&self) -> i64 {
        let rest = self.ends.saturating_duration_since(Instant::now()).as_millis();
        i64::try_from(rest).unwrap_or(i64::MAX).max(1)
    }

    /// Whether it has ended.
    pub fn ended(&self) -> bool {
        Instant::now() >= self.ends
    }

    /// Whether another one is its renewal.
    pub fn is_renewed_by(&self, other: &Self) -> bool {
        let by_the_same = self.mechanism.is_none() || self.mechanism == other.mechanism;
        by_the_same && self.principal.name() == other.principal.name()
    }
}

impl Exchanging {
    /// Whether other requests are out of place now. While an authentication is renewed they are not: clients may have sent
    /// them before; but who was told the reason of a refusal must say that it has heard it, and nothing else.
    pub fn is_strict(&self) -> bool {
        self.renews.is_none() || (self.mechanism == SaslMechanism::OAuthBearer && self.rounds > 0)
    }
}

/// The mechanism's label.
pub const fn label(mechanism: SaslMechanism) -> Mechanism {
    match mechanism {
        SaslMechanism::ScramSha256 => Mechanism::ScramSha256,
        SaslMechanism::ScramSha512 => Mechanism::ScramSha512,
        SaslMechanism::Plain => Mechanism::Plain,
        SaslMechanism::OAuthBearer => Mechanism::OAuthBearer,
    }
}

/// Reads a handshake: the mechanism's name.
pub fn read_handshake(mut body: Body) -> Read<String> {
    let name = body.text()?;
    body.end()?;
    Ok(name)
}

/// The answer to a handshake.
pub fn handshake(request: Request, code: i16, offered: &[SaslMechanism]) -> Bytes {
    let mut answer = request.answer();
    answer.i16(code);
    answer.count(offered.len());
    offered.iter().for_each(|mechanism| answer.text(mechanism.as_str()));
    answer.finish()
}

/// Reads a message of the mechanism.
pub fn read_message(mut body: Body) -> Read<Bytes> {
    let message = body.bytes()?;
    body.end()?;
    Ok(message)
}

/// The answer to a message: the exchange goes on (no lifetime), or has succeeded.
pub fn message(request: Request, message: &[u8], lifetime_ms: i64) -> Bytes {
    write(request, reply::NONE, None, message, lifetime_ms)
}

/// The answer that ends it.
pub fn refusal(request: Request, code: i16) -> Bytes {
    let text = if code == reply::ILLEGAL_SASL_STATE { "this message is out of place; it begins with SaslHandshake" } else { FAILED };
    write(request, code, Some(text), &[], 0)
}

fn write(request: Request, code: i16, text: Option<&str>, message: &[u8], lifetime_ms: i64) -> Bytes {
    let mut answer = request.answer();
    answer.i16(code);
    answer.nullable_text(text);
    answer.bytes(message);
    if request.version >= 1 {
        answer.i64(lifetime_ms);
    }
    answer.finish()
}

/// A message without Kafka's headers.
pub fn raw(message: &[u8]) -> Bytes {
    let length = u32::try_from(message.len()).expect("a message of ours is short");
    [&length.to_be_bytes()[..], message].concat().into()
}
