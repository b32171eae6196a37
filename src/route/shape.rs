//! What a record looks like: the sender's bytes, or the platform's form around them.

use std::borrow::Cow;
use std::collections::HashMap;

use bytes::Bytes;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::auth::Principal;
use crate::event::{Event, EventId, Headers, Origin};
use crate::receipt::Refusal;

use super::{Shaped, command};

/// The longest key of a telemetry record, in characters.
const MAX_TELEMETRY_KEY: usize = 255;

/// The form of a route's records.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Shape {
    /// The sender's bytes, untouched.
    Raw,
    /// The platform's `frontend-events` value: uid, timestamp, idempotency_key, version and the sender's bytes as payload.
    Command,
    /// The sender's object with `response_time` in seconds; key by account, tenant or url.
    Telemetry,
}

impl Shape {
    pub(super) fn apply(self, principal: &Principal, origin: &Origin, event: Event) -> Result<Shaped, Refusal> {
        match self {
            Self::Raw => Ok(Shaped { id: id_of(principal, &event), key: event.key, headers: event.headers, value: event.value }),
            Self::Command => command::shape(principal, origin, event),
            Self::Telemetry => telemetry(principal, origin, event),
        }
    }
}

/// The client's key made the principal's own, or a new id.
fn id_of(principal: &Principal, event: &Event) -> EventId {
    event.client_key.as_ref().map_or_else(EventId::generate, |key| EventId::scoped(principal.hash(), key))
}

/// An object's fields in their order, their values as they were written.
pub(super) type Fields<'a> = Vec<(Cow<'a, str>, &'a RawValue)>;

/// Reads the fields of a JSON object, or says what it is instead.
pub(super) fn fields<'a>(value: &'a [u8], what: &str) -> Result<Fields<'a>, Refusal> {
    struct Object;
    impl<'de> serde::de::Visitor<'de> for Object {
        type Value = Fields<'de>;

        fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            f.write_str("an object")
        }

        fn visit_map<A: serde::de::MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
            let mut fields = Vec::new();
            while let Some(Name(name)) = map.next_key::<Name<'de>>()? {
                fields.push((name, map.next_value()?));
            }
            Ok(fields)
        }
    }
    let mut reader = serde_json::Deserializer::from_slice(value);
    serde::Deserializer::deserialize_map(&mut reader, Object).map_err(|_| Refusal::invalid(what, format!("`{what}` must be a JSON object")))
}

/// A field's name, borrowed where it has no escapes.
#[derive(Deserialize)]
struct Name<'a>(#[serde(borrow)] Cow<'a, str>);

/// The last field of that name, as JSON readers take it.
pub(super) fn field<'a>(fields: &Fields<'a>, name: &str) -> Option<&'a RawValue> {
    fields.iter().rev().find(|(known, _)| known == name).map(|(_, value)| *value)
}

/// A field's text, if it is a string.
pub(super) fn text(value: &RawValue) -> Option<String> {
    serde_json::from_str(value.get()).ok()
}

/// The platform's `telemetry-raw` record: the posted object plus `response_time` in seconds; headers `source` and `ip`.
fn telemetry(principal: &Principal, origin: &Origin, event: Event) -> Result<Shaped, Refusal> {
    if let Some((name, _)) = event.headers.iter().find(|(name, _)| name.eq_ignore_ascii_case("source") || name.eq_ignore_ascii_case("ip")) {
        return Err(Refusal::invalid(&format!("headers.{name}"), format!("the header `{name}` is set by the gate; leave it out")));
    }
    let id = id_of(principal, &event);
    let fields = fields(&event.value, "data")?;
    let key =
        ["account_id", "tenant_id", "url"].iter().find_map(|name| field(&fields, name).and_then(text).filter(|text| !text.is_empty()));
    let key = key.map(|text| Bytes::from(text.chars().take(MAX_TELEMETRY_KEY).collect::<String>()));
    let value = with_response_time(&fields)?;
    let mut headers: Headers = event.headers;
    headers.push(("source".into(), Bytes::from_static(origin.door.as_str().as_bytes())));
    headers.push(("ip".into(), Bytes::from(origin.address.to_string())));
    Ok(Shaped { id, key, headers, value })
}

/// The fields as they came, and `response_time` made of `response_time_ms`.
fn with_response_time(fields: &Fields<'_>) -> Result<Bytes, Refusal> {
    let seconds = response_time(fields)?;
    // A field that repeats is written once, the last one, as every JSON reader takes it.
    let last: HashMap<&str, usize> = fields.iter().enumerate().map(|(i, (name, _))| (name.as_ref(), i)).collect();
    let kept =
        fields.iter().enumerate().filter(|(i, (name, _))| last.get(name.as_ref()) == Some(i)).map(|(_, (name, raw))| (name.as_ref(), *raw));
    let own = seconds.as_deref().map(|raw| ("response_time", raw));
    let mut out = vec![b'{'];
    for (name, raw) in kept.filter(|(name, _)| own.is_none() || *name != "response_time").chain(own) {
        if out.len() > 1 {
            out.push(b',');
        }
        serde_json::to_writer(&mut out, name).map_err(|_| Refusal::Internal)?;
        out.push(b':');
        out.extend_from_slice(raw.get().as_bytes());
    }
    out.push(b'}');
    Ok(Bytes::from(out))
}

/// `response_time_ms` in seconds, as a JSON number.
fn response_time(fields: &Fields<'_>) -> Result<Option<Box<RawValue>>, Refusal> {
    let Some(raw) = field(fields, "response_time_ms").filter(|raw| raw.get() != "null") else { return Ok(None) };
    let ms: f64 = serde_json::from_str(raw.get())
        .map_err(|_| Refusal::invalid("data.response_time_ms", "`response_time_ms` must be a number of milliseconds"))?;
    Ok(serde_json::value::to_raw_value(&(ms / 1_000.0)).ok())
}
