//! What a token claims, read strictly, after its signature was found good.
//!
//! What always holds: a date is an integer of seconds from 0, never text or a fraction; `exp`, `iss`, `aud` and `sub`
//! are there; nothing that is ahead of the clock by more than a minute was issued.

use std::time::{Duration, SystemTime};

use serde_json::Value;

use super::credentials::AuthFailure;
use super::grants::Grant;
use super::jws::Members;
use super::tokens::Now;

/// The longest `sub`.
pub const MAX_SUBJECT_CHARS: usize = 128;

/// How many grants a token can bring; what is beyond is not read.
pub const MAX_CLAIMED_TOPICS: usize = 256;

/// How far `iat` and `auth_time` may be ahead of our clock.
const MAX_AHEAD: Duration = Duration::from_secs(60);

/// What an issuer's tokens must say, and what is read from them.
#[derive(Clone, Debug)]
pub(super) struct Rules {
    pub audience: String,
    pub leeway: Duration,
    /// Firebase: `aud` is one string, and `iat` and `auth_time` are there.
    pub firebase: bool,
    pub topics: Vec<Grant>,
    pub topics_claim: Option<String>,
    pub tier: String,
    pub tier_claim: Option<String>,
    pub admins: Vec<String>,
    pub admin_claim: Option<String>,
}

/// The claims of a token that may be believed.
#[derive(Debug, PartialEq)]
pub(super) struct Claims {
    pub subject: String,
    pub expires: SystemTime,
    pub tier: String,
    pub grants: Vec<Grant>,
    pub admin: bool,
}

/// Who says to have issued it; believed by nobody yet, it only picks the keys.
pub(super) fn issuer(members: &Members) -> Result<&str, AuthFailure> {
    members.get("iss").and_then(Value::as_str).ok_or(AuthFailure::Issuer)
}

impl Rules {
    /// Reads the claims at the time `now`.
    pub(super) fn read(&self, members: &Members, now: Now) -> Result<Claims, AuthFailure> {
        let Now { wall: now, grace, .. } = now;
        let expires = date(members, "exp")?.ok_or(AuthFailure::Claims)?;
        let not_before = date(members, "nbf")?;
        let issued = date(members, "iat")?;
        let signed_in = date(members, "auth_time")?;
        let subject = subject(members)?;
        self.check_audience(members)?;
        if self.firebase && (issued.is_none() || signed_in.is_none()) {
            return Err(AuthFailure::Claims);
        }
        if now >= later(expires, self.leeway + grace)? {
            return Err(AuthFailure::Expired);
        }
        let ahead = |date: Option<SystemTime>, by| date.is_some_and(|date| later(now, by).is_ok_and(|latest| date > latest));
        if ahead(not_before, self.leeway) || ahead(issued, MAX_AHEAD) || ahead(signed_in, MAX_AHEAD) {
            return Err(AuthFailure::NotYet);
        }
        let admin = self.is_admin(&subject, members);
        Ok(Claims { subject, expires, tier: self.tier(members), grants: self.grants(members), admin })
    }

    fn check_audience(&self, members: &Members) -> Result<(), AuthFailure> {
        let named = match members.get("aud") {
            Some(Value::String(one)) => *one == self.audience,
            Some(Value::Array(several)) if !self.firebase => {
                if !several.iter().all(Value::is_string) {
                    return Err(AuthFailure::Claims);
                }
                several.iter().any(|one| one.as_str() == Some(&self.audience))
            }
            _ => return Err(AuthFailure::Claims),
        };
        named.then_some(()).ok_or(AuthFailure::Audience)
    }

    fn tier(&self, members: &Members) -> String {
        let claimed = self.tier_claim.as_deref().and_then(|name| members.get(name)).and_then(Value::as_str);
        claimed.filter(|name| is_tier(name)).unwrap_or(&self.tier).to_owned()
    }

    /// What every token of the issuer may do, and what this one says. A word that is no grant grants nothing.
    fn grants(&self, members: &Members) -> Vec<Grant> {
        let claimed = self.topics_claim.as_deref().and_then(|name| members.get(name));
        let words: Vec<&str> = match claimed {
            Some(Value::String(text)) => text.split([' ', ',']).collect(),
            Some(Value::Array(items)) => items.iter().filter_map(Value::as_str).collect(),
            _ => Vec::new(),
        };
        let claimed = words.into_iter().filter_map(|word| word.parse().ok()).take(MAX_CLAIMED_TOPICS);
        self.topics.iter().cloned().chain(claimed).collect()
    }

    /// A subject that is listed, or a claim that is `true` and nothing that only looks like it.
    fn is_admin(&self, subject: &str, members: &Members) -> bool {
        let claimed = self.admin_claim.as_deref().and_then(|name| members.get(name));
        claimed == Some(&Value::Bool(true)) || self.admins.iter().any(|admin| admin == subject)
    }
}

/// Whether a text can be a tier's name: 1 to 64 of `[A-Za-z0-9_-]`.
pub(super) fn is_tier(name: &str) -> bool {
    (1..=64).contains(&name.len()) && name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-'))
}

/// Whether a text can be a subject: it will stand in headers and in logs.
pub(super) fn is_subject(text: &str) -> bool {
    (1..=MAX_SUBJECT_CHARS).contains(&text.chars().count()) && !text.chars().any(char::is_control)
}

fn subject(members: &Members) -> Result<String, AuthFailure> {
    let subject = members.get("sub").and_then(Value::as_str).filter(|text| is_subject(text));
    subject.map(str::to_owned).ok_or(AuthFailure::Claims)
}

fn date(members: &Members, name: &str) -> Result<Option<SystemTime>, AuthFailure> {
    let Some(value) = members.get(name) else { return Ok(None) };
    let seconds = value.as_u64().ok_or(AuthFailure::Claims)?;
    later(SystemTime::UNIX_EPOCH, Duration::from_secs(seconds)).map(Some)
}

/// A date that no clock reaches is no date.
fn later(date: SystemTime, by: Duration) -> Result<SystemTime, AuthFailure> {
    date.checked_add(by).ok_or(AuthFailure::Claims)
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: u64 = 1_700_000_000;

    fn rules() -> Rules {
        Rules {
            audience: "gate".into(),
            leeway: Duration::from_secs(5),
            firebase: false,
            topics: vec!["always".parse().expect("a grant")],
            topics_claim: Some("topics".into()),
            tier: "standard".into(),
            tier_claim: Some("tier".into()),
            admins: vec!["root".into()],
            admin_claim: Some("admin".into()),
        }
    }

    fn read_by(rules: &Rules, json: &str) -> Result<Claims, AuthFailure> {
        let wall = SystemTime::UNIX_EPOCH + Duration::from_secs(NOW);
        rules.read(&Members::read(json.as_bytes())?, Now { wall, ..Now::read() })
    }

    fn read(json: &str) -> Result<Claims, AuthFailure> {
        read_by(&rules(), json)
    }

    /// Good claims, with one of them written differently.
    fn with(name: &str, written: &str) -> String {
        let good = [("aud", "\"gate\""), ("sub", "\"ada\""), ("exp", "1700000060"), ("iat", "1700000000"), ("auth_time", "1700000000")];
        let mut members: Vec<_> = good.into_iter().filter(|(other, _)| *other != name).collect();
        if !written.is_empty() {
            members.push((name, written));
        }
        let members: Vec<String> = members.iter().map(|(name, value)| format!("\"{name}\":{value}")).collect();
        format!("{{{}}}", members.join(","))
    }

    #[test]
    fn dates_are_integers_from_zero_and_exp_is_required() {
        assert!(read(&with("", "")).is_ok());
        for name in ["exp", "nbf", "iat", "auth_time"] {
            for written in
                ["\"1700000060\"", "1700000060.0", "1700000060.5", "1.7e9", "-1", "-0", "true", "null", "[1700000060]", "{}", "1e400"]
            {
                let failure = read(&with(name, written)).expect_err(written);
                assert!(matches!(failure, AuthFailure::Claims | AuthFailure::Malformed), "{name}={written}: {failure:?}");
            }
            for written in ["18446744073709551615", "18446744073709551616"] {
                assert_eq!(read(&with(name, written)), Err(AuthFailure::Claims), "{name}={written}");
            }
        }
        assert_eq!(read(&with("exp", "")), Err(AuthFailure::Claims));
        for name in ["nbf", "iat", "auth_time"] {
            assert!(read(&with(name, "")).is_ok(), "{name}");
        }
    }

    #[test]
    fn a_grace_is_given_behind_the_end_and_nowhere_else() {
        let minute = |name, written: u64| {
            let wall = SystemTime::UNIX_EPOCH + Duration::from_secs(NOW);
            let now = Now { wall, ..Now::read() }.lenient(Duration::from_secs(60));
            rules().read(&Members::read(with(name, &written.to_string()).as_bytes())?, now)
        };
        assert!(minute("exp", NOW - 64).is_ok());
        assert_eq!(minute("exp", NOW - 65), Err(AuthFailure::Expired));
        assert_eq!(minute("nbf", NOW + 6), Err(AuthFailure::NotYet));
    }

    #[test]
    fn a_token_lives_from_nbf_to_exp_and_five_seconds_more() {
        for (name, written, expected) in [
            ("exp", NOW - 4, None),
            ("exp", NOW - 5, Some(AuthFailure::Expired)),
            ("exp", NOW - 30, Some(AuthFailure::Expired)),
            ("exp", 0, Some(AuthFailure::Expired)),
            ("nbf", NOW + 5, None),
            ("nbf", NOW + 6, Some(AuthFailure::NotYet)),
            ("iat", NOW + 60, None),
            ("iat", NOW + 61, Some(AuthFailure::NotYet)),
            ("auth_time", NOW + 60, None),
            ("auth_time", NOW + 61, Some(AuthFailure::NotYet)),
        ] {
            assert_eq!(read(&with(name, &written.to_string())).err(), expected, "{name}={written}");
        }
    }

    #[test]
    fn audience_and_subject_are_required_and_well_formed() {
        let firebase = Rules { firebase: true, ..rules() };
        assert!(read(&with("aud", "[\"other\",\"gate\"]")).is_ok());
        assert_eq!(read_by(&firebase, &with("aud", "[\"gate\"]")), Err(AuthFailure::Claims));
        assert_eq!(read(&with("aud", "\"other\"")), Err(AuthFailure::Audience));
        assert_eq!(read(&with("aud", "[]")), Err(AuthFailure::Audience));
        for written in ["", "1", "null", "[\"gate\",1]", "{\"gate\":1}"] {
            assert_eq!(read(&with("aud", written)), Err(AuthFailure::Claims), "{written}");
        }
        let long = format!("\"{}\"", "ü".repeat(129));
        for written in ["", "\"\"", "1", "null", "[\"ada\"]", "\"a\\r\\nb\"", "\"\\u0000\"", &long] {
            assert_eq!(read(&with("sub", written)), Err(AuthFailure::Claims), "{written}");
        }
        assert!(read(&with("sub", &format!("\"{}\"", "ü".repeat(128)))).is_ok());
        for missing in ["iat", "auth_time"] {
            assert_eq!(read_by(&firebase, &with(missing, "")), Err(AuthFailure::Claims), "{missing}");
        }
        let twice = with("", "").replace('{', "{\"sub\":\"eve\",");
        assert_eq!(read(&twice), Err(AuthFailure::Malformed));
    }

    #[test]
    fn tier_and_topics_come_from_their_claims_and_nonsense_grants_nothing() {
        let grants = |json: &str| read(json).expect("good").grants.iter().map(ToString::to_string).collect::<Vec<_>>();
        assert_eq!(grants(&with("topics", "[\"a\",\"b-*\",1,\"c d\",\"\"]")), ["always", "a", "b-*"]);
        assert_eq!(grants(&with("topics", "\"a, b-*\"")), ["always", "a", "b-*"]);
        assert_eq!(grants(&with("topics", "{\"a\":true}")), ["always"]);
        let tier = |json: &str| read(json).expect("good").tier;
        assert_eq!(tier(&with("tier", "\"pro\"")), "pro");
        for written in ["", "1", "\"\"", "\"a b\"", "[\"pro\"]"] {
            assert_eq!(tier(&with("tier", written)), "standard", "{written}");
        }
    }

    #[test]
    fn who_administers_is_listed_or_says_true_by_its_claim_and_nothing_else_does() {
        let admin = |rules: &Rules, json: &str| read_by(rules, json).expect("good").admin;
        assert!(admin(&rules(), &with("admin", "true")));
        assert!(admin(&rules(), &with("sub", "\"root\"")));
        for written in ["", "false", "1", "\"true\"", "\"admin\"", "[true]", "{}", "null"] {
            assert!(!admin(&rules(), &with("admin", written)), "{written}");
        }
        for topics in ["[\"*\"]", "[\"admin\"]", "\"* admin\""] {
            assert!(!admin(&rules(), &with("topics", topics)), "{topics}");
        }
        let deaf = Rules { admins: Vec::new(), admin_claim: None, ..rules() };
        assert!(!admin(&deaf, &with("admin", "true")));
        assert!(!admin(&deaf, &with("sub", "\"root\"")));
    }
}
