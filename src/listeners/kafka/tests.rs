//! The door from outside: its bytes written and read by a library that is not ours, over a pipe, with time paused.

mod batches;
mod bounds;
mod login;
mod questions;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use kafka_protocol::messages::sasl_authenticate_request::SaslAuthenticateRequest;
use kafka_protocol::messages::sasl_authenticate_response::SaslAuthenticateResponse;
use kafka_protocol::messages::sasl_handshake_request::SaslHandshakeRequest;
use kafka_protocol::messages::{RequestHeader, ResponseHeader};
use kafka_protocol::protocol::{Decodable, Encodable, HeaderVersion, Request, StrBytes};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::{Arrival, Config, Door, DoorParts};
use crate::auth::key::Algorithm;
use crate::auth::mint::mint;
use crate::auth::{self, Authenticator, IssuerConfig, Kind, Principal};
use crate::drain::Drain;
use crate::ingest::Ingest;
use crate::limits::inflight::Meter;
use crate::listeners::Peer;
use crate::units::Secret;

pub(super) const PASSWORD: &str = "correct horse";
pub(super) const TOPIC: &str = "orders";
const LOGIN_TIME: Duration = Duration::from_secs(5);

fn issuer() -> IssuerConfig {
    IssuerConfig {
        kind: Kind::Static,
        issuer: Some("backend".into()),
        audience: Some("gate".into()),
        algorithm: Some(Algorithm::HS256),
        key: Secret::new("0123456789abcdef0123456789abcdef"),
        topics_claim: Some("topics".into()),
        ..IssuerConfig::default()
    }
}

/// A token as OAUTHBEARER sends it.
pub(super) fn token(subject: &str, seconds: u64) -> String {
    let token = mint(&issuer(), subject, &[TOPIC.parse().expect("a grant")], Duration::from_secs(seconds)).expect("minted");
    format!("n,,\x01auth=Bearer {token}\x01\x01")
}

pub(super) fn password(password: &str) -> String {
    format!("\0ada\0{password}")
}

/// A gate whose Kafka door is tested: its trunk knows one topic, and has neither a broker nor an inbox.
pub(super) struct Gate {
    pub door: Arc<Door>,
    pub drain: Drain,
    pub meter: Arc<Meter>,
}

impl Gate {
    pub fn new(config: Config) -> Self {
        let auth = auth::Config {
            kafka_user: Some("ada".into()),
            kafka_password: Secret::new(PASSWORD),
            kafka_topics: vec![TOPIC.parse().expect("a grant")],
            issuers: [("backend".to_owned(), issuer())].into(),
            ..auth::Config::default()
        };
        let (drain, meter) = (Drain::default(), Meter::new(128 << 20));
        let parts = DoorParts {
            ingest: Arc::new(Ingest::without_tiers(&[TOPIC, "others"])),
            authenticator: Arc::new(Authenticator::new(&auth).expect("a good configuration")),
            meter: Arc::clone(&meter),
            drain: drain.clone(),
        };
        Self { door: Arc::new(Door::new(parts, config)), drain, meter }
    }

    pub fn connect(&self) -> Client {
        self.connect_as(None, 64 << 10)
    }

    pub fn connect_as(&self, principal: Option<Principal>, pipe: usize) -> Client {
        let (stream, theirs) = tokio::io::duplex(pipe);
        let address = |text: &str| text.parse::<SocketAddr>().expect("an address");
        let arrival = Arrival {
            peer: Peer { address: address("127.0.0.1:5000"), tls: false },
            local: address("127.0.0.1:9092"),
            principal,
            read: BytesMut::new(),
            // The listener's own; the door has a shorter one.
            deadline: Instant::now() + 2 * LOGIN_TIME,
        };
        let served = tokio::spawn(Arc::clone(&self.door).serve(theirs, arrival));
        Client { stream, correlation: 0, served }
    }

    /// A connection that was authenticated already.
    pub async fn enter(&self) -> Client {
        let mut client = self.connect();
        client.log_in("OAUTHBEARER", &token("worker", 3_600)).await;
        client
    }
}

/// A client that knows the protocol from elsewhere.
pub(super) struct Client {
    pub stream: DuplexStream,
    correlation: i32,
    pub served: JoinHandle<()>,
}

/// A frame.
pub(super) fn framed(bytes: &[u8]) -> Vec<u8> {
    [&(bytes.len() as u32).to_be_bytes()[..], bytes].concat()
}

impl Client {
    /// The bytes of a request.
    pub fn encode<R: Request>(&mut self, version: i16, request: &R) -> Vec<u8> {
        let mut body = BytesMut::new();
        request.encode(&mut body, version).expect("a request of this version");
        self.head(R::KEY, version, R::header_version(version), &body)
    }

    /// The bytes of a request whose body is given.
    pub fn head(&mut self, key: i16, version: i16, header: i16, body: &[u8]) -> Vec<u8> {
        self.correlation += 1;
        let mut bytes = BytesMut::new();
        RequestHeader::default()
            .with_request_api_key(key)
            .with_request_api_version(version)
            .with_correlation_id(self.correlation)
            .with_client_id(Some("test".into()))
            .encode(&mut bytes, header)
            .expect("a header");
        bytes.put_slice(body);
        framed(&bytes)
    }

    pub async fn send<R: Request>(&mut self, version: i16, request: &R) {
        let bytes = self.encode(version, request);
        self.write(&bytes).await;
    }

    pub async fn write(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).await.expect("the door reads");
    }

    /// The next frame; none: it was closed.
    pub async fn frame(&mut self) -> Option<Bytes> {
        let length = self.stream.read_u32().await.ok()?;
        let mut frame = vec![0; length as usize];
        self.stream.read_exact(&mut frame).await.ok()?;
        Some(frame.into())
    }

    /// The answer to the request before `back` others.
    pub async fn hear_back<R: Request>(&mut self, version: i16, back: i32) -> R::Response {
        let mut frame = self.frame().await.expect("an answer");
        let header = ResponseHeader::decode(&mut frame, R::Response::header_version(version)).expect("a header");
        assert_eq!(header.correlation_id, self.correlation - back);
        let response = R::Response::decode(&mut frame, version).expect("an answer of this version");
        assert!(!frame.has_remaining(), "bytes are left over in version {version}");
        response
    }

    pub async fn hear<R: Request>(&mut self, version: i16) -> R::Response {
        self.hear_back::<R>(version, 0).await
    }

    pub async fn ask<R: Request>(&mut self, version: i16, request: &R) -> R::Response {
        self.send(version, request).await;
        self.hear::<R>(version).await
    }

    pub async fn handshake(&mut self, version: i16, mechanism: &str) -> (i16, Vec<String>) {
        let request = SaslHandshakeRequest::default().with_mechanism(StrBytes::from_string(mechanism.to_owned()));
        let response = self.ask(version, &request).await;
        (response.error_code, response.mechanisms.iter().map(ToString::to_string).collect())
    }

    pub async fn authenticate(&mut self, version: i16, message: &str) -> SaslAuthenticateResponse {
        let request = SaslAuthenticateRequest::default().with_auth_bytes(Bytes::copy_from_slice(message.as_bytes()));
        self.ask(version, &request).await
    }

    pub async fn log_in(&mut self, mechanism: &str, message: &str) -> SaslAuthenticateResponse {
        assert_eq!(self.handshake(1, mechanism).await.0, 0);
        let response = self.authenticate(2, message).await;
        assert_eq!(response.error_code, 0, "{:?}", response.error_message);
        response
    }

    /// Whether the door closes now, without another word.
    pub async fn is_closed(&mut self) -> bool {
        let mut rest = Vec::new();
        matches!(self.stream.read_to_end(&mut rest).await, Ok(0))
    }
}
