//! ApiVersions: what is spoken here, from the [table](super::api).

use bytes::Bytes;

use super::api::{APIS, Request};
use super::reply;

/// The answer; to a version that is not known it is of version 0, with the error and the whole list, from which the client
/// takes one that is.
pub fn answer(request: Request) -> Bytes {
    let known = request.api.offers(request.version);
    let code = if known { reply::NONE } else { reply::UNSUPPORTED_VERSION };
    list(Request { version: if known { request.version } else { 0 }, ..request }, code)
}

/// The answer in the midst of an authentication, where it is out of place.
pub fn out_of_place(request: Request) -> Bytes {
    list(request, reply::ILLEGAL_SASL_STATE)
}

fn list(request: Request, code: i16) -> Bytes {
    let mut answer = request.answer();
    answer.i16(code);
    answer.count(APIS.len());
    for api in &APIS {
        answer.i16(api.key);
        answer.i16(api.first);
        answer.i16(api.last);
        answer.tags();
    }
    if request.version >= 1 {
        answer.i32(0);
    }
    answer.finish()
}
