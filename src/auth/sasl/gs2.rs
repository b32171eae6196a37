//! The header in front of a client's first message (RFC 5801): whether it binds to the channel, and as whom it wants to act.

use super::super::credentials::AuthFailure;

/// A message taken apart behind its header.
#[derive(Debug, PartialEq)]
pub(super) struct Gs2<'a> {
    /// The header with its last comma, as it was sent.
    pub header: &'a str,
    /// As whom the client wants to act; none: as who it is.
    pub authzid: Option<String>,
    /// What is behind the header.
    pub rest: &'a str,
}

impl<'a> Gs2<'a> {
    /// Reads the header. A client that demands channel binding is refused: no mechanism of ours has it. One that could (`y`) and
    /// thinks that we cannot is right.
    pub fn read(text: &'a str) -> Result<Self, AuthFailure> {
        let (flag, behind) = text.split_once(',').ok_or(AuthFailure::Malformed)?;
        let (authzid, rest) = behind.split_once(',').ok_or(AuthFailure::Malformed)?;
        match flag {
            "n" | "y" => {}
            _ if flag.starts_with("p=") => return Err(AuthFailure::Header),
            _ => return Err(AuthFailure::Malformed),
        }
        let authzid = match authzid {
            "" => None,
            named => Some(name(named.strip_prefix("a=").ok_or(AuthFailure::Malformed)?)?),
        };
        Ok(Self { header: &text[..text.len() - rest.len()], authzid, rest })
    }
}

/// A name as it is, without the escapes of `,` and `=`. No other `=` is in a name.
pub(super) fn name(text: &str) -> Result<String, AuthFailure> {
    let mut pieces = text.split('=');
    let mut name = pieces.next().unwrap_or_default().to_owned();
    for piece in pieces {
        let (sign, rest) = match piece.strip_prefix("2C") {
            Some(rest) => (',', rest),
            None => ('=', piece.strip_prefix("3D").ok_or(AuthFailure::Malformed)?),
        };
        name.push(sign);
        name.push_str(rest);
    }
    if name.is_empty() || name.contains(['\0', '\x01']) { Err(AuthFailure::Malformed) } else { Ok(name) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_says_as_whom_and_demands_no_channel_binding() {
        let read = |text| Gs2::read(text).map(|gs2| (gs2.header.to_owned(), gs2.authzid, gs2.rest.to_owned()));
        let good = |header: &str, authzid: Option<&str>, rest: &str| Ok((header.to_owned(), authzid.map(str::to_owned), rest.to_owned()));
        assert_eq!(read("n,,n=ada,r=x"), good("n,,", None, "n=ada,r=x"));
        assert_eq!(read("y,a=ada,"), good("y,a=ada,", Some("ada"), ""));
        assert_eq!(read("n,a=a=2Cb=3Dc,x"), good("n,a=a=2Cb=3Dc,", Some("a,b=c"), "x"));
        assert_eq!(read("p=tls-unique,,x"), Err(AuthFailure::Header));
        for text in ["", "n", "n,", "N,,", "nn,,", ",,", "n,a=,", "n,b=ada,", "n,ada,", "n,a=a=2c,", "n,a=a=,", "n,a=\0,"] {
            assert_eq!(read(text), Err(AuthFailure::Malformed), "{text:?}");
        }
    }

    #[test]
    fn a_name_has_two_escapes_and_no_other_equals_sign() {
        for (written, meant) in [("ada", "ada"), ("=2C", ","), ("=3D2C", "=2C"), ("ü=2C=3D", "ü,=")] {
            assert_eq!(name(written).as_deref(), Ok(meant));
        }
        for text in ["", "=", "a=b", "=2", "=2c", "=3d", "=2D", "==2C", "a\0"] {
            assert_eq!(name(text), Err(AuthFailure::Malformed), "{text:?}");
        }
    }
}
