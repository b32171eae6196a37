//! The platform's `frontend-events` value, made around what a signed-in user sent.
//!
//! The worker behind the topic refuses a value whose version, payload, action or idempotency key breaks its rules and
//! sends it to a dead-letter topic; what it would refuse is refused here, before it is acknowledged.

use bytes::Bytes;
use serde::Serialize;
use serde_json::value::RawValue;
use sha2::{Digest, Sha256};
use time::OffsetDateTime;
use time::macros::format_description;

use crate::auth::Principal;
use crate::event::{ClientKey, Event, EventId, Origin};
use crate::receipt::Refusal;

use super::Shaped;
use super::shape::{field, fields, text};

/// The one version that the worker takes.
const VERSION: &str = "1.0";

/// The value of a record on `frontend-events`, its fields in the platform's order.
#[derive(Serialize)]
struct Command<'a> {
    uid: &'a str,
    timestamp: String,
    idempotency_key: &'a str,
    version: &'static str,
    payload: &'a RawValue,
}

pub(super) fn shape(principal: &Principal, origin: &Origin, event: Event) -> Result<Shaped, Refusal> {
    let own_key = check(&event.value)?;
    let client_key = event.client_key.or_else(|| own_key.as_deref().and_then(|key| ClientKey::new(key).ok()));
    let id = client_key.as_ref().map_or_else(EventId::generate, |key| EventId::scoped(principal.hash(), key));
    let idempotency_key = own_key.unwrap_or_else(|| made_of(&id, client_key.is_some()));
    let payload: &RawValue = serde_json::from_slice(&event.value).map_err(|_| Refusal::invalid("data", "`data` must be JSON"))?;
    let command =
        Command { uid: principal.subject(), timestamp: timestamp(origin)?, idempotency_key: &idempotency_key, version: VERSION, payload };
    let value = serde_json::to_vec(&command).map_err(|_| Refusal::Internal)?;
    Ok(Shaped { id, key: Some(Bytes::copy_from_slice(principal.subject().as_bytes())), headers: event.headers, value: Bytes::from(value) })
}

/// Checks what the worker would check; gives the client's idempotency key if there is one.
fn check(data: &[u8]) -> Result<Option<String>, Refusal> {
    let outer = fields(data, "data")?;
    let action = field(&outer, "action").and_then(text).is_some_and(|action| !action.is_empty());
    if !action {
        return Err(Refusal::invalid("data.action", "`data.action` must be a string that is not empty"));
    }
    if let Some(key) = field(&outer, "idempotency_key").filter(|raw| raw.get() != "null") {
        return idempotency_key(key, "data.idempotency_key").map(Some);
    }
    let inner = field(&outer, "payload").filter(|raw| raw.get().starts_with('{'));
    let Some(inner) = inner else { return Ok(None) };
    let inner = fields(inner.get().as_bytes(), "data.payload")?;
    match field(&inner, "idempotency_key").filter(|raw| raw.get() != "null") {
        Some(key) => idempotency_key(key, "data.payload.idempotency_key").map(Some),
        None => Ok(None),
    }
}

/// 16–128 characters, `^[A-Za-z0-9][A-Za-z0-9._:-]*$`.
fn idempotency_key(raw: &RawValue, path: &str) -> Result<String, Refusal> {
    let legal = |key: &String| {
        (16..=128).contains(&key.len())
            && key.starts_with(|first: char| first.is_ascii_alphanumeric())
            && key.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b':' | b'-'))
    };
    text(raw).filter(legal).ok_or_else(|| {
        Refusal::invalid(
            path,
            format!("`{path}` must be 16 to 128 characters of letters, digits, `.`, `_`, `:` and `-`, the first a letter or digit"),
        )
    })
}

/// The key of a command whose client sent none: the id itself where it is ours, else a digest of it, so that the same
/// event sent again makes the same key.
fn made_of(id: &EventId, from_client: bool) -> String {
    if from_client { hex::encode(&Sha256::digest(id.as_str())[..16]) } else { id.as_str().to_owned() }
}

/// `2026-07-01T12:00:00.000Z`.
fn timestamp(origin: &Origin) -> Result<String, Refusal> {
    let form = format_description!("[year]-[month]-[day]T[hour]:[minute]:[second].[subsecond digits:3]Z");
    OffsetDateTime::from(origin.arrived).format(&form).map_err(|_| Refusal::Internal)
}
