//! What can be wrong with a request before the trunk is asked: faults of HTTP itself, beside the trunk's refusals.
//!
//! Each fault says its own status in `reply.rs`; here are only the facts.

use crate::receipt::Refusal;

/// Why a request is answered without being handed to the trunk.
#[derive(Clone, Debug, PartialEq)]
pub enum Fault {
    /// The trunk's own reasons, found early (credentials, bytes in flight, malformed, too large).
    Refused(Refusal),
    /// Framing or head that RFC 9112 forbids or that we do not trust: answered 400 and closed.
    BadRequest(&'static str),
    /// No such route.
    NotFound,
    /// The route does not know the method; what it allows.
    MethodNotAllowed(&'static str),
    /// The route does not read this media type; what it reads.
    UnsupportedMediaType(&'static str),
    /// An unknown, double or false Content-Encoding.
    UnsupportedEncoding,
    /// The client was too slow: head or body did not come in time.
    Timeout,
    /// The request target is too long.
    UriTooLong,
    /// Too many or too large header fields.
    HeadersTooLarge,
    /// Here is a WebSocket, and this is not how one is opened.
    UpgradeRequired,
    /// A web page of an origin that is not allowed asks for a WebSocket, of which browsers keep nothing from it.
    ForeignOrigin,
    /// What is asked for is an administrator's.
    NotAdmin,
    /// A share of the replay runs already, for somebody else who asked.
    ReplayRuns,
    /// Expect asks for something other than 100-continue.
    ExpectationFailed,
    /// The client went away while we read; nobody will read the answer.
    Gone,
}

impl From<Refusal> for Fault {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}
