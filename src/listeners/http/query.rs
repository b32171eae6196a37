//! The query of a request: the topic, and never a credential.

use percent_encoding::percent_decode_str;

use super::fault::Fault;
use crate::receipt::Refusal;

/// Names by which somebody might try to show who they are. Queries end in logs and histories, so all of these are refused.
const CREDENTIALS: [&str; 13] = [
    "access_token",
    "api-key",
    "api_key",
    "apikey",
    "auth",
    "authorization",
    "bearer",
    "id_token",
    "jwt",
    "key",
    "password",
    "secret",
    "token",
];

/// The topic that the query names. Parameters that mean nothing here are ignored.
pub fn topic(query: Option<&str>) -> Result<Option<String>, Fault> {
    let mut topic = None;
    for pair in query.unwrap_or_default().split('&') {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        let name = decoded(name).to_ascii_lowercase();
        if CREDENTIALS.contains(&name.as_str()) {
            return Err(Fault::BadRequest(
                "credentials belong in the header `Authorization`, never in the query; treat this one as exposed",
            ));
        }
        if name == "topic" && topic.replace(decoded(value)).is_some() {
            return Err(Refusal::malformed("the query names two topics").into());
        }
    }
    Ok(topic)
}

/// Percent-decoded, once. Bytes that are not UTF-8 become a character that no topic has.
pub fn decoded(text: &str) -> String {
    percent_decode_str(text).decode_utf8_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_topic_is_decoded_once() {
        assert_eq!(topic(None), Ok(None));
        assert_eq!(topic(Some("")), Ok(None));
        assert_eq!(topic(Some("a=b&topic=or%64ers&utm")), Ok(Some("orders".to_owned())));
        assert_eq!(topic(Some("topic=%252e")), Ok(Some("%2e".to_owned())));
        assert!(topic(Some("topic=a&topic=a")).is_err());
    }

    #[test]
    fn a_credential_in_the_query_is_refused_under_any_spelling() {
        for query in ["token=x", "topic=a&KEY=x", "access%5ftoken=x", "api_key", "Authorization=Bearer%20x"] {
            assert!(matches!(topic(Some(query)), Err(Fault::BadRequest(_))), "{query}");
        }
    }
}
