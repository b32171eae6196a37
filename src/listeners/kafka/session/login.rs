//! The session's part that finds out who is there: handshake, messages of the mechanism, renewal.

use std::time::Duration;

use bytes::Bytes;
use tokio::time::{Instant, timeout_at};

use super::{Done, Said, Session, State, unreadable};
use crate::auth::Principal;
use crate::auth::sasl::Step;
use crate::listeners::kafka::api::Request;
use crate::listeners::kafka::body::Body;
use crate::listeners::kafka::sasl::{self, Exchanging, Login, MAX_ROUNDS};
use crate::listeners::kafka::{api_versions, reply};
use crate::telemetry::metrics;
use crate::telemetry::metrics::labels::{KafkaEnd, SaslEnd};

/// For one message of a renewal to be judged.
const RENEWAL: Duration = Duration::from_secs(5);

impl Session {
    /// ApiVersions, which clients ask before they say who they are.
    pub(super) fn versions(&self, request: Request) -> Done {
        let strict = matches!(&self.state, State::Exchanging(exchanging) if exchanging.is_strict());
        if strict {
            return Ok(Said::bytes(api_versions::out_of_place(request)).and_end(KafkaEnd::LoginDisorder));
        }
        Ok(Said::bytes(api_versions::answer(request)))
    }

    /// Whether nobody but the two of us can read what is said.
    fn confidential(&self) -> bool {
        self.peer.tls || self.peer.address.ip().to_canonical().is_loopback()
    }

    pub(super) fn handshake(&mut self, request: Request, body: Body) -> Done {
        let name = sasl::read_handshake(body).map_err(unreadable)?;
        let confidential = self.confidential();
        let authenticator = &self.door.parts.authenticator;
        let offered = authenticator.mechanisms(confidential);
        let refuse = |code, end| Ok(Said::bytes(sasl::handshake(request, code, &offered)).and_end(end));
        if matches!(self.state, State::Exchanging(_)) {
            return refuse(reply::ILLEGAL_SASL_STATE, KafkaEnd::LoginDisorder);
        }
        let Some(mechanism) = offered.iter().copied().find(|mechanism| mechanism.as_str() == name) else {
            return refuse(reply::UNSUPPORTED_SASL_MECHANISM, KafkaEnd::LoginRefused);
        };
        let exchange = authenticator.exchange(mechanism, confidential);
        let renews = match std::mem::replace(&mut self.state, State::Fresh) {
            State::In(login) => Some(login),
            State::Fresh | State::Exchanging(_) => None,
        };
        let raw = request.version == 0;
        self.state = State::Exchanging(Box::new(Exchanging { exchange, mechanism, raw, rounds: 0, renews }));
        Ok(Said::bytes(sasl::handshake(request, reply::NONE, &offered)))
    }

    pub(super) async fn authenticate(&mut self, request: Request, body: Body) -> Done {
        let message = sasl::read_message(body).map_err(unreadable)?;
        if !matches!(self.state, State::Exchanging(_)) {
            return Ok(Said::bytes(sasl::refusal(request, reply::ILLEGAL_SASL_STATE)).and_end(KafkaEnd::LoginDisorder));
        }
        match self.step(&message).await {
            Ok((message, lifetime)) => Ok(Said::bytes(sasl::message(request, &message, lifetime))),
            // Not the client's fault, and it is not told that it is: it comes again.
            Err(end @ (KafkaEnd::LoginBusy | KafkaEnd::LoginLate)) => Err(end),
            Err(end) => Ok(Said::bytes(sasl::refusal(request, reply::SASL_AUTHENTICATION_FAILED)).and_end(end)),
        }
    }

    /// A message that comes without headers, after SaslHandshake 0. There a failure is the end, without a word.
    pub(super) async fn token(&mut self, message: &[u8]) -> Done {
        let (message, _) = self.step(message).await?;
        Ok(Said::bytes(sasl::raw(&message)))
    }

    /// Takes the exchange one message further: what is said to it, and for how long the login counts (0: not yet one).
    async fn step(&mut self, message: &[u8]) -> Result<(Bytes, i64), KafkaEnd> {
        let State::Exchanging(mut exchanging) = std::mem::replace(&mut self.state, State::Fresh) else {
            return Err(KafkaEnd::LoginDisorder);
        };
        exchanging.rounds += 1;
        if exchanging.rounds > MAX_ROUNDS {
            return Err(ended(&exchanging, SaslEnd::Disorder, KafkaEnd::LoginDisorder));
        }
        let deadline = if exchanging.renews.is_some() { Instant::now() + RENEWAL } else { self.deadline };
        let step = timeout_at(deadline, exchanging.exchange.step(&self.door.parts.authenticator, message)).await;
        match step {
            Ok(Step::Continue(message)) => {
                self.state = State::Exchanging(exchanging);
                Ok((message, 0))
            }
            Ok(Step::Done { message, principal }) => {
                let lifetime = self.log_in(&exchanging, principal)?;
                Ok((message, lifetime))
            }
            Ok(Step::Refused) => Err(ended(&exchanging, SaslEnd::Refused, KafkaEnd::LoginRefused)),
            Ok(Step::Busy) => Err(ended(&exchanging, SaslEnd::Busy, KafkaEnd::LoginBusy)),
            Err(_late) => Err(ended(&exchanging, SaslEnd::Late, KafkaEnd::LoginLate)),
        }
    }

    fn log_in(&mut self, exchanging: &Exchanging, principal: Principal) -> Result<i64, KafkaEnd> {
        let login = Login::new(principal, Some(exchanging.mechanism), self.door.config.max_session.get());
        if exchanging.renews.as_ref().is_some_and(|before| !before.is_renewed_by(&login)) {
            return Err(ended(exchanging, SaslEnd::Changed, KafkaEnd::LoginRefused));
        }
        count(exchanging, SaslEnd::Accepted);
        let lifetime = login.lifetime_ms();
        self.state = State::In(login);
        Ok(lifetime)
    }
}

/// An exchange that ended badly, and its connection with it.
fn ended(exchanging: &Exchanging, how: SaslEnd, end: KafkaEnd) -> KafkaEnd {
    count(exchanging, how);
    end
}

fn count(exchanging: &Exchanging, how: SaslEnd) {
    match &exchanging.renews {
        None => metrics().kafka_authentications.at((sasl::label(exchanging.mechanism), how)).inc(),
        Some(_) => metrics().kafka_renewals.at(how).inc(),
    };
}
