//! What every door that speaks HTTP has in common: whom a request is from, and what every answer says.
//!
//! What always holds: a password is taken only where nobody on the way could read it; every answer carries the request's id
//! and what a web page may read of it, refusals too.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::header::{ALLOW, AUTHORIZATION, CONNECTION, CONTENT_LENGTH, UPGRADE, WWW_AUTHENTICATE};
use http::request::Parts;
use http::{HeaderMap, HeaderValue, Method, StatusCode, Version};

use super::cors::Origins;
use super::forwarded;
use super::reply::{self, Answer};
use super::settings::Config;
use super::trace_context::{Context, REQUEST_ID};
use crate::auth::{Authenticator, Credentials, Principal};
use crate::drain::{Phase, Signal};
use crate::listeners::Peer;
use crate::receipt::Refusal;
use crate::telemetry::metrics;
use crate::telemetry::metrics::labels;
use crate::units::Secret;

/// How users are asked for their password, where there are some.
const BASIC: HeaderValue = HeaderValue::from_static("Basic realm=\"sluicegate\", charset=\"UTF-8\"");

/// Whether the gate takes events now, as `/readyz` says.
#[derive(Clone)]
pub struct Readiness(Arc<dyn Fn() -> bool + Send + Sync>);

impl Readiness {
    /// Asks `ready` each time.
    pub fn new(ready: impl Fn() -> bool + Send + Sync + 'static) -> Self {
        Self(Arc::new(ready))
    }
}

impl std::fmt::Debug for Readiness {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Readiness({})", (self.0)())
    }
}

/// A request's head, and what is known of it beside.
#[derive(Debug)]
pub struct Head<'a> {
    /// The head itself.
    pub parts: &'a Parts,
    /// Who is at the other end of the connection.
    pub peer: &'a Peer,
    /// The request's names.
    pub context: &'a Context,
    /// When it came.
    pub arrived: SystemTime,
}

/// What doors that speak HTTP share. Clones are the same.
#[derive(Clone, Debug)]
pub struct Lobby {
    authenticator: Arc<Authenticator>,
    origins: Origins,
    hops: u8,
    signal: Signal,
    readiness: Readiness,
}

impl Lobby {
    /// A lobby that is configured so.
    pub fn new(authenticator: Arc<Authenticator>, signal: Signal, readiness: Readiness, config: &Config) -> Self {
        Self { authenticator, origins: Origins::new(&config.cors_allowed_origins), hops: config.trusted_hops, signal, readiness }
    }

    /// Whether the gate takes events now.
    pub fn is_ready(&self) -> bool {
        self.signal.phase() == Phase::Serving && (self.readiness.0)()
    }

    /// Whether the outermost trusted proxy took the request in plain text.
    pub fn is_plain(&self, head: &Head<'_>) -> bool {
        forwarded::is_plain(&head.parts.headers, self.hops)
    }

    /// Whether a trusted proxy says that it took the request over TLS.
    pub fn is_forwarded_securely(&self, head: &Head<'_>) -> bool {
        forwarded::is_secure(&head.parts.headers, self.hops)
    }

    /// Whether nobody between the client and us could read the request.
    pub fn is_secure(&self, head: &Head<'_>) -> bool {
        let here = head.peer.tls || head.peer.address.ip().to_canonical().is_loopback();
        here || self.is_forwarded_securely(head)
    }

    /// The sender's address.
    pub fn address(&self, head: &Head<'_>) -> IpAddr {
        forwarded::address(&head.parts.headers, head.peer.address, self.hops)
    }

    /// Whether the request comes from no page, or from a page that may.
    pub fn admits_origin(&self, head: &Head<'_>) -> bool {
        self.origins.admit(&head.parts.headers)
    }

    /// Who sent the request, before anything of it is read but its head. A token counts for `grace` longer than it says.
    pub async fn principal(&self, head: &Head<'_>, grace: Duration) -> Result<Principal, Refusal> {
        let shown = credentials(&head.parts.headers).and_then(|shown| match shown {
            // It was read by whoever listened, but that is no reason to take it.
            Credentials::Basic { .. } if !self.is_secure(head) => Err(labels::AuthFailure::Header),
            shown => Ok(shown),
        });
        let shown = shown.map_err(|reason| {
            metrics().auth_failures.at(reason).inc();
            Refusal::Unauthenticated
        })?;
        self.authenticator.authenticate_within(&shown, grace).await
    }

    /// The answer to `OPTIONS`: what the path allows, and what a preflight asks for.
    pub fn options(&self, request: &HeaderMap, allow: &'static str) -> Answer {
        let mut answer = reply::empty(StatusCode::NO_CONTENT);
        answer.headers_mut().insert(ALLOW, HeaderValue::from_static(allow));
        self.origins.write_preflight(request, allow, answer.headers_mut());
        answer
    }

    /// What every answer says.
    pub fn finish(&self, head: &Head<'_>, answer: &mut Answer) {
        self.origins.write(&head.parts.headers, answer.headers_mut());
        answer.headers_mut().insert(REQUEST_ID, head.context.request_id_header());
        if answer.headers().contains_key(WWW_AUTHENTICATE) && self.authenticator.has_users() && self.is_secure(head) {
            answer.headers_mut().append(WWW_AUTHENTICATE, BASIC);
        }
        if head.parts.version >= Version::HTTP_2 {
            // The connection's own frames say it there.
            answer.headers_mut().remove(CONNECTION);
            answer.headers_mut().remove(UPGRADE);
        } else if self.signal.phase() >= Phase::Leaving && answer.status() != StatusCode::SWITCHING_PROTOCOLS {
            answer.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
        }
        if head.parts.method == Method::HEAD {
            let length = answer.body().len();
            answer.headers_mut().insert(CONTENT_LENGTH, length.into());
            *answer.body_mut() = Default::default();
        }
    }
}

/// What the one `Authorization` shows: `Bearer` or `Basic`, the scheme in any case. Or why it is nothing.
fn credentials(headers: &HeaderMap) -> Result<Credentials, labels::AuthFailure> {
    use labels::AuthFailure::{Malformed, Missing};
    let mut values = headers.get_all(AUTHORIZATION).iter();
    let value = values.next().and_then(|value| value.to_str().ok()).ok_or(Missing)?;
    let (scheme, shown) = value.trim().split_once(' ').ok_or(Missing)?;
    match values.next() {
        Some(_) => Err(Malformed),
        None if scheme.eq_ignore_ascii_case("bearer") => Ok(Credentials::Bearer(Secret::new(shown.trim()))),
        None if scheme.eq_ignore_ascii_case("basic") => basic(shown.trim()).ok_or(Malformed),
        None => Err(Missing),
    }
}

/// A name, up to the first colon, and a password (RFC 7617).
fn basic(shown: &str) -> Option<Credentials> {
    let text = Secret::new(String::from_utf8(STANDARD.decode(shown).ok()?).ok()?);
    let (name, password) = text.expose().split_once(':')?;
    Some(Credentials::Basic { name: name.to_owned(), password: Secret::new(password) })
}
