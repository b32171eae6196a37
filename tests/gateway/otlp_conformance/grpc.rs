//! One call over gRPC, framed by hand, so that prefixes, trailers and answers of trailers alone can be seen as they are.

use std::io::Read;
use std::time::Duration;

use bytes::Bytes;
use flate2::read::{GzDecoder, ZlibDecoder};
use futures_util::stream;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request};
use http_body_util::{BodyExt, StreamBody};
use hyper::body::{Body as _, Frame};
use hyper_util::rt::{TokioExecutor, TokioIo};
use percent_encoding::percent_decode_str;
use tokio::sync::mpsc;

use crate::support::DEADLINE;

use super::status::{Said, retry_info, unbase64};
use super::target::Target;

/// The three services' only method, in the order of `TOPICS`.
pub const EXPORT: [&str; 3] = [
    "/opentelemetry.proto.collector.trace.v1.TraceService/Export",
    "/opentelemetry.proto.collector.metrics.v1.MetricsService/Export",
    "/opentelemetry.proto.collector.logs.v1.LogsService/Export",
];
/// Whether the server takes anything.
pub const HEALTH: &str = "/grpc.health.v1.Health/Check";

/// A call that is being put together.
#[derive(Clone)]
pub struct Call<'a> {
    target: &'a Target,
    method: Method,
    path: String,
    fields: HeaderMap,
    bytes: Vec<u8>,
    open: bool,
}

/// What came back.
#[derive(Debug, Clone)]
pub struct Reply {
    /// The status of HTTP.
    pub http: u16,
    /// The first block of fields.
    pub head: HeaderMap,
    /// The second one; none: the answer is trailers alone.
    pub trailers: Option<HeaderMap>,
    /// What lies between.
    pub body: Bytes,
}

/// A message of gRPC: a flag, a length, and the bytes.
pub fn framed(flag: u8, message: &[u8]) -> Vec<u8> {
    let length = u32::try_from(message.len()).expect("short enough").to_be_bytes();
    [&[flag][..], &length, message].concat()
}

impl<'a> Call<'a> {
    /// One without a message yet, with the target's token.
    pub fn new(target: &'a Target, path: &str) -> Self {
        let fields = HeaderMap::new();
        let call = Self { target, method: Method::POST, path: path.to_owned(), fields, bytes: Vec::new(), open: false };
        let call = call.field("content-type", "application/grpc").field("te", "trailers");
        match target.token() {
            Some(token) => call.field("authorization", &format!("Bearer {token}")),
            None => call,
        }
    }

    /// With this field, instead of what it had of that name.
    pub fn field(mut self, name: &str, value: &str) -> Self {
        let name = HeaderName::from_bytes(name.as_bytes()).expect("a field's name");
        self.fields.insert(name, HeaderValue::from_str(value).expect("a field's value"));
        self
    }

    /// By another method than POST.
    pub fn method(mut self, method: Method) -> Self {
        self.method = method;
        self
    }

    /// With one message more, not compressed.
    pub fn message(self, message: &[u8]) -> Self {
        self.raw(&framed(0, message))
    }

    /// With one message more that is compressed already.
    pub fn compressed(self, coding: &str, message: &[u8]) -> Self {
        self.field("grpc-encoding", coding).raw(&framed(1, message))
    }

    /// With these bytes more.
    pub fn raw(mut self, bytes: &[u8]) -> Self {
        self.bytes.extend(bytes);
        self
    }

    /// The sender does not end the stream: whoever answers does it on what has come so far.
    pub fn left_open(mut self) -> Self {
        self.open = true;
        self
    }

    /// Sends it and reads the whole answer.
    pub async fn send(self) -> Reply {
        let path = self.path.clone();
        let reply = tokio::time::timeout(DEADLINE, self.exchange()).await;
        let reply = reply.unwrap_or_else(|_| panic!("{path}: no answer within {DEADLINE:?}"));
        reply.unwrap_or_else(|error| panic!("{path}: {error:?}"))
    }

    async fn exchange(self) -> hyper::Result<Reply> {
        let stream = TokioIo::new(self.target.grpc().await.into_stream());
        let (mut sender, connection) = hyper::client::conn::http2::handshake(TokioExecutor::new(), stream).await?;
        tokio::spawn(connection);
        let (more, bytes) = mpsc::channel::<Bytes>(1);
        more.try_send(self.bytes.into()).expect("room for one");
        let kept = self.open.then_some(more);
        let bytes =
            stream::unfold(bytes, async |mut bytes| Some((Ok::<_, std::convert::Infallible>(Frame::data(bytes.recv().await?)), bytes)));
        let mut request = Request::new(BodyExt::boxed_unsync(StreamBody::new(bytes)));
        *request.method_mut() = self.method;
        *request.uri_mut() = format!("http://localhost{}", self.path).parse().expect("a path");
        *request.headers_mut() = self.fields;
        let (head, body) = sender.send_request(request).await?.into_parts();
        let alone = body.is_end_stream();
        let body = body.collect().await?;
        let trailers = (!alone).then(|| body.trailers().cloned().unwrap_or_default());
        drop(kept);
        Ok(Reply { http: head.status.as_u16(), head: head.headers, trailers, body: body.to_bytes() })
    }
}

fn unpacked(mut from: impl Read) -> Bytes {
    let mut bytes = Vec::new();
    from.read_to_end(&mut bytes).expect("it is packed as it says");
    bytes.into()
}

impl Reply {
    /// The block that tells the status.
    fn last(&self) -> &HeaderMap {
        self.trailers.as_ref().unwrap_or(&self.head)
    }

    /// A field of that block.
    pub fn field(&self, name: &str) -> Option<&str> {
        self.last().get(name)?.to_str().ok()
    }

    /// `grpc-status`.
    pub fn code(&self) -> i32 {
        self.field("grpc-status").and_then(|code| code.parse().ok()).unwrap_or_else(|| panic!("no grpc-status: {self:?}"))
    }

    /// `grpc-message`.
    pub fn message(&self) -> String {
        percent_decode_str(self.field("grpc-message").unwrap_or_default()).decode_utf8_lossy().into_owned()
    }

    /// `grpc-status-details-bin`.
    pub fn said(&self) -> Said {
        let details = self.field("grpc-status-details-bin").unwrap_or_else(|| panic!("no grpc-status-details-bin: {self:?}"));
        Said::of_protobuf(&unbase64(details))
    }

    /// The delay in `google.rpc.retryinfo-bin`, which Python's SDK alone reads.
    pub fn retry_info(&self) -> Option<Duration> {
        retry_info(self.field("google.rpc.retryinfo-bin")?)
    }

    /// A refusal as SDKs can read it: HTTP 200, one block of fields, nothing after it. Gives its code.
    pub fn refused(&self) -> i32 {
        assert_eq!(self.http, 200, "{self:?}");
        assert!(self.trailers.is_none() && self.body.is_empty(), "not trailers alone: {self:?}");
        assert!(self.head["content-type"].as_bytes().starts_with(b"application/grpc"), "{self:?}");
        assert_ne!(self.code(), 0, "{self:?}");
        self.code()
    }

    /// The one message of a success, unpacked.
    pub fn accepted(&self) -> Bytes {
        assert_eq!((self.http, self.code()), (200, 0), "{} {self:?}", self.message());
        let [flag, a, b, c, d, ..] = self.body[..] else { panic!("no message: {self:?}") };
        assert_eq!(u32::from_be_bytes([a, b, c, d]) as usize + 5, self.body.len(), "one message: {self:?}");
        let message = self.body.slice(5..);
        match (flag, self.head.get("grpc-encoding").map(|coding| coding.as_bytes())) {
            (0, _) => message,
            (1, Some(b"gzip")) => unpacked(GzDecoder::new(message.as_ref())),
            (1, Some(b"deflate")) => unpacked(ZlibDecoder::new(message.as_ref())),
            (1, Some(b"zstd")) => unpacked(zstd::Decoder::new(message.as_ref()).expect("to memory")),
            other => panic!("{other:?}: {self:?}"),
        }
    }
}
