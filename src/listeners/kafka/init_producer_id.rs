//! InitProducerId: idempotent producers need an id, and ask for it before their first batch. The trunk makes it, also in an
//! outage.
//!
//! A producer that has an id of ours already and wants another epoch gets the next one; whoever shows another's id, or one
//! whose epochs are used up, gets a new id.

use bytes::Bytes;

use super::api::Request;
use super::body::{Body, Read};
use super::reply;
use crate::auth::Principal;
use crate::ingest::Ingest;

/// What is asked for.
#[derive(Debug)]
pub struct Question {
    transactional: bool,
    /// What the producer has; −1 for what it has not.
    id: i64,
    epoch: i16,
}

/// Reads the question.
pub fn read(request: Request, mut body: Body) -> Read<Question> {
    let transactional = body.nullable_text()?.is_some();
    body.i32()?;
    let (id, epoch) = if request.version >= 3 { (body.i64()?, body.i16()?) } else { (-1, -1) };
    body.end()?;
    Ok(Question { transactional, id, epoch })
}

impl Question {
    /// The answer.
    pub fn answer(&self, request: Request, ingest: &Ingest, who: &Principal) -> Bytes {
        let (code, id, epoch) = match self.transactional {
            true => (reply::TRANSACTIONAL_ID_AUTHORIZATION_FAILED, -1, -1),
            false if self.may_go_on() && ingest.owns_producer_id(who, self.id) => (reply::NONE, self.id, self.epoch + 1),
            false => (reply::NONE, ingest.producer_id(who), 0),
        };
        let mut answer = request.answer();
        answer.i32(0);
        answer.i16(code);
        answer.i64(id);
        answer.i16(epoch);
        answer.finish()
    }

    /// Whether there is a next epoch. (Clients take the very last one for "none".)
    fn may_go_on(&self) -> bool {
        self.id >= 0 && (0..i16::MAX - 1).contains(&self.epoch)
    }
}
