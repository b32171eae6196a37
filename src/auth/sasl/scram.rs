//! The messages of SCRAM (RFC 5802, RFC 7677). Their arithmetic is [`super::super::scram`]'s.
//!
//! What always holds: what the server computes and says does not depend on whether the name exists; the nonce of the last
//! message is the one that was given, but for one form by which old librdkafka repeats its own half, and only where that is
//! allowed; the proof holds over the very bytes that came.

use std::num::NonZeroU32;

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};

use super::super::Principal;
use super::super::credentials::AuthFailure;
use super::super::scram::{MIN_ITERATIONS, Mechanism, SALT_LENGTH, Verifier};
use super::super::users::{Claimed, random};
use super::gs2::{Gs2, name};

/// The longest message. A name has 64 characters and a nonce rarely more than 64; what is beyond belongs to nobody we know.
const MAX_MESSAGE: usize = 2_048;

/// Attributes with a meaning of their own (RFC 5802 § 5.1): they are no extensions.
const RESERVED: &str = "anmrcsipve";

/// An exchange whose first message was answered.
#[derive(Debug)]
pub(super) struct Challenge {
    claimed: Claimed,
    gs2: String,
    client_nonce: String,
    nonce: String,
    /// The first two messages, as the proof covers them.
    said: String,
}

/// Somebody who knows the password.
#[derive(Debug)]
pub(super) struct Proven {
    /// Who.
    pub principal: Principal,
    /// The server's own proof.
    pub message: String,
    /// Whether the client's half of the nonce came twice.
    pub repeated: bool,
}

/// The server's half of a nonce: 24 bytes that nobody can guess.
pub(super) fn nonce() -> String {
    URL_SAFE_NO_PAD.encode(random::<24>())
}

/// Answers the first message, with the verifier of whoever it names.
pub(super) fn challenge(message: &[u8], nonce: &str, claimed: impl FnOnce(&str) -> Claimed) -> Result<(Challenge, String), AuthFailure> {
    let first = First::read(text(message)?)?;
    let claimed = claimed(&first.name);
    let nonce = format!("{}{nonce}", first.nonce);
    let answer = format!("r={nonce},s={},i={}", STANDARD.encode(claimed.verifier.salt), claimed.verifier.iterations);
    let challenge = Challenge {
        claimed,
        gs2: first.gs2.to_owned(),
        client_nonce: first.nonce.to_owned(),
        nonce,
        said: format!("{},{answer}", first.bare),
    };
    Ok((challenge, answer))
}

impl Challenge {
    /// Takes the last message. `may_repeat`: whether the client's half of the nonce may come twice.
    pub fn answer(self, message: &[u8], may_repeat: bool) -> Result<Proven, AuthFailure> {
        let last = Last::read(text(message)?)?;
        if last.gs2 != self.gs2.as_bytes() {
            return Err(AuthFailure::Header);
        }
        let repeated = last.nonce != self.nonce;
        if repeated && !(may_repeat && last.nonce.strip_prefix(&self.client_nonce) == Some(&self.nonce)) {
            return Err(AuthFailure::Header);
        }
        let said = format!("{},{}", self.said, last.without_proof);
        // Both, whoever it is and whatever was shown.
        let signature = self.claimed.verifier.server_signature(said.as_bytes());
        let proven = self.claimed.verifier.proves(said.as_bytes(), &last.proof);
        let principal = self.claimed.principal.filter(|_| proven).ok_or(AuthFailure::Signature)?;
        Ok(Proven { principal, message: format!("v={}", STANDARD.encode(signature)), repeated })
    }
}

/// How many of two messages are understood by a gate without users.
pub(super) fn rehearse(mechanism: Mechanism, first: &[u8], last: &[u8]) -> usize {
    let nobody = |_: &str| Claimed {
        verifier: Verifier {
            mechanism,
            salt: [0; SALT_LENGTH],
            iterations: NonZeroU32::new(MIN_ITERATIONS).expect("not zero"),
            stored_key: vec![0; mechanism.length()],
            server_key: vec![0; mechanism.length()],
        },
        principal: None,
    };
    let Ok((challenge, _)) = challenge(first, "server", nobody) else { return 0 };
    match challenge.answer(last, true) {
        Err(AuthFailure::Signature) => 2,
        _ => 1,
    }
}

/// A message within its bound.
fn text(message: &[u8]) -> Result<&str, AuthFailure> {
    if message.len() > MAX_MESSAGE {
        return Err(AuthFailure::TooLong);
    }
    str::from_utf8(message).map_err(|_| AuthFailure::Malformed)
}

/// `n,,n=NAME,r=NONCE`.
#[derive(Debug)]
struct First<'a> {
    gs2: &'a str,
    bare: &'a str,
    name: String,
    nonce: &'a str,
}

impl<'a> First<'a> {
    fn read(text: &'a str) -> Result<Self, AuthFailure> {
        let gs2 = Gs2::read(text)?;
        let mut attributes = gs2.rest.split(',');
        let named = attributes.next().unwrap_or_default();
        if named.starts_with("m=") {
            return Err(AuthFailure::Header);
        }
        let name = name(named.strip_prefix("n=").ok_or(AuthFailure::Malformed)?)?;
        let nonce = attributes.next().and_then(|text| text.strip_prefix("r=")).ok_or(AuthFailure::Malformed)?;
        if nonce.is_empty() || !nonce.bytes().all(|b| b.is_ascii_graphic()) {
            return Err(AuthFailure::Malformed);
        }
        attributes.try_for_each(extension)?;
        if gs2.authzid.as_ref().is_some_and(|other| *other != name) {
            return Err(AuthFailure::Header);
        }
        Ok(Self { gs2: gs2.header, bare: gs2.rest, name, nonce })
    }
}

/// `c=GS2,r=NONCE,p=PROOF`.
#[derive(Debug)]
struct Last<'a> {
    gs2: Vec<u8>,
    nonce: &'a str,
    without_proof: &'a str,
    proof: Vec<u8>,
}

impl<'a> Last<'a> {
    fn read(text: &'a str) -> Result<Self, AuthFailure> {
        let (without_proof, proof) = text.rsplit_once(",p=").ok_or(AuthFailure::Malformed)?;
        let mut attributes = without_proof.split(',');
        let mut next = |key| attributes.next().and_then(|text| text.strip_prefix(key)).ok_or(AuthFailure::Malformed);
        let (gs2, nonce) = (decoded(next("c=")?)?, next("r=")?);
        attributes.try_for_each(extension)?;
        Ok(Self { gs2, nonce, without_proof, proof: decoded(proof)? })
    }
}

fn decoded(text: &str) -> Result<Vec<u8>, AuthFailure> {
    STANDARD.decode(text).map_err(|_| AuthFailure::Malformed)
}

/// An extension of one letter is ignored, as the RFC has it. Kafka's delegation tokens (`tokenauth=true`, KIP-48) are none of ours.
fn extension(text: &str) -> Result<(), AuthFailure> {
    let (key, value) = text.split_once('=').ok_or(AuthFailure::Malformed)?;
    let is_letter = key.len() == 1 && key.bytes().all(|b| b.is_ascii_alphabetic());
    if !is_letter || RESERVED.contains(key) {
        return Err(AuthFailure::Header);
    }
    if value.is_empty() || value.contains('\0') { Err(AuthFailure::Malformed) } else { Ok(()) }
}

#[cfg(test)]
mod tests;
