//! A connection's session: who it is, and what is done with its next frame.
//!
//! What always holds: before authentication nothing but authentication is served, and after its end nothing but its renewal;
//! frames are begun one at a time, in their order, and a frame is begun only when the trunk has taken in what the one before
//! it brought. A session that says [`Next::end`] is asked nothing more.

mod login;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use tokio::time::Instant;

use super::api::{self, Call, Request};
use super::body::Body;
use super::cluster::{self, Whereabouts};
use super::replies::{Slot, What};
use super::room::Claim;
use super::sasl::{Exchanging, Login};
use super::{Door, api_versions, consumers, init_producer_id, metadata, produce};
use crate::auth::Principal;
use crate::event::Origin;
use crate::ingest::{Admitted, RecordsRequest};
use crate::limits::inflight::InFlight;
use crate::listeners::Peer;
use crate::telemetry::metrics;
use crate::telemetry::metrics::labels::{KafkaEnd, KafkaPause};
use crate::wire;

/// Requests before authentication; an honest client needs about five.
const MAX_STRANGERS_REQUESTS: u8 = 16;

/// A connection is not read for so long at most, because meanwhile it is not seen when its client goes. What is owed beyond
/// is refused by the trunk when it comes to that.
const LONGEST_PAUSE: Duration = crate::ingest::MAX_OWED;

/// One connection's session.
#[derive(Debug)]
pub struct Session {
    door: Arc<Door>,
    peer: Peer,
    local: SocketAddr,
    number: u64,
    /// By then it must be authenticated.
    deadline: Instant,
    state: State,
    requests: u8,
}

#[derive(Debug)]
enum State {
    /// Nobody yet.
    Fresh,
    /// An exchange is going on.
    Exchanging(Box<Exchanging>),
    /// Somebody.
    In(Login),
}

/// A frame, all of it, with the room that it takes.
#[derive(Debug)]
pub struct Frame {
    /// Its bytes.
    pub bytes: Bytes,
    /// When the last of them came.
    pub arrived: Instant,
    /// Its bytes in flight.
    pub guard: InFlight,
    /// Its right to be there.
    pub claim: Claim,
}

/// What comes of a frame.
#[derive(Default)]
pub struct Next {
    /// Its place in the line of answers.
    pub slot: Option<Box<Slot>>,
    /// For so long nothing more is read.
    pub pause: Duration,
    /// Nothing more is read at all; the answer still leaves.
    pub end: Option<KafkaEnd>,
}

/// What is answered to a frame, before its room is added.
#[derive(Default)]
struct Said {
    what: Option<What>,
    /// Batches whose client wants no answer.
    unanswered: Option<Admitted>,
    kept_back: Duration,
    pause: Duration,
    end: Option<KafkaEnd>,
}

impl Said {
    fn bytes(bytes: Bytes) -> Self {
        Self { what: Some(What::Ready(bytes)), ..Self::default() }
    }

    fn end(end: KafkaEnd) -> Self {
        Self { end: Some(end), ..Self::default() }
    }

    fn and_end(self, end: KafkaEnd) -> Self {
        Self { end: Some(end), ..self }
    }
}

/// Everything that comes of a request, or why the connection ends over it.
type Done = Result<Said, KafkaEnd>;

fn unreadable(bad: wire::BadWire) -> KafkaEnd {
    tracing::debug!(%bad, "a request cannot be read; its connection is closed");
    KafkaEnd::Malformed
}

impl Session {
    /// The session of a connection that has just come in.
    pub fn new(door: Arc<Door>, peer: Peer, local: SocketAddr, principal: Option<Principal>, deadline: Instant) -> Self {
        let longest = door.config.max_session.get();
        let state = principal.map_or(State::Fresh, |principal| State::In(Login::new(principal, None, longest)));
        let number = door.number();
        Self { door, peer, local, number, deadline, state, requests: 0 }
    }

    /// Whether nobody has said yet who they are.
    pub fn is_stranger(&self) -> bool {
        match &self.state {
            State::Fresh => true,
            State::Exchanging(exchanging) => exchanging.renews.is_none(),
            State::In(_) => false,
        }
    }

    /// Begins a frame.
    pub async fn begin(&mut self, frame: Frame) -> Next {
        let Frame { bytes, arrived, guard, claim } = frame;
        let raw = matches!(&self.state, State::Exchanging(exchanging) if exchanging.raw);
        let mut guard = Some(guard);
        let done = if raw { self.token(&bytes).await } else { self.request(bytes, &mut guard).await };
        let said = done.unwrap_or_else(Said::end);
        let due = arrived + said.kept_back;
        let mut claim = Some(claim);
        if let Some(admitted) = said.unanswered {
            self.see_through(admitted, claim.take());
        }
        let slot = said.what.map(|what| Box::new(Slot { arrived, due, what, guard, claim }));
        Next { slot, pause: said.pause, end: said.end }
    }

    /// Batches without an answer have no place in the line. They are seen through even when their client is gone: that is
    /// what it has chosen.
    fn see_through(&self, admitted: Admitted, claim: Option<Claim>) {
        self.door.parts.drain.tasks().spawn(async move {
            let _outcomes = admitted.outcomes().await;
            drop(claim);
        });
    }

    async fn request(&mut self, frame: Bytes, guard: &mut Option<InFlight>) -> Done {
        let (header, body) = wire::request_header(frame, api::flexible).map_err(unreadable)?;
        let request = Request::of(&header).ok_or(KafkaEnd::Unknown)?;
        metrics().kafka_requests.at(request.api.name).inc();
        let login = self.admit(request)?;
        if !request.api.offers(request.version) {
            let asked = request.api.call == Call::ApiVersions;
            return if asked { Ok(Said::bytes(api_versions::answer(request))) } else { Err(KafkaEnd::Unknown) };
        }
        let body = Body::new(body, request.api.is_flexible(request.version));
        match (request.api.call, login) {
            (Call::ApiVersions, _) => self.versions(request),
            (Call::SaslHandshake, _) => self.handshake(request, body),
            (Call::SaslAuthenticate, _) => self.authenticate(request, body).await,
            (_, None) => Err(KafkaEnd::LoginDisorder),
            (Call::Produce, Some(who)) => self.produce(request, body, &who, guard).await,
            (_, Some(who)) => self.question(request, body, &who).await.map(Said::bytes).map_err(unreadable),
        }
    }

    /// May this be asked now, and as whom?
    fn admit(&mut self, request: Request) -> Result<Option<Principal>, KafkaEnd> {
        let stranger = self.is_stranger();
        if stranger {
            self.requests += 1;
        }
        if stranger && (!request.api.strangers || self.requests > MAX_STRANGERS_REQUESTS) {
            return Err(KafkaEnd::LoginDisorder);
        }
        let login = match &self.state {
            State::In(login) => login,
            State::Exchanging(exchanging) if exchanging.is_strict() && !request.api.strangers => return Err(KafkaEnd::LoginDisorder),
            State::Exchanging(exchanging) => match &exchanging.renews {
                Some(login) => login,
                None => return Ok(None),
            },
            State::Fresh => return Ok(None),
        };
        let renewal = matches!(request.api.call, Call::SaslHandshake | Call::SaslAuthenticate);
        // A token that has ended is renewed on the same connection; a user who was removed is not.
        let renewable = renewal && login.principal.expires().is_some();
        let stands = renewable || self.door.parts.authenticator.stands(&login.principal);
        if !stands || (login.ended() && !renewal) {
            return Err(KafkaEnd::Expired);
        }
        Ok(Some(login.principal.clone()))
    }

    /// Everything but batches.
    async fn question(&self, request: Request, body: Body, who: &Principal) -> Result<Bytes, wire::BadWire> {
        let ingest = &self.door.parts.ingest;
        match request.api.call {
            Call::Fetch => consumers::fetch(request, body),
            Call::ListOffsets => consumers::list_offsets(request, body),
            Call::FindCoordinator => cluster::coordinator(request, body, &self.here()),
            Call::DescribeCluster => cluster::describe(request, body, &self.here()),
            Call::InitProducerId => Ok(init_producer_id::read(request, body)?.answer(request, ingest, who)),
            Call::Metadata => {
                let question = metadata::read(request, body)?;
                let topics = ingest.describe(who, question.names.as_deref()).await;
                Ok(metadata::answer(request, &question, &topics, &self.here()))
            }
            Call::Produce | Call::ApiVersions | Call::SaslHandshake | Call::SaslAuthenticate => body.refuse("it is no question"),
        }
    }

    fn here(&self) -> Whereabouts {
        let (host, port) = self.door.advertised(self.local);
        Whereabouts { host, port, cluster: self.door.config.cluster_id.clone() }
    }

    async fn produce(&self, request: Request, body: Body, who: &Principal, guard: &mut Option<InFlight>) -> Done {
        let judged = produce::read(request, body).map_err(unreadable)?.judge(request);
        self.admit_batches(request, judged, who, guard).await
    }

    async fn admit_batches(&self, request: Request, mut judged: produce::Judged, who: &Principal, guard: &mut Option<InFlight>) -> Done {
        let parts = std::mem::take(&mut judged.parts);
        let admitted = match guard.take_if(|_| !parts.is_empty()) {
            Some(guard) => {
                let address = self.peer.address.ip();
                let origin = Origin { door: crate::event::Door::Kafka, arrived: SystemTime::now(), address, traceparent: None };
                let request = RecordsRequest { parts, origin, connection: self.number, guard };
                Some(self.door.parts.ingest.admit(who, request).await)
            }
            None => None,
        };
        let pause = admitted.as_ref().map_or(Duration::ZERO, |admitted| admitted.owed.min(LONGEST_PAUSE));
        if !pause.is_zero() {
            metrics().kafka_pauses.at(KafkaPause::Quota).inc();
        }
        if !judged.answered {
            return Ok(Said { unanswered: admitted, pause, ..Said::default() });
        }
        let waiting = judged.waiting(request, admitted);
        Ok(Said { kept_back: waiting.kept_back(), what: Some(What::Later(Box::pin(waiting.told()))), pause, ..Said::default() })
    }
}
