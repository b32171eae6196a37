//! Native events: from a body to the events in it, each of them good or refused by itself.
//!
//! What always holds: bytes that are not JSON refuse the whole request, with the place of the fault, because nothing behind
//! the fault can be trusted; a well-formed event that is wrong refuses only itself. A value is a slice of the body, as it came.

use std::borrow::Cow;
use std::ops::Range;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use http::HeaderMap;
use http::header::CONTENT_TYPE;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::fault::Fault;
use super::json::{self, Cursor, Flaw};
use super::settings::Config;
use crate::event::{ClientKey, Event, Headers, Topic};
use crate::receipt::Refusal;

/// Most headers of one event.
pub const MAX_HEADERS: usize = 64;

/// Longest name of an event's header, in bytes.
pub const MAX_HEADER_NAME_LENGTH: usize = 255;

/// The end of the year 9999 in milliseconds: the latest time that RFC 3339 can write.
const MAX_TIME: u64 = 253_402_300_799_999;

/// The longest piece of a sender's text in a message of ours.
const MAX_QUOTED: usize = 256;

const IDEMPOTENCY_KEY: &str = "idempotency-key";
const MEDIA_TYPES: &str = "application/json, application/x-ndjson";

/// How a body writes its events.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// An object, or an array of them.
    Json,
    /// One object a line.
    Lines,
}

impl Form {
    /// The form that `Content-Type` names.
    pub fn of(headers: &HeaderMap) -> Result<Self, Fault> {
        match media_type(headers).as_deref() {
            Some("application/json") => Ok(Self::Json),
            Some("application/x-ndjson") => Ok(Self::Lines),
            _ => Err(Fault::UnsupportedMediaType(MEDIA_TYPES)),
        }
    }
}

/// The media type in lower case; none: it is missing, or in a character set other than UTF-8.
pub fn media_type(headers: &HeaderMap) -> Option<String> {
    let text = headers.get(CONTENT_TYPE)?.to_str().ok()?.to_ascii_lowercase();
    let mut parts = text.split(';').map(str::trim);
    let essence = parts.next()?.to_owned();
    let charset = parts.find_map(|parameter| parameter.strip_prefix("charset=")).map_or("utf-8", |name| name.trim_matches('"'));
    matches!(charset, "utf-8" | "utf8" | "us-ascii").then_some(essence)
}

/// What a request says of its events outside the body.
#[derive(Debug)]
pub struct Given<'a> {
    /// The topic in the path: no event may name another.
    pub path: Option<&'a str>,
    /// The topic in the query, for events that name none.
    pub query: Option<&'a str>,
    /// The id of the one event in the body.
    pub id: Option<ClientKey>,
    /// Default and bare topics, and the bound on events.
    pub config: &'a Config,
}

/// Reads `Idempotency-Key`, bare or in the quotes of the IETF draft.
pub fn idempotency_key(headers: &HeaderMap) -> Result<Option<ClientKey>, Refusal> {
    let mut values = headers.get_all(IDEMPOTENCY_KEY).iter();
    let Some(value) = values.next() else { return Ok(None) };
    let bad = |what: String| Refusal::Malformed { message: format!("Idempotency-Key: {what}"), position: None };
    if values.next().is_some() {
        return Err(bad("given twice".to_owned()));
    }
    let text = value.to_str().unwrap_or_default();
    let bare = text.strip_prefix('"').and_then(|text| text.strip_suffix('"')).unwrap_or(text);
    ClientKey::new(bare).map(Some).map_err(|error| bad(error.to_string()))
}

/// Decodes a body: one result for each event, in order; an error refuses the request.
pub fn decode(body: &Bytes, form: Form, given: &Given<'_>) -> Result<Vec<Result<Event, Refusal>>, Refusal> {
    let mut decoder = Decoder { body, given, results: Vec::new(), count: 0, last: None };
    let single = decoder.body(form).map_err(|flaw| flaw.refusal(body))?;
    if given.id.is_some() && !single {
        return Err(Refusal::malformed("Idempotency-Key names one event: send a single JSON object, or give each event its own `id`"));
    }
    let (actual, limit) = (decoder.count, u64::from(given.config.max_events));
    if actual > limit {
        return Err(Refusal::TooLarge { what: "the number of events in one request", actual, limit });
    }
    Ok(decoder.results)
}

/// A sender's text for a message of ours: short, and with nothing in it that moves a cursor or starts a line.
pub fn printable(text: &str) -> String {
    let mut shown = String::new();
    for (index, c) in text.chars().enumerate() {
        if index == MAX_QUOTED {
            shown.push('…');
            break;
        }
        if c.is_control() { shown.extend(c.escape_unicode()) } else { shown.push(c) }
    }
    shown
}

const TOPIC: usize = 0;
const ID: usize = 1;
const KEY: usize = 2;
const HEADERS: usize = 3;
const TIME: usize = 4;
const DATA: usize = 5;
const FIELDS: [&str; 6] = ["topic", "id", "key", "headers", "time", "data"];

/// Where an event's fields stand in the body.
#[derive(Debug, Default)]
struct Fields {
    known: [Option<Range<usize>>; FIELDS.len()],
    unknown: Option<Range<usize>>,
    twice: Option<usize>,
}

impl Fields {
    fn note(&mut self, name: &str, key: Range<usize>, value: Range<usize>) {
        match FIELDS.iter().position(|field| *field == name) {
            Some(index) if self.known[index].is_none() => self.known[index] = Some(value),
            Some(_) => drop(self.twice.get_or_insert(key.start)),
            None => drop(self.unknown.get_or_insert(key)),
        }
    }
}

struct Decoder<'a> {
    body: &'a Bytes,
    given: &'a Given<'a>,
    results: Vec<Result<Event, Refusal>>,
    count: u64,
    /// The topic of the event before: a batch mostly has one, and a name is checked and allocated once.
    last: Option<Topic>,
}

impl Decoder<'_> {
    /// Walks the body; whether it was a single object.
    fn body(&mut self, form: Form) -> Result<bool, Flaw> {
        json::check_encoding(self.body)?;
        match form {
            Form::Json => self.document(),
            Form::Lines => self.lines().map(|()| false),
        }
    }

    fn document(&mut self) -> Result<bool, Flaw> {
        let mut cursor = Cursor::within(self.body, 0..self.body.len());
        let many = cursor.peek() == Some(b'[');
        if many {
            cursor.elements(|cursor| self.event(cursor))?;
        } else {
            self.event(&mut cursor)?;
        }
        cursor.end()?;
        Ok(!many)
    }

    fn lines(&mut self) -> Result<(), Flaw> {
        let body: &[u8] = self.body;
        let mut start = 0;
        for line in body.split(|b| *b == b'\n') {
            let mut cursor = Cursor::within(body, start..start + line.len());
            if cursor.peek().is_some() {
                self.event(&mut cursor)?;
                cursor.end()?;
            }
            start += line.len() + 1;
        }
        Ok(())
    }

    fn event(&mut self, cursor: &mut Cursor<'_>) -> Result<(), Flaw> {
        self.count += 1;
        if self.count > u64::from(self.given.config.max_events) {
            // Still checked and counted: the answer says how many there are, and a fault behind the bound is a fault.
            return cursor.value().map(drop);
        }
        let mut fields = Fields::default();
        let is_object = cursor.peek() == Some(b'{');
        let start = cursor.at();
        if is_object {
            let body: &[u8] = self.body;
            cursor.members(|cursor, key| {
                let value = cursor.value()?;
                fields.note(&json::unquote(&body[key.clone()]), key, value);
                Ok(())
            })?;
        } else {
            cursor.value()?;
        }
        let whole = start..cursor.at();
        if fields.known[DATA].is_none() && self.is_bare() {
            fields = Fields::default();
            fields.known[DATA] = Some(whole);
        } else if let Some(offset) = fields.twice {
            return Err(Flaw { offset, message: "a field of an event is given twice" });
        }
        let event = if is_object || fields.known[DATA].is_some() {
            self.build(&fields)
        } else {
            Err(Refusal::Invalid { message: "an event is a JSON object with the field `data`".to_owned(), field: None })
        };
        self.results.push(event);
        Ok(())
    }

    /// Whether a body without `data` is the data, by the topic that it is sent to.
    fn is_bare(&self) -> bool {
        self.topic_outside().is_some_and(|topic| self.given.config.bare_topics.iter().any(|bare| bare == topic))
    }

    fn topic_outside(&self) -> Option<&str> {
        let default = self.given.config.default_topic.as_str();
        self.given.path.or(self.given.query).or((!default.is_empty()).then_some(default))
    }

    fn build(&mut self, fields: &Fields) -> Result<Event, Refusal> {
        if let Some(key) = &fields.unknown {
            let name = printable(&json::unquote(&self.body[key.clone()]));
            let message = format!("unknown field `{name}`; an event has `topic`, `id`, `key`, `headers`, `time` and `data`");
            return Err(Refusal::Invalid { message, field: Some(name) });
        }
        let Some(data) = &fields.known[DATA] else {
            return Err(Refusal::invalid("data", "the field `data` is missing; it holds the event's value"));
        };
        Ok(Event {
            topic: self.topic(fields)?,
            client_key: self.client_key(fields)?,
            partition: None,
            items: 1,
            key: self.text(fields, KEY)?.map(|key| Bytes::copy_from_slice(key.as_bytes())),
            headers: self.headers(fields)?,
            time: self.time(fields)?,
            value: self.body.slice(data.clone()),
        })
    }

    fn topic(&mut self, fields: &Fields) -> Result<Topic, Refusal> {
        let own = self.text(fields, TOPIC)?;
        if let (Some(own), Some(path)) = (own.as_deref(), self.given.path)
            && own != path
        {
            let message = format!("the event's topic `{}` is not the path's `{}`", printable(own), printable(path));
            return Err(Refusal::invalid("topic", message));
        }
        let Some(name) = own.as_deref().or_else(|| self.topic_outside()) else {
            return Err(Refusal::invalid("topic", "no topic: name it in the path, in the field `topic`, or in the query"));
        };
        if let Some(last) = self.last.as_ref().filter(|last| last.as_str() == name) {
            return Ok(last.clone());
        }
        // What cannot be a topic is not there, and that is answered like what is not granted.
        let topic = Topic::new(name).map_err(|_| Refusal::Denied { topic: printable(name) })?;
        self.last = Some(topic.clone());
        Ok(topic)
    }

    fn client_key(&self, fields: &Fields) -> Result<Option<ClientKey>, Refusal> {
        let own = self.text(fields, ID)?;
        let own = own.map(|id| ClientKey::new(&id).map_err(|error| Refusal::invalid("id", error.to_string()))).transpose()?;
        match (own, &self.given.id) {
            (Some(own), Some(given)) if own != *given => Err(Refusal::invalid("id", "`id` and Idempotency-Key differ; send one of them")),
            (own, given) => Ok(own.or_else(|| given.clone())),
        }
    }

    fn headers(&self, fields: &Fields) -> Result<Headers, Refusal> {
        let Some(place) = self.place(fields, HEADERS) else { return Ok(Headers::new()) };
        let wrong = || Refusal::invalid("headers", "`headers` is an object whose values are strings");
        if self.body[place.start] != b'{' {
            return Err(wrong());
        }
        let mut pairs = Vec::new();
        let walked = Cursor::within(self.body, place).members(|cursor, key| {
            let value = cursor.value()?;
            pairs.push((key, value));
            Ok(())
        });
        walked.map_err(|flaw| flaw.refusal(self.body))?;
        if pairs.len() > MAX_HEADERS {
            return Err(Refusal::invalid("headers", format!("{} headers; an event has at most {MAX_HEADERS}", pairs.len())));
        }
        pairs.into_iter().map(|(key, value)| self.header(key, value).ok_or_else(wrong)?).collect()
    }

    /// One header; none: its value is not a string.
    fn header(&self, key: Range<usize>, value: Range<usize>) -> Option<Result<(String, Bytes), Refusal>> {
        let value = self.string_at(value)?;
        let name = json::unquote(&self.body[key]);
        if name.is_empty() || name.len() > MAX_HEADER_NAME_LENGTH || name.contains(char::is_control) {
            let message = format!(
                "the name of a header is 1 to {MAX_HEADER_NAME_LENGTH} bytes without control characters, not `{}`",
                printable(&name)
            );
            return Some(Err(Refusal::invalid("headers", message)));
        }
        Some(Ok((name.into_owned(), Bytes::copy_from_slice(value.as_bytes()))))
    }

    fn time(&self, fields: &Fields) -> Result<Option<SystemTime>, Refusal> {
        let Some(place) = self.place(fields, TIME) else { return Ok(None) };
        let millis = match self.string_at(place.clone()) {
            Some(text) => {
                OffsetDateTime::parse(&text, &Rfc3339).ok().and_then(|time| u64::try_from(time.unix_timestamp_nanos() / 1_000_000).ok())
            }
            None => std::str::from_utf8(&self.body[place]).ok().and_then(|digits| digits.parse().ok()),
        };
        let expected = "`time` is an RFC 3339 string or an integer of milliseconds since 1970";
        let millis = millis.filter(|millis| *millis <= MAX_TIME).ok_or_else(|| Refusal::invalid("time", expected))?;
        Ok(Some(SystemTime::UNIX_EPOCH + Duration::from_millis(millis)))
    }

    /// A field that is a string where it is there.
    fn text(&self, fields: &Fields, field: usize) -> Result<Option<Cow<'_, str>>, Refusal> {
        let Some(place) = self.place(fields, field) else { return Ok(None) };
        let name = FIELDS[field];
        self.string_at(place).map(Some).ok_or_else(|| Refusal::invalid(name, format!("`{name}` is a string")))
    }

    /// Where a field stands; `null` is the same as not there, as many encoders write it so.
    fn place(&self, fields: &Fields, field: usize) -> Option<Range<usize>> {
        fields.known[field].clone().filter(|place| &self.body[place.clone()] != b"null")
    }

    fn string_at(&self, place: Range<usize>) -> Option<Cow<'_, str>> {
        let raw = &self.body[place];
        raw.starts_with(b"\"").then(|| json::unquote(raw))
    }
}

#[cfg(test)]
mod tests;
