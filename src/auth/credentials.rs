//! What a door was shown, and why it did not do.
//!
//! To the sender all failures are one ([`Refusal::Unauthenticated`](crate::receipt::Refusal::Unauthenticated)); the
//! [`AuthFailure`] is for our own counters and debug lines. It is a closed list: no text of a sender's gets into it.

use crate::units::Secret;

/// What somebody shows to be recognized.
#[derive(Clone, Debug)]
pub enum Credentials {
    /// A JWT, as it stands after `Bearer `.
    Bearer(Secret),
    /// A user's name and password, as they stand in `Basic`.
    Basic {
        /// Who they say they are.
        name: String,
        /// By what they would be recognized.
        password: Secret,
    },
}

/// Why credentials were not accepted. Bounded, for a metric's label and a debug line; never for an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum AuthFailure {
    /// Longer than [`MAX_TOKEN_BYTES`](super::jws::MAX_TOKEN_BYTES).
    TooLong,
    /// Not three parts of strict base64url with a JSON object in the first two, or a member twice.
    Malformed,
    /// A header that we do not follow: `crit`, `b64`, `enc`, `zip`, a foreign `typ`.
    Header,
    /// No `iss`, or none that is configured.
    Issuer,
    /// The header names another algorithm than the key has.
    Algorithm,
    /// No key of the issuer has this `kid`.
    UnknownKey,
    /// The issuer's keys were never fetched, or are older than `max_stale` allows.
    NoKeys,
    /// The signature is not the key's, or the password not the user's; also: there is no such user.
    Signature,
    /// A required claim is missing, or one has a form that we do not take.
    Claims,
    /// For somebody else.
    Audience,
    /// `exp` has passed.
    Expired,
    /// `nbf`, `iat` or `auth_time` are ahead.
    NotYet,
    /// Too many passwords are tried at once; this one was not. Not the sender's fault.
    Busy,
}

impl AuthFailure {
    /// All of them, in the order of their counters.
    pub const ALL: [Self; 13] = [
        Self::TooLong,
        Self::Malformed,
        Self::Header,
        Self::Issuer,
        Self::Algorithm,
        Self::UnknownKey,
        Self::NoKeys,
        Self::Signature,
        Self::Claims,
        Self::Audience,
        Self::Expired,
        Self::NotYet,
        Self::Busy,
    ];

    /// The label.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::TooLong => "too_long",
            Self::Malformed => "malformed",
            Self::Header => "header",
            Self::Issuer => "issuer",
            Self::Algorithm => "algorithm",
            Self::UnknownKey => "unknown_key",
            Self::NoKeys => "no_keys",
            Self::Signature => "signature",
            Self::Claims => "claims",
            Self::Audience => "audience",
            Self::Expired => "expired",
            Self::NotYet => "not_yet",
            Self::Busy => "busy",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_counts_at_its_own_place() {
        for (at, failure) in AuthFailure::ALL.into_iter().enumerate() {
            assert_eq!(failure as usize, at);
        }
    }

    #[test]
    fn shown_credentials_do_not_show_themselves() {
        assert_eq!(format!("{:?}", Credentials::Bearer(Secret::new("a.b.c"))), "Bearer(***)");
        let basic = Credentials::Basic { name: "ada".into(), password: Secret::new("hunter2") };
        assert!(!format!("{basic:?}").contains("hunter2"));
    }
}
