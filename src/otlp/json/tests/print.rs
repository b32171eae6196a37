//! Writes requests as JSON, each time in another of the ways that senders have.
//!
//! Made for the tests alone, and from the generated types: it shares no table with the transcoder.

mod metrics;
mod spans;

use opentelemetry_proto::tonic::common::v1::{EntityRef, InstrumentationScope, KeyValue};
use opentelemetry_proto::tonic::resource::v1::Resource;

use super::draw::Draw;
use super::*;

/// Writes JSON. `is_plain`: as the specification has it, and nothing else.
pub struct Print<'a> {
    pub draw: Draw<'a>,
    pub is_plain: bool,
}

/// A member's name in camelCase and in snake_case, and its value; an empty one is left out.
type Member<'n> = (&'n str, &'n str, String);

impl Print<'_> {
    fn level(&self, head: Option<String>, list: Member<'_>, schema_url: &str, name: &str) -> String {
        self.object(vec![(name, name, head.unwrap_or_default()), list, ("schemaUrl", "schema_url", self.plain_text(schema_url))])
    }

    /// The other reader misses what is left out.
    fn may_leave_out(&self) -> bool {
        !self.is_plain && self.draw.yes()
    }

    /// White space, now and then.
    fn space(&self) -> &'static str {
        if self.is_plain { "" } else { self.draw.pick(&["", "", "", "", "", " ", "\n", "\t\r\n  "]) }
    }

    /// Members in any order, and between them some that nobody knows.
    fn object(&self, members: Vec<Member<'_>>) -> String {
        let mut told = Vec::new();
        for (camel, snake, value) in members.into_iter().filter(|(_, _, value)| !value.is_empty()) {
            let name = if !self.is_plain && self.draw.rarely(10) { snake } else { camel };
            told.push(format!("\"{name}\"{}:{}{value}", self.space(), self.space()));
        }
        if !self.is_plain && !told.is_empty() {
            let rotation = self.draw.below(told.len());
            told.rotate_left(rotation);
            if self.draw.rarely(20) {
                told.push(r#""unknown":[{"a":null},-1.5e-7,"\u0000",true]"#.into());
            }
        }
        format!("{}{{{}{}{}}}{}", self.space(), self.space(), told.join(&format!("{},", self.space())), self.space(), self.space())
    }

    /// Elements; an empty list is left out, or there.
    fn array(&self, elements: impl Iterator<Item = String>) -> String {
        let elements: Vec<_> = elements.collect();
        if elements.is_empty() && !self.is_plain && self.draw.yes() {
            return self.draw.pick(&["", "null"]).into();
        }
        format!("[{}{}]", self.space(), elements.join(&format!("{},{}", self.space(), self.space())))
    }

    fn plain_text(&self, text: &str) -> String {
        if text.is_empty() && self.may_leave_out() { String::new() } else { self.text(text) }
    }

    fn text(&self, text: &str) -> String {
        let mut out = String::from("\"");
        for character in text.chars() {
            match character {
                '"' => out.push_str("\\\""),
                '\\' => out.push_str("\\\\"),
                '\n' => out.push_str("\\n"),
                '/' if self.draw.yes() => out.push_str("\\/"),
                _ if character < ' ' || self.draw.rarely(16) => {
                    character.encode_utf16(&mut [0; 2]).iter().for_each(|unit| out.push_str(&format!("\\u{unit:04X}")));
                }
                _ => out.push(character),
            }
        }
        out + "\""
    }

    fn number(&self, number: &str) -> String {
        if self.draw.yes() && !self.is_plain { number.into() } else { format!("\"{number}\"") }
    }

    /// An integer of 64 bits in one of the ways that mean exactly it.
    fn int64(&self, integer: i128) -> String {
        if self.is_plain {
            return format!("\"{integer}\"");
        }
        match self.draw.below(6) {
            0 => self.number(&format!("{integer}.0")),
            1 if integer % 1000 == 0 => self.number(&format!("{}e+3", integer / 1000)),
            2 if integer != 0 => self.number(&format!("{integer}00E-2")),
            _ => self.number(&integer.to_string()),
        }
    }

    fn int32(&self, integer: i64) -> String {
        if self.is_plain { integer.to_string() } else { self.int64(integer.into()) }
    }

    /// Nothing, or a zero, for what is zero.
    fn unless_zero(&self, integer: i128, print: impl Fn(i128) -> String) -> String {
        if integer == 0 && self.may_leave_out() { String::new() } else { print(integer) }
    }

    fn u64(&self, integer: u64) -> String {
        self.unless_zero(integer.into(), |integer| self.int64(integer))
    }

    fn u32(&self, integer: u32) -> String {
        self.unless_zero(integer.into(), |integer| self.int32(integer as i64))
    }

    fn i32(&self, integer: i32) -> String {
        self.unless_zero(integer.into(), |integer| self.int32(integer as i64))
    }

    fn enumerated(&self, value: i32, name: Option<&str>) -> String {
        match name {
            Some(name) if !self.is_plain && self.draw.rarely(4) => format!("\"{name}\""),
            _ => self.i32(value),
        }
    }

    fn double(&self, double: f64) -> String {
        if !double.is_finite() {
            return if double.is_nan() { "\"NaN\"".into() } else { format!("\"{}Infinity\"", if double < 0.0 { "-" } else { "" }) };
        }
        let number = if self.draw.yes() { format!("{double:e}") } else { format!("{double}") };
        if self.is_plain { number } else { self.number(&number) }
    }

    fn maybe_double(&self, double: Option<f64>) -> String {
        double.map(|double| self.double(double)).unwrap_or_default()
    }

    fn id(&self, id: &[u8]) -> String {
        let hex: String = id.iter().map(|byte| if self.draw.yes() { format!("{byte:02X}") } else { format!("{byte:02x}") }).collect();
        self.plain_text_raw(&hex)
    }

    fn plain_text_raw(&self, text: &str) -> String {
        if text.is_empty() { String::new() } else { format!("\"{text}\"") }
    }

    fn bytes(&self, bytes: &[u8]) -> String {
        use base64::Engine;
        use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD, URL_SAFE, URL_SAFE_NO_PAD};
        if self.is_plain {
            return format!("\"{}\"", STANDARD.encode(bytes));
        }
        match self.draw.below(6) {
            0 => format!("\"{}\"", STANDARD.encode(bytes)),
            1 => format!("\"{}\"", STANDARD_NO_PAD.encode(bytes)),
            2 => format!("\"{}\"", URL_SAFE.encode(bytes)),
            3 => format!("\"{}\"", URL_SAFE_NO_PAD.encode(bytes)),
            4 => format!("{bytes:?}"),
            _ => format!(r#"{{"type":"Buffer","data":{bytes:?}}}"#),
        }
    }

    fn attributes(&self, attributes: &[KeyValue]) -> String {
        self.array(attributes.iter().map(|attribute| self.key_value(attribute)))
    }

    fn key_value(&self, pair: &KeyValue) -> String {
        self.object(vec![
            ("key", "key", self.plain_text(&pair.key)),
            ("value", "value", pair.value.as_ref().map(|value| self.any_value(value)).unwrap_or_default()),
            ("keyStrindex", "key_strindex", self.i32(pair.key_strindex)),
        ])
    }

    fn any_value(&self, value: &AnyValue) -> String {
        self.object(match &value.value {
            None if self.draw.yes() => vec![("doubleValue", "double_value", "null".into())],
            None => Vec::new(),
            Some(Value::StringValue(text)) => vec![("stringValue", "string_value", self.text(text))],
            Some(Value::BoolValue(is_true)) => vec![("boolValue", "bool_value", is_true.to_string())],
            Some(Value::IntValue(integer)) => vec![("intValue", "int_value", self.int64((*integer).into()))],
            Some(Value::DoubleValue(double)) => vec![("doubleValue", "double_value", self.double(*double))],
            Some(Value::ArrayValue(array)) => {
                let values = self.array(array.values.iter().map(|value| self.any_value(value)));
                vec![("arrayValue", "array_value", self.object(vec![("values", "values", values)]))]
            }
            Some(Value::KvlistValue(list)) => {
                vec![("kvlistValue", "kvlist_value", self.object(vec![("values", "values", self.attributes(&list.values))]))]
            }
            Some(Value::BytesValue(bytes)) => vec![("bytesValue", "bytes_value", self.bytes(bytes))],
            Some(Value::StringValueStrindex(index)) => {
                vec![("stringValueStrindex", "string_value_strindex", self.int32((*index).into()))]
            }
        })
    }

    fn resource(&self, resource: &Resource) -> String {
        self.object(vec![
            ("attributes", "attributes", self.attributes(&resource.attributes)),
            ("droppedAttributesCount", "dropped_attributes_count", self.u32(resource.dropped_attributes_count)),
            ("entityRefs", "entity_refs", self.array(resource.entity_refs.iter().map(|entity| self.entity(entity)))),
        ])
    }

    fn entity(&self, entity: &EntityRef) -> String {
        let texts = |texts: &[String]| self.array(texts.iter().map(|text| self.text(text)));
        self.object(vec![
            ("schemaUrl", "schema_url", self.plain_text(&entity.schema_url)),
            ("type", "type", self.plain_text(&entity.r#type)),
            ("idKeys", "id_keys", texts(&entity.id_keys)),
            ("descriptionKeys", "description_keys", texts(&entity.description_keys)),
        ])
    }

    fn scope(&self, scope: &InstrumentationScope) -> String {
        self.object(vec![
            ("name", "name", self.plain_text(&scope.name)),
            ("version", "version", self.plain_text(&scope.version)),
            ("attributes", "attributes", self.attributes(&scope.attributes)),
            ("droppedAttributesCount", "dropped_attributes_count", self.u32(scope.dropped_attributes_count)),
        ])
    }
}
