//! PLAIN (RFC 4616): a name and a password in one message. Only where nobody listens.

use super::super::credentials::{AuthFailure, Credentials};
use crate::units::Secret;

/// The longest message: far more than a name and a password of ours have.
const MAX_MESSAGE: usize = 1_024;

/// What the message shows. To act as somebody else is for nobody.
pub(super) fn read(message: &[u8]) -> Result<Credentials, AuthFailure> {
    if message.len() > MAX_MESSAGE {
        return Err(AuthFailure::TooLong);
    }
    let text = str::from_utf8(message).map_err(|_| AuthFailure::Malformed)?;
    let mut parts = text.split('\0');
    let (Some(authzid), Some(name), Some(password), None) = (parts.next(), parts.next(), parts.next(), parts.next()) else {
        return Err(AuthFailure::Malformed);
    };
    if name.is_empty() || password.is_empty() {
        return Err(AuthFailure::Malformed);
    }
    if !authzid.is_empty() && authzid != name {
        return Err(AuthFailure::Header);
    }
    Ok(Credentials::Basic { name: name.to_owned(), password: Secret::new(password) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_is_three_texts_and_nobody_acts_as_another() {
        for message in ["\0ada\0secret word", "ada\0ada\0secret word"] {
            let Ok(Credentials::Basic { name, password }) = read(message.as_bytes()) else { panic!("{message:?}") };
            assert_eq!((name.as_str(), password.expose()), ("ada", "secret word"));
        }
        assert_eq!(read(b"eve\0ada\0secret").err(), Some(AuthFailure::Header));
        for message in ["", "\0", "\0ada", "\0ada\0", "\0\0secret", "ada\0\0secret", "\0ada\0secret\0", "\0ada\0se\0cret"] {
            assert_eq!(read(message.as_bytes()).err(), Some(AuthFailure::Malformed), "{message:?}");
        }
        assert_eq!(read(b"\0ada\0secr\xff").err(), Some(AuthFailure::Malformed));
        assert_eq!(read(&[b'x'; MAX_MESSAGE + 1]).err(), Some(AuthFailure::TooLong));
    }
}
