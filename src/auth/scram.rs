//! The arithmetic of SCRAM (RFC 5802, RFC 7677): what is kept of a password, and how a password or a proof is held to it.
//!
//! What always holds: a [`Verifier`] cannot be turned back into its password, and what is compared is compared in constant
//! time. No text is prepared (SASLprep): a password is printable ASCII, for which the preparation changes nothing.

use std::fmt;
use std::num::NonZeroU32;

use aws_lc_rs::constant_time::verify_slices_are_equal;
use aws_lc_rs::{digest, hmac, pbkdf2};
use zeroize::Zeroizing;

/// The fewest rounds of PBKDF2 (RFC 7677 § 4, and what Kafka demands).
pub const MIN_ITERATIONS: u32 = 4_096;

/// The most rounds of PBKDF2: about half a second of a core for one password.
pub const MAX_ITERATIONS: u32 = 1_000_000;

/// Bytes of salt. All verifiers have as many: a salt's length must not tell one name from another.
pub const SALT_LENGTH: usize = 16;

/// The longest password, in characters.
pub const MAX_PASSWORD_LENGTH: usize = 256;

/// The hash that a verifier is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mechanism {
    /// SCRAM-SHA-256.
    Sha256,
    /// SCRAM-SHA-512.
    Sha512,
}

impl Mechanism {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Sha256, Self::Sha512];

    /// The name of the SASL mechanism.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Sha256 => "SCRAM-SHA-256",
            Self::Sha512 => "SCRAM-SHA-512",
        }
    }

    /// Bytes of its keys, proofs and signatures.
    pub const fn length(self) -> usize {
        match self {
            Self::Sha256 => 32,
            Self::Sha512 => 64,
        }
    }

    fn salted(self, password: &str, salt: &[u8], iterations: NonZeroU32) -> Zeroizing<Vec<u8>> {
        let mut salted = Zeroizing::new(vec![0; self.length()]);
        let algorithm = match self {
            Self::Sha256 => pbkdf2::PBKDF2_HMAC_SHA256,
            Self::Sha512 => pbkdf2::PBKDF2_HMAC_SHA512,
        };
        work::count(work::PBKDF2_ROUNDS, iterations.get());
        pbkdf2::derive(algorithm, iterations, salt, password.as_bytes(), &mut salted);
        salted
    }

    fn hmac(self, key: &[u8], text: &[u8]) -> Zeroizing<Vec<u8>> {
        let algorithm = match self {
            Self::Sha256 => hmac::HMAC_SHA256,
            Self::Sha512 => hmac::HMAC_SHA512,
        };
        hmac_of(&hmac::Key::new(algorithm, key), text)
    }

    fn hash(self, text: &[u8]) -> Vec<u8> {
        let algorithm = match self {
            Self::Sha256 => &digest::SHA256,
            Self::Sha512 => &digest::SHA512,
        };
        work::count(work::HASHES, 1);
        digest::digest(algorithm, text).as_ref().to_vec()
    }
}

/// An HMAC, counted like those of the mechanisms.
pub(super) fn hmac_of(key: &hmac::Key, text: &[u8]) -> Zeroizing<Vec<u8>> {
    work::count(work::HMACS, 1);
    Zeroizing::new(hmac::sign(key, text).as_ref().to_vec())
}

/// What is kept of a password for one mechanism. Whoever has it can check the password, and cannot know it.
#[derive(Clone, PartialEq, Eq)]
pub struct Verifier {
    /// Which mechanism.
    pub mechanism: Mechanism,
    /// What the password was mixed with.
    pub salt: [u8; SALT_LENGTH],
    /// Rounds of PBKDF2.
    pub iterations: NonZeroU32,
    /// By which a client's proof is checked: as many bytes as the mechanism's hash.
    pub stored_key: Vec<u8>,
    /// By which the server proves itself.
    pub server_key: Vec<u8>,
}

impl fmt::Debug for Verifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Verifier({}, {} iterations)", self.mechanism.as_str(), self.iterations)
    }
}

impl Verifier {
    /// The verifier of a password. Takes as long as its iterations.
    pub fn derive(mechanism: Mechanism, password: &str, salt: [u8; SALT_LENGTH], iterations: NonZeroU32) -> Self {
        let salted = mechanism.salted(password, &salt, iterations);
        let stored_key = mechanism.hash(&mechanism.hmac(&salted, b"Client Key"));
        let server_key = mechanism.hmac(&salted, b"Server Key").to_vec();
        Self { mechanism, salt, iterations, stored_key, server_key }
    }

    /// Whether this is the password: for PLAIN and Basic. Takes as long as its iterations, whatever the answer.
    pub fn matches(&self, password: &str) -> bool {
        let salted = self.mechanism.salted(password, &self.salt, self.iterations);
        let stored_key = self.mechanism.hash(&self.mechanism.hmac(&salted, b"Client Key"));
        verify_slices_are_equal(&stored_key, &self.stored_key).is_ok()
    }

    /// Whether a client's proof over the messages of an exchange (`AuthMessage`) shows that it knows the password.
    pub fn proves(&self, auth_message: &[u8], proof: &[u8]) -> bool {
        let signature = self.mechanism.hmac(&self.stored_key, auth_message);
        if proof.len() != signature.len() {
            return false;
        }
        let client_key: Zeroizing<Vec<u8>> = Zeroizing::new(proof.iter().zip(signature.iter()).map(|(one, other)| one ^ other).collect());
        verify_slices_are_equal(&self.mechanism.hash(&client_key), &self.stored_key).is_ok()
    }

    /// The server's own proof over the messages of an exchange.
    pub fn server_signature(&self, auth_message: &[u8]) -> Vec<u8> {
        self.mechanism.hmac(&self.server_key, auth_message).to_vec()
    }
}

/// Whether a text can be a password here, and what is expected if not. (What needs SASLprep would be prepared differently
/// by different clients, and then be the wrong password for some of them.)
pub fn check_password(text: &str) -> Result<(), String> {
    if let Some(at) = text.chars().position(|c| !matches!(c, ' '..='~')) {
        return Err(format!("character {} of the password is not printable ASCII; use letters, digits, signs and spaces of ASCII", at + 1));
    }
    if !(8..=MAX_PASSWORD_LENGTH).contains(&text.len()) {
        return Err(format!("a password has 8 to {MAX_PASSWORD_LENGTH} characters, this one has {}", text.len()));
    }
    Ok(())
}

/// How much was computed on this thread: tests compare it. Elsewhere nothing is counted.
pub(super) mod work {
    pub const PBKDF2_ROUNDS: usize = 0;
    pub const HMACS: usize = 1;
    pub const HASHES: usize = 2;

    #[cfg(test)]
    thread_local!(static DONE: std::cell::Cell<[u64; 3]> = const { std::cell::Cell::new([0; 3]) });

    #[cfg(test)]
    pub fn count(what: usize, times: u32) {
        DONE.with(|done| {
            let mut counts = done.get();
            counts[what] += u64::from(times);
            done.set(counts);
        });
    }

    #[cfg(not(test))]
    pub const fn count(_: usize, _: u32) {}

    /// What `job` computes.
    #[cfg(test)]
    pub fn of<T>(job: impl FnOnce() -> T) -> (T, [u64; 3]) {
        DONE.with(|done| done.set([0; 3]));
        let result = job();
        (result, DONE.with(std::cell::Cell::get))
    }
}

#[cfg(test)]
mod tests {
    use base64::Engine;
    use base64::engine::general_purpose::STANDARD;

    use super::*;

    const ITERATIONS: NonZeroU32 = NonZeroU32::new(MIN_ITERATIONS).expect("not zero");

    fn decoded(text: &str) -> Vec<u8> {
        STANDARD.decode(text).expect("base64")
    }

    #[test]
    fn the_example_of_rfc_7677_is_verified_and_answered() {
        let salt = decoded("W22ZaJ0SNY7soEsUEjb6gQ==").try_into().expect("16 bytes");
        let verifier = Verifier::derive(Mechanism::Sha256, "pencil", salt, ITERATIONS);
        let auth_message = "n=user,r=rOprNGfwEbeRWgbNEkqO,\
             r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096,\
             c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0";
        let proof = decoded("dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=");
        assert!(verifier.proves(auth_message.as_bytes(), &proof));
        assert_eq!(verifier.server_signature(auth_message.as_bytes()), decoded("6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4="));
        assert!(verifier.matches("pencil") && !verifier.matches("Pencil") && !verifier.matches(""));
        for at in [0, 31] {
            let mut other = proof.clone();
            other[at] ^= 1;
            assert!(!verifier.proves(auth_message.as_bytes(), &other));
        }
        assert!(!verifier.proves(b"another exchange", &proof));
        assert!(!verifier.proves(auth_message.as_bytes(), &proof[1..]) && !verifier.proves(auth_message.as_bytes(), &[]));
    }

    #[test]
    fn a_client_of_scram_sha_512_proves_itself() {
        let (mechanism, salt) = (Mechanism::Sha512, [7; SALT_LENGTH]);
        let verifier = Verifier::derive(mechanism, "pencil", salt, ITERATIONS);
        let client_key = mechanism.hmac(&mechanism.salted("pencil", &salt, ITERATIONS), b"Client Key");
        let signature = mechanism.hmac(&mechanism.hash(&client_key), b"messages");
        let proof: Vec<u8> = client_key.iter().zip(signature.iter()).map(|(one, other)| one ^ other).collect();
        assert!(verifier.proves(b"messages", &proof) && verifier.matches("pencil"));
        assert_eq!((proof.len(), verifier.stored_key.len(), verifier.server_key.len()), (64, 64, 64));
    }

    #[test]
    fn a_password_that_would_need_preparation_is_refused_with_the_place() {
        assert_eq!(check_password("a b~!\"42"), Ok(()));
        assert!(check_password("motörhead").expect_err("refused").contains("character 4"));
        for text in ["", "short", "with\ttab-in-it", "with\0null-in-it", &"x".repeat(257)] {
            assert!(check_password(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn a_verifier_does_not_show_its_keys() {
        let verifier = Verifier::derive(Mechanism::Sha256, "pencil", [0; SALT_LENGTH], ITERATIONS);
        assert_eq!(format!("{verifier:?}"), "Verifier(SCRAM-SHA-256, 4096 iterations)");
    }
}
