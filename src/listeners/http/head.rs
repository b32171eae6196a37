//! The bytes of one HTTP/1 connection, cut where messages begin and end.
//!
//! Strictly RFC 9112, before the HTTP library sees a byte: a line ends with CR LF, a length is said once, `chunked` is the
//! only transfer coding. What two readers could read differently is refused, so that nothing behind such a request is
//! ever taken for another one. No I/O here.

use super::fault::Fault;

const MAX_CHUNK_LINE: usize = 256;
const MAX_TRAILERS: usize = 4 << 10;
const MAX_METHOD: usize = 32;

/// The bounds of a request's head.
#[derive(Clone, Copy, Debug)]
pub struct HeadLimits {
    /// Bytes of request line and fields.
    pub bytes: usize,
    /// Number of fields.
    pub fields: usize,
    /// Bytes of the target.
    pub uri: usize,
}

/// What the next bytes are.
#[derive(Debug, PartialEq)]
pub enum Cut {
    /// So many bytes are understood and may be handed on.
    Pass(usize),
    /// So many bytes mean nothing and are dropped (empty lines before a request).
    Skip(usize),
    /// More bytes are needed to tell.
    More,
    /// A head that is not taken. Nothing after it is read.
    Refuse(Fault),
    /// A chunked body that is not one. Nothing after it is read.
    Broken(&'static str),
}

/// Where in its messages a connection is.
#[derive(Debug)]
pub struct Cutter {
    limits: HeadLimits,
    place: Place,
}

#[derive(Debug)]
enum Place {
    /// In a head: bytes looked through so far, and where its current line starts.
    Head {
        scanned: usize,
        line: usize,
    },
    Length(u64),
    ChunkSize,
    ChunkData(u64),
    ChunkEnd,
    Trailers(usize),
}

const START: Place = Place::Head { scanned: 0, line: 0 };

impl Cutter {
    /// At the start of a connection.
    pub fn new(limits: HeadLimits) -> Self {
        Self { limits, place: START }
    }

    /// Whether the next byte belongs to a head: no body is open.
    pub fn in_head(&self) -> bool {
        matches!(self.place, Place::Head { .. })
    }

    /// Looks at bytes that start where the last cut ended. A refusal does not move: asked again, it is said again.
    pub fn cut(&mut self, bytes: &[u8]) -> Cut {
        if bytes.is_empty() {
            return Cut::More;
        }
        match self.place {
            Place::Head { scanned, line } => self.head(bytes, scanned, line),
            Place::Length(left) => self.length(bytes, left),
            Place::ChunkSize => self.chunk_size(bytes),
            Place::ChunkData(left) => self.chunk_data(bytes, left),
            Place::ChunkEnd => self.chunk_end(bytes),
            Place::Trailers(size) => self.trailer(bytes, size),
        }
    }

    fn head(&mut self, bytes: &[u8], mut scanned: usize, mut line: usize) -> Cut {
        if line == 0 && bytes.starts_with(b"\r\n") {
            self.place = START;
            return Cut::Skip(2);
        }
        while let Some(found) = position(&bytes[scanned..], b'\n') {
            let end = scanned + found;
            if end == 0 || bytes[end - 1] != b'\r' {
                return Cut::Refuse(Fault::BadRequest("a line of the head ends without CR LF"));
            }
            if end - 1 == line {
                return self.whole_head(&bytes[..=end]);
            }
            scanned = end + 1;
            line = scanned;
        }
        if bytes.len() > self.limits.bytes {
            return Cut::Refuse(self.oversized(bytes));
        }
        self.place = Place::Head { scanned: bytes.len(), line };
        Cut::More
    }

    fn whole_head(&mut self, head: &[u8]) -> Cut {
        if head.len() > self.limits.bytes {
            return Cut::Refuse(self.oversized(head));
        }
        match read_head(head, &self.limits) {
            Ok(Framed::Length(0)) => self.place = START,
            Ok(Framed::Length(length)) => self.place = Place::Length(length),
            Ok(Framed::Chunked) => self.place = Place::ChunkSize,
            Err(fault) => return Cut::Refuse(fault),
        }
        Cut::Pass(head.len())
    }

    fn oversized(&self, head: &[u8]) -> Fault {
        let line = position(head, b'\n').unwrap_or(head.len());
        let longest = self.limits.uri + MAX_METHOD + " HTTP/1.1\r".len();
        if line > longest { Fault::UriTooLong } else { Fault::HeadersTooLarge }
    }

    fn length(&mut self, bytes: &[u8], left: u64) -> Cut {
        let n = within(left, bytes.len());
        let left = left - n as u64;
        self.place = if left == 0 { START } else { Place::Length(left) };
        Cut::Pass(n)
    }

    fn chunk_size(&mut self, bytes: &[u8]) -> Cut {
        let line = match line(bytes, MAX_CHUNK_LINE) {
            Line::Whole(line) => line,
            Line::Partial => return Cut::More,
            Line::Wrong => return Cut::Broken("a chunk's size line does not end with CR LF, or not in time"),
        };
        let digits = line.iter().take_while(|b| b.is_ascii_hexdigit()).count();
        let extension = &line[digits..];
        let size = std::str::from_utf8(&line[..digits]).ok().and_then(|hex| u64::from_str_radix(hex, 16).ok());
        let Some(size) = size.filter(|_| digits <= 16) else {
            return Cut::Broken("a chunk's size is not a hexadecimal number");
        };
        if !(extension.is_empty() || extension[0] == b';' && extension.iter().all(|b| is_text(*b))) {
            return Cut::Broken("something other than an extension follows a chunk's size");
        }
        self.place = if size == 0 { Place::Trailers(0) } else { Place::ChunkData(size) };
        Cut::Pass(line.len() + 2)
    }

    fn chunk_data(&mut self, bytes: &[u8], left: u64) -> Cut {
        let n = within(left, bytes.len());
        let left = left - n as u64;
        self.place = if left == 0 { Place::ChunkEnd } else { Place::ChunkData(left) };
        Cut::Pass(n)
    }

    fn chunk_end(&mut self, bytes: &[u8]) -> Cut {
        if bytes.starts_with(b"\r\n") {
            self.place = Place::ChunkSize;
            return Cut::Pass(2);
        }
        if bytes == b"\r" { Cut::More } else { Cut::Broken("a chunk is longer than its size says") }
    }

    fn trailer(&mut self, bytes: &[u8], size: usize) -> Cut {
        let line = match line(bytes, MAX_TRAILERS - size) {
            Line::Whole(line) => line,
            Line::Partial => return Cut::More,
            Line::Wrong => return Cut::Broken("the trailers are too large, or a line of them does not end with CR LF"),
        };
        let read = line.len() + 2;
        if line.is_empty() {
            self.place = START;
        } else if field(line).is_some() {
            self.place = Place::Trailers(size + read);
        } else {
            return Cut::Broken("a trailer is not a field");
        }
        Cut::Pass(read)
    }
}

enum Framed {
    Length(u64),
    Chunked,
}

fn read_head(head: &[u8], limits: &HeadLimits) -> Result<Framed, Fault> {
    let bad = |what| Err(Fault::BadRequest(what));
    let mut lines = head.split_inclusive(|b| *b == b'\n').map(|line| &line[..line.len() - 2]);
    let old = request_line(lines.next().unwrap_or_default(), limits)?;
    let (mut length, mut chunked, mut count) = (None, false, 0);
    for line in lines.filter(|line| !line.is_empty()) {
        count += 1;
        if count > limits.fields {
            return Err(Fault::HeadersTooLarge);
        }
        if matches!(line[0], b' ' | b'\t') {
            return bad("a header field is folded over two lines");
        }
        let Some((name, value)) = field(line) else {
            return bad("a line of the head is not a header field");
        };
        if name.eq_ignore_ascii_case(b"content-length") {
            if length.is_some() {
                return bad("Content-Length is there twice");
            }
            length = Some(content_length(value)?);
        } else if name.eq_ignore_ascii_case(b"transfer-encoding") {
            if chunked || !value.eq_ignore_ascii_case(b"chunked") {
                return bad("the only transfer coding is `chunked`, once");
            }
            chunked = true;
        }
    }
    match (length, chunked) {
        (Some(_), true) => bad("Content-Length and Transfer-Encoding are both there"),
        (None, true) if old => bad("HTTP/1.0 has no transfer codings"),
        (None, true) => Ok(Framed::Chunked),
        (length, false) => Ok(Framed::Length(length.unwrap_or_default())),
    }
}

/// Checks the request line; true for HTTP/1.0.
fn request_line(line: &[u8], limits: &HeadLimits) -> Result<bool, Fault> {
    let bad = |what| Err(Fault::BadRequest(what));
    let mut words = line.split(|b| *b == b' ');
    let (Some(method), Some(target), Some(version), None) = (words.next(), words.next(), words.next(), words.next()) else {
        return bad("the request line is not a method, a target and a version with one space between them");
    };
    if method.is_empty() || method.len() > MAX_METHOD || !method.iter().all(|b| is_token(*b)) {
        return bad("the method is not one");
    }
    if target.len() > limits.uri {
        return Err(Fault::UriTooLong);
    }
    if !target.iter().all(u8::is_ascii_graphic) || http::Uri::try_from(target).is_err() {
        return bad("the target is not a URI");
    }
    match version {
        b"HTTP/1.1" => Ok(false),
        b"HTTP/1.0" => Ok(true),
        _ => bad("the version is neither HTTP/1.1 nor HTTP/1.0"),
    }
}

fn content_length(value: &[u8]) -> Result<u64, Fault> {
    let digits = !value.is_empty() && value.iter().all(u8::is_ascii_digit);
    let length = std::str::from_utf8(value).ok().filter(|_| digits).and_then(|text| text.parse::<i64>().ok());
    length.and_then(|length| u64::try_from(length).ok()).ok_or(Fault::BadRequest("Content-Length is not a length"))
}

/// A field's name and value, if the line is one.
fn field(line: &[u8]) -> Option<(&[u8], &[u8])> {
    let colon = position(line, b':')?;
    let (name, value) = (&line[..colon], line[colon + 1..].trim_ascii());
    let legal = !name.is_empty() && name.iter().all(|b| is_token(*b)) && line[colon + 1..].iter().all(|b| is_text(*b));
    legal.then_some((name, value))
}

enum Line<'a> {
    Whole(&'a [u8]),
    Partial,
    Wrong,
}

/// The first line, without its CR LF, if it is no longer than `limit`.
fn line(bytes: &[u8], limit: usize) -> Line<'_> {
    match position(&bytes[..bytes.len().min(limit)], b'\n') {
        Some(end) if end > 0 && bytes[end - 1] == b'\r' => Line::Whole(&bytes[..end - 1]),
        None if bytes.len() < limit => Line::Partial,
        Some(_) | None => Line::Wrong,
    }
}

fn position(bytes: &[u8], byte: u8) -> Option<usize> {
    bytes.iter().position(|b| *b == byte)
}

fn within(left: u64, have: usize) -> usize {
    usize::try_from(left).unwrap_or(usize::MAX).min(have)
}

fn is_token(b: u8) -> bool {
    b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b)
}

fn is_text(b: u8) -> bool {
    b == b'\t' || (b >= b' ' && b != 0x7f)
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: HeadLimits = HeadLimits { bytes: 16 << 10, fields: 100, uri: 4 << 10 };

    /// Feeds a connection's bytes in pieces of `step`, and gives what passed and what ended it.
    fn feed(bytes: &[u8], step: usize) -> (Vec<u8>, Cut) {
        let mut cutter = Cutter::new(LIMITS);
        let (mut passed, mut start, mut end) = (Vec::new(), 0, 0);
        loop {
            match cutter.cut(&bytes[start..end]) {
                Cut::Pass(n) => {
                    passed.extend_from_slice(&bytes[start..start + n]);
                    start += n;
                }
                Cut::Skip(n) => start += n,
                Cut::More if end == bytes.len() => return (passed, Cut::More),
                Cut::More => end = (end + step).min(bytes.len()),
                refused => return (passed, refused),
            }
        }
    }

    fn refused(head: &str) -> Fault {
        match feed(head.as_bytes(), 7) {
            (_, Cut::Refuse(fault)) => fault,
            other => panic!("{head:?}: {other:?}"),
        }
    }

    #[test]
    fn messages_pass_byte_for_byte_however_they_are_cut() {
        let bytes = b"POST /a HTTP/1.1\r\nhost: x\r\ncontent-length: 5\r\n\r\nhello\
            POST /b HTTP/1.1\r\nhost: x\r\ntransfer-encoding: Chunked\r\n\r\n5;name=\"v\"\r\nhello\r\n0A\r\n0123456789\r\n0\r\nx-sum: 1\r\n\r\n\
            GET http://x/c HTTP/1.0\r\nhost: x\r\n\r\n";
        for step in [1, 2, 3, 17, 1000] {
            let (passed, end) = feed(bytes, step);
            assert_eq!(passed, bytes, "step {step}");
            assert_eq!(end, Cut::More);
        }
        let (passed, _) = feed(b"\r\n\r\nGET / HTTP/1.1\r\n\r\n", 1);
        assert_eq!(passed, b"GET / HTTP/1.1\r\n\r\n", "empty lines before a request are nothing");
    }

    #[test]
    fn what_two_readers_could_read_differently_is_refused() {
        for head in [
            "POST / HTTP/1.1\nhost: x\n\n",
            "POST / HTTP/1.1\r\nhost: x\n\r\n",
            "POST / HTTP/1.1\r\ncontent-length: 1\r\ncontent-length: 1\r\n\r\n",
            "POST / HTTP/1.1\r\ncontent-length: 1\r\nContent-Length: 2\r\n\r\n",
            "POST / HTTP/1.1\r\ncontent-length: 1, 1\r\n\r\n",
            "POST / HTTP/1.1\r\ncontent-length: +1\r\n\r\n",
            "POST / HTTP/1.1\r\ncontent-length: \r\n\r\n",
            "POST / HTTP/1.1\r\ncontent-length: 18446744073709551616\r\n\r\n",
            "POST / HTTP/1.1\r\ncontent-length: 9223372036854775808\r\n\r\n",
            "POST / HTTP/1.1\r\ncontent-length: 1\r\ntransfer-encoding: chunked\r\n\r\n",
            "POST / HTTP/1.1\r\ntransfer-encoding: chunked\r\ncontent-length: 1\r\n\r\n",
            "POST / HTTP/1.1\r\ntransfer-encoding: chunked\r\ntransfer-encoding: chunked\r\n\r\n",
            "POST / HTTP/1.1\r\ntransfer-encoding: gzip, chunked\r\n\r\n",
            "POST / HTTP/1.1\r\ntransfer-encoding: identity\r\n\r\n",
            "POST / HTTP/1.1\r\ntransfer-encoding : chunked\r\n\r\n",
            "POST / HTTP/1.0\r\ntransfer-encoding: chunked\r\n\r\n",
            "POST / HTTP/1.1\r\nx: a\r\n b\r\n\r\n",
            "POST / HTTP/1.1\r\n x: a\r\n\r\n",
            "POST / HTTP/1.1\r\nx: a\rb\r\n\r\n",
            "POST / HTTP/1.1\r\nx: a\0b\r\n\r\n",
            "POST / HTTP/1.1\r\nx\r\n\r\n",
            "POST / HTTP/1.1\r\n: x\r\n\r\n",
            "POST  / HTTP/1.1\r\n\r\n",
            "POST / HTTP/1.1 \r\n\r\n",
            "POST /\u{e4} HTTP/1.1\r\n\r\n",
            "POST / HTTP/2.0\r\n\r\n",
            "POST /\r\n\r\n",
            "P\u{1}ST / HTTP/1.1\r\n\r\n",
            "\r\r\n\r\n",
        ] {
            assert!(matches!(refused(head), Fault::BadRequest(_)), "{head:?}");
        }
    }

    #[test]
    fn a_head_is_bounded_in_bytes_fields_and_target() {
        let field = |n: usize| "a: b\r\n".repeat(n);
        assert_eq!(feed(format!("GET / HTTP/1.1\r\n{}\r\n", field(100)).as_bytes(), 100).1, Cut::More);
        assert_eq!(refused(&format!("GET / HTTP/1.1\r\n{}\r\n", field(101))), Fault::HeadersTooLarge);
        assert_eq!(refused(&format!("GET / HTTP/1.1\r\na: {}\r\n\r\n", "b".repeat(17 << 10))), Fault::HeadersTooLarge);
        assert_eq!(refused(&format!("GET / HTTP/1.1\r\na: {}", "b".repeat(17 << 10))), Fault::HeadersTooLarge);
        assert_eq!(refused(&format!("GET /{} HTTP/1.1\r\n\r\n", "b".repeat(5 << 10))), Fault::UriTooLong);
        assert_eq!(refused(&format!("GET /{}", "b".repeat(17 << 10))), Fault::UriTooLong);
    }

    #[test]
    fn tricks_with_chunks_end_the_connection() {
        let head = "POST / HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n";
        let long = format!("1;{}\r\n", "x".repeat(300));
        let trailers = format!("0\r\n{}", "a: b\r\n".repeat(1000));
        for body in [
            "5\nhello\r\n",
            "5\r\nhello\n",
            "5\r\nhello!\r\n",
            "-5\r\n",
            "0x5\r\n",
            " 5\r\n",
            "5 \r\n",
            "\r\n",
            "00000000000000005\r\n",
            "fffffffffffffffff\r\n",
            "5;a\u{1}b\r\n",
            "0\r\nbad trailer\r\n\r\n",
            "0\r\nx: y\n\r\n",
            &long,
            &trailers,
        ] {
            let end = feed(format!("{head}{body}").as_bytes(), 5).1;
            assert!(matches!(end, Cut::Broken(_)), "{body:?}: {end:?}");
        }
    }

    proptest::proptest! {
        #[test]
        fn any_bytes_are_cut_the_same_in_any_pieces(tail in proptest::collection::vec(proptest::num::u8::ANY, 0..200), step in 1usize..50) {
            let mut bytes = b"POST / HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n".to_vec();
            bytes.extend(tail);
            let (whole, end) = feed(&bytes, bytes.len());
            let (pieces, last) = feed(&bytes, step);
            proptest::prop_assert_eq!(whole, pieces);
            proptest::prop_assert_eq!(end, last);
        }
    }
}
