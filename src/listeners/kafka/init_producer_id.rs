//! InitProducerId: idempotent producers need an id, and ask for it before their first batch. The trunk makes it, also in an
//! outage.
//!
//! A producer that has an id already and wants another epoch gets a new id, as from a broker: without a transactional id
//! nobody keeps an epoch for it.

use bytes::Bytes;

use super::api::Request;
use super::body::{Body, Read};
use super::reply;

/// Whether it is asked for a transactional producer.
pub fn read(request: Request, mut body: Body) -> Read<bool> {
    let transactional = body.nullable_text()?.is_some();
    body.i32()?;
    if request.version >= 3 {
        body.i64()?;
        body.i16()?;
    }
    body.end()?;
    Ok(transactional)
}

/// The answer: an id of epoch 0; none: there are no transactions here.
pub fn answer(request: Request, id: Option<i64>) -> Bytes {
    let mut answer = request.answer();
    answer.i32(0);
    answer.i16(if id.is_some() { reply::NONE } else { reply::TRANSACTIONAL_ID_AUTHORIZATION_FAILED });
    answer.i64(id.unwrap_or(-1));
    answer.i16(if id.is_some() { 0 } else { -1 });
    answer.finish()
}
