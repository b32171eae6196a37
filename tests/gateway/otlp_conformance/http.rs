//! One request over HTTP on a connection of its own, with exactly the fields that a test gives it.

use bytes::Bytes;
use futures_util::stream;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request};
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::Frame;
use hyper_util::rt::{TokioExecutor, TokioIo};

use crate::support::DEADLINE;
use crate::support::client::Answer;

use super::target::Target;

/// What protobuf is called over HTTP.
pub const PROTOBUF: &str = "application/x-protobuf";
/// What JSON is called.
pub const JSON: &str = "application/json";

/// How large the pieces of a chunked body are.
const CHUNK: usize = 1000;

type Body = BoxBody<Bytes, std::convert::Infallible>;

/// A request that is being put together.
#[derive(Clone)]
pub struct Ask<'a> {
    target: &'a Target,
    method: Method,
    path: String,
    fields: HeaderMap,
    body: Bytes,
    chunked: bool,
    h2: bool,
}

impl<'a> Ask<'a> {
    /// An empty one, with the target's token.
    pub fn new(target: &'a Target, method: Method, path: &str) -> Self {
        let fields = HeaderMap::new();
        let ask = Self { target, method, path: path.to_owned(), fields, body: Bytes::new(), chunked: false, h2: false };
        match target.token() {
            Some(token) => ask.field("authorization", &format!("Bearer {token}")),
            None => ask,
        }
    }

    /// With this field, instead of what it had of that name.
    pub fn field(mut self, name: &str, value: &str) -> Self {
        let name = HeaderName::from_bytes(name.as_bytes()).expect("a field's name");
        self.fields.insert(name, HeaderValue::from_str(value).expect("a field's value"));
        self
    }

    /// With this body, of no type yet.
    pub fn body(mut self, body: impl Into<Bytes>) -> Self {
        self.body = body.into();
        self
    }

    /// With a body of protobuf.
    pub fn protobuf(self, body: impl Into<Bytes>) -> Self {
        self.field("content-type", PROTOBUF).body(body)
    }

    /// With a body of JSON.
    pub fn json(self, body: impl Into<Bytes>) -> Self {
        self.field("content-type", JSON).body(body)
    }

    /// In pieces, without its length, as Node sends it.
    pub fn chunked(mut self) -> Self {
        self.chunked = true;
        self
    }

    /// Over HTTP/2.
    pub fn over_h2(mut self) -> Self {
        self.h2 = true;
        self
    }

    /// Sends it and reads the whole answer.
    pub async fn send(self) -> Answer {
        let what = format!("{} {}", self.method, self.path);
        let exchange = async {
            let answer = if self.h2 { self.send_h2().await } else { self.send_h1().await };
            let (head, body) = answer.map_err(|error| format!("{error:?}"))?.into_parts();
            let body = body.collect().await.map_err(|error| format!("{error:?}"))?.to_bytes();
            Ok::<_, String>(Answer { status: head.status.as_u16(), headers: head.headers, body })
        };
        let answer = tokio::time::timeout(DEADLINE, exchange).await;
        answer.unwrap_or_else(|_| panic!("{what}: no answer within {DEADLINE:?}")).unwrap_or_else(|error| panic!("{what}: {error}"))
    }

    async fn send_h1(self) -> hyper::Result<http::Response<hyper::body::Incoming>> {
        let stream = TokioIo::new(self.target.http("http/1.1").await.into_stream());
        let (mut sender, connection) = hyper::client::conn::http1::handshake(stream).await?;
        tokio::spawn(connection);
        sender.send_request(self.request("").field_host()).await
    }

    async fn send_h2(self) -> hyper::Result<http::Response<hyper::body::Incoming>> {
        let stream = TokioIo::new(self.target.http("h2").await.into_stream());
        let (mut sender, connection) = hyper::client::conn::http2::handshake(TokioExecutor::new(), stream).await?;
        tokio::spawn(connection);
        sender.send_request(self.request("http://localhost")).await
    }

    fn request(self, origin: &str) -> Request<Body> {
        let mut request = Request::new(if self.chunked { in_pieces(self.body) } else { Full::new(self.body).boxed() });
        *request.method_mut() = self.method;
        *request.uri_mut() = format!("{origin}{}", self.path).parse().expect("a path");
        *request.headers_mut() = self.fields;
        request
    }
}

/// HTTP/1.1 names the host in a field.
trait FieldHost {
    fn field_host(self) -> Self;
}

impl FieldHost for Request<Body> {
    fn field_host(mut self) -> Self {
        self.headers_mut().insert("host", HeaderValue::from_static("localhost"));
        self
    }
}

fn in_pieces(body: Bytes) -> Body {
    let mut pieces = Vec::new();
    let mut rest = body;
    while !rest.is_empty() {
        pieces.push(Ok(Frame::data(rest.split_to(CHUNK.min(rest.len())))));
    }
    BodyExt::boxed(StreamBody::new(stream::iter(pieces)))
}
