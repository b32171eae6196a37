//! `POST /v1/admin/replay`: what a request for a replay says, and why it is not granted.

use std::time::Duration;

use http::HeaderMap;
use serde::Deserialize;

use super::body::BodyLimits;
use super::events::media_type;
use super::fault::Fault;
use crate::auth::{Principal, administrator};
use crate::ingest::NotReplayed;
use crate::receipt::Refusal;
use crate::units::ByteSize;

/// How long a replay goes on that is not told otherwise, and at most.
const SECONDS: u64 = 20;
const MAX_SECONDS: u64 = 300;

/// A wish is short.
const MAX_BYTES: ByteSize = ByteSize::kib(1);

/// Nothing is read of who does not administer. (The trunk asks again: what is asked here is a courtesy.)
pub fn check(principal: &Principal) -> Result<(), Fault> {
    administrator(principal).map(drop).ok_or(Fault::NotAdmin)
}

/// The bounds of the body, within those of all bodies.
pub fn within(all: &BodyLimits) -> BodyLimits {
    BodyLimits { wire: all.wire.min(MAX_BYTES), decoded: all.decoded.min(MAX_BYTES), ..*all }
}

/// The body, all of it optional.
#[derive(Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Wish {
    seconds: u64,
}

impl Default for Wish {
    fn default() -> Self {
        Self { seconds: SECONDS }
    }
}

/// How long the replay may go on.
pub fn limit(headers: &HeaderMap, body: &[u8]) -> Result<Duration, Fault> {
    if body.is_empty() {
        return Ok(Duration::from_secs(SECONDS));
    }
    if media_type(headers).as_deref() != Some("application/json") {
        return Err(Fault::UnsupportedMediaType("application/json"));
    }
    // A list would do for the library.
    let object = body.trim_ascii_start().starts_with(b"{");
    let wish: Option<Wish> = object.then(|| serde_json::from_slice(body).ok()).flatten();
    let wish = wish.ok_or_else(|| Refusal::malformed("the body is empty, or an object like {\"seconds\": 20} and nothing more"))?;
    if !(1..=MAX_SECONDS).contains(&wish.seconds) {
        return Err(Refusal::invalid("seconds", "`seconds` is a whole number from 1 to 300").into());
    }
    Ok(Duration::from_secs(wish.seconds))
}

/// Why nothing was replayed, as this door says it.
pub fn fault(why: NotReplayed) -> Fault {
    match why {
        NotReplayed::Denied => Fault::NotAdmin,
        NotReplayed::Runs => Fault::ReplayRuns,
        NotReplayed::Failed => Refusal::Internal.into(),
    }
}

#[cfg(test)]
mod tests {
    use http::header::CONTENT_TYPE;

    use super::*;

    #[test]
    fn a_replay_goes_on_for_as_long_as_the_body_says_within_bounds() {
        let mut headers = HeaderMap::new();
        assert_eq!(limit(&headers, b""), Ok(Duration::from_secs(20)));
        assert!(matches!(limit(&headers, b"{}"), Err(Fault::UnsupportedMediaType(_))));
        headers.insert(CONTENT_TYPE, "application/json".parse().expect("a value"));
        for (body, seconds) in [("{}", 20), ("{\"seconds\":1}", 1), ("{\"seconds\": 300}", 300)] {
            assert_eq!(limit(&headers, body.as_bytes()), Ok(Duration::from_secs(seconds)), "{body}");
        }
        for body in ["{\"seconds\":0}", "{\"seconds\":301}"] {
            assert!(matches!(limit(&headers, body.as_bytes()), Err(Fault::Refused(Refusal::Invalid { .. }))), "{body}");
        }
        for body in ["[]", "20", "{\"seconds\":-1}", "{\"seconds\":\"20\"}", "{\"second\":20}", "{\"seconds\":1.5}", "null", "\u{feff}{}"] {
            assert!(matches!(limit(&headers, body.as_bytes()), Err(Fault::Refused(Refusal::Malformed { .. }))), "{body}");
        }
    }
}
