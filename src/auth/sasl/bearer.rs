//! OAUTHBEARER (RFC 7628) as Kafka speaks it (KIP-255): a token in one message. Only where nobody listens.
//!
//! The token is verified as at every other door. A bad one is answered with a challenge, to which the client says that it has heard.

use super::super::Principal;
use super::super::credentials::{AuthFailure, Credentials};
use super::super::jws::MAX_TOKEN_BYTES;
use super::gs2::Gs2;
use crate::units::Secret;

/// What stands between the pairs.
const SEPARATOR: char = '\x01';

/// The longest message: a token, and some extensions.
const MAX_MESSAGE: usize = MAX_TOKEN_BYTES + 4 * 1024;

/// The answer to a bad token.
pub(super) const CHALLENGE: &[u8] = br#"{"status":"invalid_token"}"#;

/// What a message shows.
#[derive(Debug)]
pub(super) struct Shown {
    /// The token.
    pub credentials: Credentials,
    authzid: Option<String>,
}

impl Shown {
    /// The principal, unless the client wants to act as somebody else.
    pub fn is_for(&self, principal: Principal) -> Result<Principal, AuthFailure> {
        match &self.authzid {
            Some(other) if other != principal.subject() => Err(AuthFailure::Header),
            _ => Ok(principal),
        }
    }
}

/// What the message shows. Extensions are allowed and ignored.
pub(super) fn read(message: &[u8]) -> Result<Shown, AuthFailure> {
    if message.len() > MAX_MESSAGE {
        return Err(AuthFailure::TooLong);
    }
    let text = str::from_utf8(message).map_err(|_| AuthFailure::Malformed)?;
    let gs2 = Gs2::read(text)?;
    let pairs = gs2.rest.strip_prefix(SEPARATOR).and_then(|rest| rest.strip_suffix("\x01\x01")).ok_or(AuthFailure::Malformed)?;
    let mut token = None;
    for pair in pairs.split(SEPARATOR) {
        let (key, value) = pair.split_once('=').filter(|(key, value)| is_key(key) && is_value(value)).ok_or(AuthFailure::Malformed)?;
        if key == "auth" && token.replace(bearer(value)?).is_some() {
            return Err(AuthFailure::Malformed);
        }
    }
    let token = token.ok_or(AuthFailure::Malformed)?;
    Ok(Shown { credentials: Credentials::Bearer(Secret::new(token)), authzid: gs2.authzid })
}

fn is_key(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|b| b.is_ascii_alphabetic())
}

fn is_value(text: &str) -> bool {
    text.bytes().all(|b| matches!(b, b'\t' | b'\n' | b'\r' | b' '..=b'~'))
}

/// The token behind `Bearer`, whatever the word's case.
fn bearer(value: &str) -> Result<&str, AuthFailure> {
    let (scheme, token) = value.split_once(' ').ok_or(AuthFailure::Malformed)?;
    let token = token.trim_start_matches(' ');
    if scheme.eq_ignore_ascii_case("bearer") && !token.is_empty() { Ok(token) } else { Err(AuthFailure::Malformed) }
}

#[cfg(test)]
mod tests {
    use super::super::super::grants::Grants;
    use super::*;

    fn token(message: &str) -> Result<String, AuthFailure> {
        let Credentials::Bearer(token) = read(message.as_bytes())?.credentials else { panic!("no token") };
        Ok(token.expose().to_owned())
    }

    #[test]
    fn a_token_is_found_among_extensions_that_are_ignored() {
        for message in [
            "n,,\x01auth=Bearer a.b-c_d.e\x01\x01",
            "n,,\x01auth=bearer  a.b-c_d.e\x01\x01",
            "y,a=ada,\x01auth=Bearer a.b-c_d.e\x01\x01",
            "n,,\x01auth=Bearer a.b-c_d.e\x01logicalCluster=lkc-1\x01x=y=z\x01\x01",
            "n,,\x01host=h\x01port=1\x01auth=Bearer a.b-c_d.e\x01\x01",
        ] {
            assert_eq!(token(message).as_deref(), Ok("a.b-c_d.e"), "{message:?}");
        }
    }

    #[test]
    fn what_is_no_such_message_is_refused() {
        assert_eq!(token("p=tls-unique,,\x01auth=Bearer x\x01\x01"), Err(AuthFailure::Header));
        for message in [
            "",
            "n,,",
            "n,,\x01\x01",
            "n,,\x01\x01\x01",
            "n,,auth=Bearer x\x01\x01",
            "n,,\x01auth=Bearer x\x01",
            "n,,\x01auth=Bearer x",
            "n,,\x01auth=Bearer\x01\x01",
            "n,,\x01auth=Bearer \x01\x01",
            "n,,\x01auth=Basic x\x01\x01",
            "n,,\x01auth\x01\x01",
            "n,,\x01Auth=Bearer x\x01\x01",
            "n,,\x01auth=Bearer x\x01auth=Bearer x\x01\x01",
            "n,,\x01auth=Bearer x\x01=v\x01\x01",
            "n,,\x01auth=Bearer x\x01k k=v\x01\x01",
            "n,,\x01auth=Bearer x\x01k=\0\x01\x01",
            "n,,\x01auth=Bearer x\x01\x01\x01",
            "n,a=,\x01auth=Bearer x\x01\x01",
        ] {
            assert_eq!(token(message), Err(AuthFailure::Malformed), "{message:?}");
        }
        assert_eq!(token(&format!("n,,\x01auth=Bearer {}\x01\x01", "x".repeat(MAX_MESSAGE))), Err(AuthFailure::TooLong));
    }

    #[test]
    fn nobody_acts_as_another() {
        let ada = || Principal::for_tests("test", "ada", Grants::default());
        let shown = |message: &str| read(message.as_bytes()).expect("understood");
        assert!(shown("n,,\x01auth=Bearer x\x01\x01").is_for(ada()).is_ok());
        assert!(shown("n,a=ada,\x01auth=Bearer x\x01\x01").is_for(ada()).is_ok());
        assert_eq!(shown("n,a=eve,\x01auth=Bearer x\x01\x01").is_for(ada()).err(), Some(AuthFailure::Header));
    }
}
