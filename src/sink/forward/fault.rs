//! What can be wrong with a connection to a broker. No credential and no text of the broker is in it.

use std::io;

/// A fault of a connection.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Fault {
    /// No socket.
    #[error("cannot connect: {0}")]
    Connect(io::ErrorKind),
    /// The name of the host says nothing.
    #[error("the host's name has no address")]
    Name,
    /// No TLS, or not with the right one.
    #[error("no TLS: {0}")]
    Tls(String),
    /// It does not let us in.
    #[error("the broker refuses the credentials (Kafka's error {0}); see sink.sasl_username and sink.sasl_mechanism")]
    Credentials(i16),
    /// It offers the mechanism not at all.
    #[error("the broker does not offer the mechanism that sink.sasl_mechanism names")]
    Mechanism,
    /// It cannot prove that it knows our password.
    #[error("the broker does not prove itself: {0}")]
    Impostor(&'static str),
    /// It is too old or too new.
    #[error("the broker offers no version of {0} that is spoken here")]
    Version(&'static str),
    /// It says what cannot be.
    #[error("the broker's answer is wrong: {0}")]
    Protocol(&'static str),
    /// It says nothing.
    #[error("no answer in time")]
    Silence,
    /// It has hung up.
    #[error("the connection was lost: {0}")]
    Lost(io::ErrorKind),
    /// The task that kept it ended.
    #[error("the connection's task ended")]
    Ended,
}

impl Fault {
    /// What the batches of an unanswered request are told.
    pub(super) const fn reason(&self) -> &'static str {
        match self {
            Self::Silence => "timed_out",
            Self::Protocol(_) => "protocol",
            _ => "connection",
        }
    }

    /// A socket's error in the middle of its work.
    pub(super) fn lost(error: &io::Error) -> Self {
        Self::Lost(error.kind())
    }
}

impl From<crate::wire::BadWire> for Fault {
    fn from(bad: crate::wire::BadWire) -> Self {
        Self::Protocol(bad.what)
    }
}
