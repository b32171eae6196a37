//! SASL's server side, sans I/O: SCRAM-SHA-256 and -512, PLAIN, OAUTHBEARER. What comes out is the same
//! [`Principal`](super::Principal) as at every other door.

use bytes::Bytes;

use super::Principal;

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
pub struct Exchange {}

impl SaslMechanism {
    /// All, in the order in which they are offered.
    pub const ALL: [Self; 4] = [Self::ScramSha256, Self::ScramSha512, Self::Plain, Self::OAuthBearer];

    /// The name that IANA has registered.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::ScramSha256 => "SCRAM-SHA-256",
            Self::ScramSha512 => "SCRAM-SHA-512",
            Self::Plain => "PLAIN",
            Self::OAuthBearer => "OAUTHBEARER",
        }
    }
}

impl super::Authenticator {
    /// What is offered on a connection. `confidential`: over TLS, or on loopback.
    pub fn mechanisms(&self, confidential: bool) -> Vec<SaslMechanism> {
        let _ = confidential;
        SaslMechanism::ALL.to_vec()
    }

    /// Begins an exchange by one of the offered mechanisms.
    pub fn exchange(&self, mechanism: SaslMechanism, confidential: bool) -> Exchange {
        let _ = (mechanism, confidential);
        Exchange {}
    }
}

impl Exchange {
    /// Takes the client's next message.
    pub async fn step(&mut self, authenticator: &super::Authenticator, message: &[u8]) -> Step {
        let _ = (authenticator, message);
        Step::Refused
    }
}
