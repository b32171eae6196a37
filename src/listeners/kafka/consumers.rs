//! Fetch and ListOffsets: this door takes, it does not give.
//!
//! Both are in the list because producers infer other things from them. Who uses them is told so for each partition, in words
//! that consumers end with ("not authorized"), instead of waiting for records that will not come.

use bytes::Bytes;

use super::answer::Answer;
use super::api::Request;
use super::body::{Body, Read};
use super::reply;

/// The partitions that are asked for, by topic.
type Asked = Vec<(String, Vec<i32>)>;

/// Refuses Fetch.
pub fn fetch(request: Request, mut body: Body) -> Read<Bytes> {
    let version = request.version;
    body.i32()?;
    body.i32()?;
    body.i32()?;
    body.i32()?;
    body.i8()?;
    if version >= 7 {
        body.i32()?;
        body.i32()?;
    }
    let asked = topics(&mut body, |body| fetched_partition(body, version))?;
    if version >= 7 {
        forgotten(&mut body)?;
    }
    if version >= 11 {
        body.text()?;
    }
    body.end()?;
    let mut answer = request.answer();
    answer.i32(0);
    if version >= 7 {
        answer.i16(reply::NONE);
        answer.i32(0);
    }
    refuse(&mut answer, &asked, |answer| not_fetched(answer, version));
    Ok(answer.finish())
}

fn fetched_partition(body: &mut Body, version: i16) -> Read<i32> {
    let partition = body.i32()?;
    if version >= 9 {
        body.i32()?;
    }
    body.i64()?;
    if version >= 12 {
        body.i32()?;
    }
    if version >= 5 {
        body.i64()?;
    }
    body.i32()?;
    body.tags()?;
    Ok(partition)
}

fn forgotten(body: &mut Body) -> Read<()> {
    topics(body, Body::i32)?;
    Ok(())
}

fn not_fetched(answer: &mut Answer, version: i16) {
    answer.i64(-1);
    answer.i64(-1);
    if version >= 5 {
        answer.i64(-1);
    }
    answer.no_list();
    if version >= 11 {
        answer.i32(-1);
    }
    answer.bytes(&[]);
}

/// Refuses ListOffsets.
pub fn list_offsets(request: Request, mut body: Body) -> Read<Bytes> {
    let version = request.version;
    body.i32()?;
    if version >= 2 {
        body.i8()?;
    }
    let asked = topics(&mut body, |body| {
        let partition = body.i32()?;
        if version >= 4 {
            body.i32()?;
        }
        body.i64()?;
        body.tags()?;
        Ok(partition)
    })?;
    body.end()?;
    let mut answer = request.answer();
    if version >= 2 {
        answer.i32(0);
    }
    refuse(&mut answer, &asked, |answer| {
        answer.i64(-1);
        answer.i64(-1);
        if version >= 4 {
            answer.i32(-1);
        }
    });
    Ok(answer.finish())
}

fn topics(body: &mut Body, mut partition: impl FnMut(&mut Body) -> Read<i32>) -> Read<Asked> {
    body.list(|body| {
        let topic = (body.text()?, body.list(&mut partition)?);
        body.tags()?;
        Ok(topic)
    })
}

/// Every partition with the error and whatever stands behind it.
fn refuse(answer: &mut Answer, asked: &Asked, rest: impl Fn(&mut Answer)) {
    answer.count(asked.len());
    for (topic, partitions) in asked {
        answer.text(topic);
        answer.count(partitions.len());
        for partition in partitions {
            answer.i32(*partition);
            answer.i16(reply::TOPIC_AUTHORIZATION_FAILED);
            rest(answer);
            answer.tags();
        }
        answer.tags();
    }
}
