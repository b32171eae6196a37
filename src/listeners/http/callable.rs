//! The Firebase callable function: from `{"data": …}` to the one event in it.
//!
//! The protocol's own rules are checked here, and broken ones answered "Bad Request" as Firebase does. Whether the data is a
//! command that its readers would take is the route's to say. The value is the data as it came, but for the wrapped 64-bit
//! integers, which become plain numbers with all their digits.

use std::borrow::Cow;
use std::ops::Range;

use bytes::Bytes;

use super::json::{self, Cursor, Flaw};
use crate::event::{ClientKey, Event, Headers, Topic};
use crate::receipt::Refusal;

/// The shortest and the longest idempotency key of a command.
const KEY_LENGTHS: std::ops::RangeInclusive<usize> = 16..=128;

const INT64: &str = "type.googleapis.com/google.protobuf.Int64Value";
const UINT64: &str = "type.googleapis.com/google.protobuf.UInt64Value";

/// Decodes a call.
pub fn decode(body: &Bytes, topic: &Topic) -> Result<Event, Refusal> {
    let data = data(body).map_err(|flaw| flaw.refusal(body))?;
    let wrapped = wrapped_integers(body, data.clone()).map_err(|flaw| flaw.refusal(body))?;
    let key = idempotency_key(body, data.clone()).map_err(|flaw| flaw.refusal(body))?;
    Ok(Event {
        topic: topic.clone(),
        partition: None,
        items: 1,
        client_key: key.filter(|key| is_idempotency_key(key)).and_then(|key| ClientKey::new(&key).ok()),
        key: None,
        headers: Headers::new(),
        time: None,
        value: replaced(body, data, wrapped),
    })
}

/// Where the data stands, in a body that is an object with this field and no other.
fn data(body: &[u8]) -> Result<Range<usize>, Flaw> {
    json::check_encoding(body)?;
    let mut cursor = Cursor::within(body, 0..body.len());
    if cursor.peek() != Some(b'{') {
        return Err(Flaw { offset: cursor.at(), message: "the body is a JSON object with the one field `data`" });
    }
    let mut data = None;
    cursor.members(|cursor, key| {
        let value = cursor.value()?;
        let is_data = json::unquote(&body[key.clone()]) == "data";
        if !is_data || data.replace(value).is_some() {
            return Err(Flaw { offset: key.start, message: "the body has the one field `data`, once, and no other" });
        }
        Ok(())
    })?;
    cursor.end()?;
    data.ok_or(Flaw { offset: cursor.at(), message: "the field `data` is missing" })
}

/// The key of a command: `data.idempotency_key`, else `data.payload.idempotency_key`.
fn idempotency_key(body: &[u8], data: Range<usize>) -> Result<Option<Cow<'_, str>>, Flaw> {
    let [own, payload] = members_of(body, data, ["idempotency_key", "payload"])?;
    let key = match (own, payload) {
        (Some(own), _) => Some(own),
        (None, Some(payload)) => members_of(body, payload, ["idempotency_key"])?[0].clone(),
        (None, None) => None,
    };
    Ok(key.map(|key| &body[key]).filter(|raw| raw.starts_with(b"\"")).map(json::unquote))
}

/// Where these members of an object stand; of equal names the last counts, as in JavaScript, and `null` is not there.
fn members_of<const N: usize>(body: &[u8], value: Range<usize>, names: [&str; N]) -> Result<[Option<Range<usize>>; N], Flaw> {
    let mut found = [const { None }; N];
    if body[value.start] != b'{' {
        return Ok(found);
    }
    Cursor::within(body, value).members(|cursor, key| {
        let value = cursor.value()?;
        let name = json::unquote(&body[key]);
        if let Some(index) = names.iter().position(|own| *own == name) {
            found[index] = Some(value).filter(|value| &body[value.clone()] != b"null");
        }
        Ok(())
    })?;
    Ok(found)
}

fn is_idempotency_key(key: &str) -> bool {
    let legal = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b':' | b'-');
    KEY_LENGTHS.contains(&key.len()) && key.as_bytes()[0].is_ascii_alphanumeric() && key.bytes().all(legal)
}

/// The wrapped integers in a value: where each stands, and the number in it.
fn wrapped_integers(body: &[u8], value: Range<usize>) -> Result<Vec<(Range<usize>, String)>, Flaw> {
    let mut wrapped = Vec::new();
    // Two quick looks: a `@type`, in plain letters or in escapes, has one of these bytes.
    let text = &body[value.clone()];
    if text.contains(&b'@') || text.contains(&b'\\') {
        find_wrapped(body, &mut Cursor::within(body, value), &mut wrapped)?;
    }
    Ok(wrapped)
}

fn find_wrapped(body: &[u8], cursor: &mut Cursor<'_>, wrapped: &mut Vec<(Range<usize>, String)>) -> Result<(), Flaw> {
    match cursor.peek() {
        Some(b'[') => cursor.elements(|cursor| find_wrapped(body, cursor, wrapped)),
        Some(b'{') => {
            let (start, inner) = (cursor.at(), wrapped.len());
            let (mut kind, mut number) = (None, None);
            cursor.members(|cursor, key| {
                cursor.peek();
                let start = cursor.at();
                find_wrapped(body, cursor, wrapped)?;
                match &*json::unquote(&body[key]) {
                    "@type" => kind = Some(start..cursor.at()),
                    "value" => number = Some(start..cursor.at()),
                    _ => {}
                }
                Ok(())
            })?;
            let Some(kind) = kind.filter(|kind| is_truthy(&body[kind.clone()])) else { return Ok(()) };
            wrapped.truncate(inner);
            wrapped.push((start..cursor.at(), integer(body, kind, number)?));
            Ok(())
        }
        _ => cursor.value().map(drop),
    }
}

/// Whether JavaScript would take a `@type` for one.
fn is_truthy(raw: &[u8]) -> bool {
    !matches!(raw, b"null" | b"false" | b"\"\"") && !is_zero(raw)
}

fn is_zero(raw: &[u8]) -> bool {
    std::str::from_utf8(raw).is_ok_and(|text| text.parse::<f64>() == Ok(0.0))
}

/// The number in a wrapper, in plain digits.
fn integer(body: &[u8], kind: Range<usize>, number: Option<Range<usize>>) -> Result<String, Flaw> {
    let offset = kind.start;
    let bad = || Flaw { offset, message: "a wrapped integer whose `value` is not a string of a 64-bit integer" };
    let text = number.map(|number| &body[number]).filter(|raw| raw.starts_with(b"\"")).map(json::unquote).ok_or_else(bad);
    let kind = &body[kind];
    let kind = if kind.starts_with(b"\"") { json::unquote(kind) } else { Cow::Borrowed("") };
    match &*kind {
        INT64 => text?.parse::<i64>().map(|number| number.to_string()).map_err(|_| bad()),
        UINT64 => text?.parse::<u64>().map(|number| number.to_string()).map_err(|_| bad()),
        _ => Err(Flaw { offset, message: "a `@type` other than Int64Value and UInt64Value" }),
    }
}

/// The value with its wrapped integers replaced; without any, the body's own bytes.
fn replaced(body: &Bytes, value: Range<usize>, wrapped: Vec<(Range<usize>, String)>) -> Bytes {
    if wrapped.is_empty() {
        return body.slice(value);
    }
    let mut text = Vec::with_capacity(value.len());
    let mut from = value.start;
    for (place, number) in wrapped {
        text.extend_from_slice(&body[from..place.start]);
        text.extend_from_slice(number.as_bytes());
        from = place.end;
    }
    text.extend_from_slice(&body[from..value.end]);
    text.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decoded(body: &str) -> Result<Event, Refusal> {
        decode(&Bytes::copy_from_slice(body.as_bytes()), &Topic::new("frontend-events").expect("a topic"))
    }

    fn value(data: &str) -> String {
        let event = decoded(&format!("{{\"data\":{data}}}")).expect(data);
        String::from_utf8(event.value.to_vec()).expect("UTF-8")
    }

    fn key(data: &str) -> Option<String> {
        decoded(&format!("{{\"data\":{data}}}")).expect(data).client_key.map(|key| key.as_str().to_owned())
    }

    fn wrapper(kind: &str, value: &str) -> String {
        format!(r#"{{"@type":"type.googleapis.com/google.protobuf.{kind}","value":{value}}}"#)
    }

    #[test]
    fn the_value_is_the_data_as_it_came() {
        for data in
            ["{\"action\" : \"x\", \"n\": 1.0}", "null", "[1e2]", "\"\\u0041\"", "{\"@types\":1}", "{\"@type\":null,\"value\":\"x\"}"]
        {
            assert_eq!(value(data), data);
        }
        let event = decoded("{ \"data\" : {} }\n").expect("a call");
        assert_eq!((event.topic.as_str(), event.key, event.headers.len()), ("frontend-events", None, 0));
    }

    #[test]
    fn a_body_is_an_object_with_data_and_nothing_else() {
        for body in
            ["", "null", "[]", "{}", "{\"data\":1,\"x\":2}", "{\"x\":2}", "{\"data\":1,\"data\":1}", "{\"data\":1} 2", "{\"data\":}"]
        {
            assert!(matches!(decoded(body), Err(Refusal::Malformed { position: Some(_), .. })), "{body}");
        }
    }

    #[test]
    fn wrapped_integers_become_numbers_with_all_their_digits() {
        assert_eq!(value(&wrapper("Int64Value", "\"-9223372036854775808\"")), "-9223372036854775808");
        assert_eq!(value(&wrapper("UInt64Value", "\"18446744073709551615\"")), "18446744073709551615");
        let data = format!("{{\"a\": [{}, 1.50],\"b\":{{\"c\":{}}} }}", wrapper("Int64Value", "\"7\""), wrapper("UInt64Value", "\"8\""));
        assert_eq!(value(&data), "{\"a\": [7, 1.50],\"b\":{\"c\":8} }");
        let escaped = r#"{"\u0040type":"type.googleapis.com/google.protobuf.Int64Value","value":"\u0037"}"#;
        assert_eq!(value(escaped), "7");
    }

    #[test]
    fn a_bad_wrapper_is_refused_as_firebase_refuses_it() {
        for data in [
            wrapper("Int64Value", "\"9223372036854775808\""),
            wrapper("UInt64Value", "\"-1\""),
            wrapper("Int64Value", "\"\""),
            wrapper("Int64Value", "\"1x\""),
            wrapper("Int64Value", "\"1.5\""),
            wrapper("Int64Value", "{}"),
            wrapper("StringValue", "\"1\""),
            r#"{"@type":"type.googleapis.com/google.protobuf.Int64Value"}"#.to_owned(),
            r#"{"@type":1,"value":"1"}"#.to_owned(),
            r#"{"a":[{"@type":{},"value":"1"}]}"#.to_owned(),
        ] {
            assert!(matches!(decoded(&format!("{{\"data\":{data}}}")), Err(Refusal::Malformed { position: Some(_), .. })), "{data}");
        }
    }

    #[test]
    fn the_clients_key_is_the_datas_or_the_payloads_and_only_a_valid_one() {
        let good = "key-0123456789:a";
        assert_eq!(key(&format!(r#"{{"idempotency_key":"{good}"}}"#)).as_deref(), Some(good));
        assert_eq!(key(&format!(r#"{{"payload":{{"idempotency_key":"{good}"}}}}"#)).as_deref(), Some(good));
        assert_eq!(key(&format!(r#"{{"idempotency_key":null,"payload":{{"idempotency_key":"{good}"}}}}"#)).as_deref(), Some(good));
        assert_eq!(key(&format!(r#"{{"idempotency_key":"short","payload":{{"idempotency_key":"{good}"}}}}"#)), None);
        for bad in ["0123456789abcde", "-123456789abcdef", "0123456789abcde/", "0123456789abcde\\n", &"x".repeat(129)] {
            assert_eq!(key(&format!(r#"{{"idempotency_key":"{bad}"}}"#)), None, "{bad}");
        }
        for none in ["null", "[]", "{}", "{\"idempotency_key\":1}", "{\"payload\":1}", "{\"payload\":{}}"] {
            assert_eq!(key(none), None, "{none}");
        }
    }
}
