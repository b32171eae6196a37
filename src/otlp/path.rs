//! Names the field that a byte belongs to: only when something is wrong there.
//!
//! What always holds: the names are the schema's, an unknown field is named by its number, and nothing of the payload is told.

use std::fmt::Write;
use std::ops::Range;

use super::schema::{Kind, LEGACY, Message};
use super::wire::{Cursor, Tag, Wire};

/// `resource_spans[2].scope_spans[0].spans[17].trace_id`; empty: it is the request itself.
pub(super) fn locate(bytes: &[u8], request: &'static Message, at: usize) -> String {
    let (mut path, mut message, mut range) = (String::new(), request, 0..bytes.len());
    // As deep as a request may be: each round goes into one message.
    loop {
        let Some((tag, content, index)) = field_at(bytes, range.clone(), at) else { return path };
        if !path.is_empty() {
            path.push('.');
        }
        let inside = name(&mut path, message, tag, index);
        match (inside, content) {
            (Some(inside), Some(content)) if at >= content.start && at < content.end => (message, range) = (inside, content),
            _ => return path,
        }
    }
}

/// Writes a field's name, and gives the message that it is.
fn name(path: &mut String, message: &'static Message, tag: Tag, index: usize) -> Option<&'static Message> {
    let (field, repeated, inside) = match message.field(tag.number) {
        Some(field) => (field.name, field.repeated, field.kind.message()),
        None if message.legacy.is_some() && tag.number == LEGACY => ("instrumentation_library", true, message.legacy),
        None => {
            // Writing to a string does not fail.
            let _ = write!(path, "field {}", tag.number);
            return None;
        }
    };
    path.push_str(field);
    if repeated {
        let _ = write!(path, "[{index}]");
    }
    inside.filter(|_| tag.wire == Kind::Bytes.wire())
}

/// The field of a message that a byte belongs to, its content, and how many of its number came before it.
fn field_at(bytes: &[u8], message: Range<usize>, at: usize) -> Option<(Tag, Option<Range<usize>>, usize)> {
    let find = |want: Option<u32>| {
        let (mut cursor, mut before) = (Cursor::of(bytes, message.clone()), 0);
        while let Ok(Some(tag)) = cursor.tag() {
            let content = if tag.wire == Wire::Length { cursor.content().map(Some) } else { cursor.skip(tag.wire).map(|()| None) };
            match content {
                Ok(content) if cursor.at() > at => return Some((tag, content, before)),
                Ok(_) => before += usize::from(want == Some(tag.number)),
                Err(_) => return Some((tag, None, before)),
            }
        }
        None
    };
    let (tag, ..) = find(None)?;
    find(Some(tag.number))
}
