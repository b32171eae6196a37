//! SCRAM (RFC 5802, RFC 7677) from the client's side, sans I/O: we prove that we know the password without saying it, and
//! the broker proves that it knows us.
//!
//! What always holds: a broker that cannot prove itself is not believed; how long it can make us compute is bounded.

use std::num::NonZeroU32;

use aws_lc_rs::constant_time::verify_slices_are_equal;
use aws_lc_rs::{digest, hmac, pbkdf2};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use zeroize::Zeroizing;

use super::fault::Fault;
use crate::units::Secret;

/// The fewest and the most rounds of PBKDF2 that a broker may ask for: fewer are weak, more are half a second of a core.
const ITERATIONS: std::ops::RangeInclusive<u32> = 4_096..=1_000_000;

/// The hash.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Hash {
    Sha256,
    Sha512,
}

/// An exchange that has begun.
pub(super) struct Exchange {
    hash: Hash,
    password: Secret,
    nonce: String,
    /// The first message without its head.
    first: String,
}

/// What the broker must say at the end.
pub(super) struct Expected(Vec<u8>);

impl Hash {
    const fn length(self) -> usize {
        match self {
            Self::Sha256 => 32,
            Self::Sha512 => 64,
        }
    }

    fn salted(self, password: &str, salt: &[u8], iterations: NonZeroU32) -> Zeroizing<Vec<u8>> {
        let algorithm = match self {
            Self::Sha256 => pbkdf2::PBKDF2_HMAC_SHA256,
            Self::Sha512 => pbkdf2::PBKDF2_HMAC_SHA512,
        };
        let mut salted = Zeroizing::new(vec![0; self.length()]);
        pbkdf2::derive(algorithm, iterations, salt, password.as_bytes(), &mut salted);
        salted
    }

    fn hmac(self, key: &[u8], text: &[u8]) -> Zeroizing<Vec<u8>> {
        let algorithm = match self {
            Self::Sha256 => hmac::HMAC_SHA256,
            Self::Sha512 => hmac::HMAC_SHA512,
        };
        Zeroizing::new(hmac::sign(&hmac::Key::new(algorithm, key), text).as_ref().to_vec())
    }

    fn hash(self, text: &[u8]) -> Zeroizing<Vec<u8>> {
        let algorithm = match self {
            Self::Sha256 => &digest::SHA256,
            Self::Sha512 => &digest::SHA512,
        };
        Zeroizing::new(digest::digest(algorithm, text).as_ref().to_vec())
    }
}

impl Exchange {
    /// Begins, with a nonce of our own.
    pub(super) fn new(hash: Hash, user: &str, password: &Secret) -> Result<Self, Fault> {
        let mut random = [0; 24];
        aws_lc_rs::rand::fill(&mut random).map_err(|_| Fault::Impostor("there is no random number for it"))?;
        Ok(Self::with_nonce(hash, user, password, STANDARD.encode(random)))
    }

    fn with_nonce(hash: Hash, user: &str, password: &Secret, nonce: String) -> Self {
        let user = user.replace('=', "=3D").replace(',', "=2C");
        Self { hash, password: password.clone(), first: format!("n={user},r={nonce}"), nonce }
    }

    /// Our first message.
    pub(super) fn first(&self) -> String {
        format!("n,,{}", self.first)
    }

    /// Our proof, in answer to the broker's first message. Takes as long as the broker's iterations: off the reactor.
    pub(super) fn prove(self, server_first: &[u8]) -> Result<(String, Expected), Fault> {
        let server_first = std::str::from_utf8(server_first).map_err(|_| Fault::Impostor("its first message is no text"))?;
        let mut fields = server_first.split(',');
        let mut field = |name: &str| fields.next().and_then(|field| field.strip_prefix(name));
        let (nonce, salt, iterations) = (field("r="), field("s="), field("i="));
        let nonce = nonce.filter(|nonce| nonce.len() > self.nonce.len() && nonce.starts_with(&self.nonce));
        let nonce = nonce.ok_or(Fault::Impostor("its nonce does not begin with ours"))?;
        let salt = salt.and_then(|salt| STANDARD.decode(salt).ok()).filter(|salt| !salt.is_empty());
        let salt = salt.ok_or(Fault::Impostor("it sends no salt"))?;
        let iterations = iterations.and_then(|i| i.parse().ok()).filter(|i| ITERATIONS.contains(i)).and_then(NonZeroU32::new);
        let iterations = iterations.ok_or(Fault::Impostor("it asks for too few or too many iterations"))?;

        let salted = self.hash.salted(self.password.expose(), &salt, iterations);
        let client_key = self.hash.hmac(&salted, b"Client Key");
        let without_proof = format!("c=biws,r={nonce}");
        let messages = format!("{},{server_first},{without_proof}", self.first);
        let signature = self.hash.hmac(&self.hash.hash(&client_key), messages.as_bytes());
        let proof: Zeroizing<Vec<u8>> = Zeroizing::new(client_key.iter().zip(signature.iter()).map(|(one, other)| one ^ other).collect());
        let expected = self.hash.hmac(&self.hash.hmac(&salted, b"Server Key"), messages.as_bytes()).to_vec();
        Ok((format!("{without_proof},p={}", STANDARD.encode(&*proof)), Expected(expected)))
    }
}

impl Expected {
    /// Whether the broker's last message shows that it knows us.
    pub(super) fn verify(&self, server_final: &[u8]) -> Result<(), Fault> {
        let signature = server_final.strip_prefix(b"v=").and_then(|text| text.split(|byte| *byte == b',').next());
        let signature = signature.and_then(|text| STANDARD.decode(text).ok()).ok_or(Fault::Impostor("it sends no signature"))?;
        verify_slices_are_equal(&signature, &self.0).map_err(|_| Fault::Impostor("its signature is not that of our password"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn begun(user: &str, nonce: &str) -> Exchange {
        Exchange::with_nonce(Hash::Sha256, user, &Secret::new("pencil"), nonce.to_owned())
    }

    const SERVER_FIRST: &str = "r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096";

    #[test]
    fn the_example_of_rfc_7677_comes_out() {
        let exchange = begun("user", "rOprNGfwEbeRWgbNEkqO");
        assert_eq!(exchange.first(), "n,,n=user,r=rOprNGfwEbeRWgbNEkqO");
        let (last, expected) = exchange.prove(SERVER_FIRST.as_bytes()).expect("a proof");
        assert_eq!(last, "c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=");
        assert_eq!(expected.verify(b"v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4="), Ok(()));
        for last in [&b""[..], b"v=", b"e=invalid-proof", b"v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G5="] {
            assert!(matches!(expected.verify(last), Err(Fault::Impostor(_))), "{last:?}");
        }
    }

    #[test]
    fn a_broker_that_takes_another_nonce_or_asks_for_too_much_is_not_believed() {
        let prove = |text: &str| begun("user", "rOprNGfwEbeRWgbNEkqO").prove(text.as_bytes()).map(|_| ());
        for text in [
            "",
            "r=other,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096",
            "r=rOprNGfwEbeRWgbNEkqO,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096",
            "r=rOprNGfwEbeRWgbNEkqOx,s=,i=4096",
            "r=rOprNGfwEbeRWgbNEkqOx,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=1",
            "r=rOprNGfwEbeRWgbNEkqOx,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4000000000",
            "m=x,r=rOprNGfwEbeRWgbNEkqOx,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096",
        ] {
            assert!(matches!(prove(text), Err(Fault::Impostor(_))), "{text}");
        }
        assert_eq!(prove(SERVER_FIRST), Ok(()));
    }

    #[test]
    fn a_name_with_signs_of_the_protocol_is_written_safely() {
        assert_eq!(begun("a=b,c", "x").first(), "n,,n=a=3Db=2Cc,r=x");
    }
}
