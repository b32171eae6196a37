//! DescribeCluster and FindCoordinator: whatever is asked for, it is here.
//!
//! Groups and transactions have a coordinator so that their clients come to the point where they are told clearly that there
//! are none: by an API that is not in the list, or by [`init_producer_id`](super::init_producer_id).

use bytes::Bytes;

use super::api::Request;
use super::body::{Body, Read};
use super::reply;

/// The one broker's id. Not 0: there are clients to whom that is no id.
pub const NODE: i32 = 1;

/// What may be done with the cluster, as bits of Kafka's operations: describe, and write idempotently.
pub const CLUSTER_OPERATIONS: i32 = 1 << 8 | 1 << 12;

/// Operations that were not asked for.
pub const NOT_ASKED: i32 = i32::MIN;

const BROKERS: i8 = 1;

/// Where this cluster is, as a client is told.
#[derive(Clone, Debug)]
pub struct Whereabouts {
    /// The host.
    pub host: String,
    /// The port.
    pub port: u16,
    /// The cluster's id.
    pub cluster: String,
}

impl Whereabouts {
    /// Node id, host and port, as they stand in every answer that names a broker.
    pub fn write(&self, answer: &mut super::answer::Answer) {
        answer.i32(NODE);
        answer.text(&self.host);
        answer.i32(self.port.into());
    }
}

/// Answers FindCoordinator.
pub fn coordinator(request: Request, mut body: Body, here: &Whereabouts) -> Read<Bytes> {
    if request.version >= 4 {
        body.i8()?;
        let keys = body.list(Body::text)?;
        body.end()?;
        return Ok(coordinators(request, &keys, here));
    }
    body.text()?;
    if request.version >= 1 {
        body.i8()?;
    }
    body.end()?;
    let mut answer = request.answer();
    if request.version >= 1 {
        answer.i32(0);
    }
    answer.i16(reply::NONE);
    if request.version >= 1 {
        answer.nullable_text(None);
    }
    here.write(&mut answer);
    Ok(answer.finish())
}

fn coordinators(request: Request, keys: &[String], here: &Whereabouts) -> Bytes {
    let mut answer = request.answer();
    answer.i32(0);
    answer.count(keys.len());
    for key in keys {
        answer.text(key);
        here.write(&mut answer);
        answer.i16(reply::NONE);
        answer.nullable_text(None);
        answer.tags();
    }
    answer.finish()
}

/// Answers DescribeCluster.
pub fn describe(request: Request, mut body: Body, here: &Whereabouts) -> Read<Bytes> {
    let operations = body.bool()?;
    let kind = if request.version >= 1 { body.i8()? } else { BROKERS };
    body.end()?;
    let known = kind == BROKERS;
    let mut answer = request.answer();
    answer.i32(0);
    answer.i16(if known { reply::NONE } else { reply::MISMATCHED_ENDPOINT_TYPE });
    answer.message((!known).then_some("this is a broker; controllers are not to be found here"));
    if request.version >= 1 {
        answer.i8(BROKERS);
    }
    answer.text(&here.cluster);
    answer.i32(NODE);
    answer.count(1);
    here.write(&mut answer);
    answer.nullable_text(None);
    answer.tags();
    answer.i32(if operations { CLUSTER_OPERATIONS } else { NOT_ASKED });
    Ok(answer.finish())
}
