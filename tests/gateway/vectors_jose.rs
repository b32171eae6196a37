//! Wycheproof's vectors for JSON Web Signatures, each with its group's key and algorithm configured.
//!
//! Guarantees: no invalid vector makes a principal, and none passes the signature layer but two that the suite itself
//! contradicts; every valid one passes whose algorithm we have and whose form RFC 7515 allows, so that this test can fail.

use std::path::PathBuf;

use serde_json::Value;
use sluicegate::auth::jws::verify_signature;
use sluicegate::auth::key::{Algorithm, Key};
use sluicegate::auth::{Authenticator, Config, Credentials, IssuerConfig, Kind};
use sluicegate::units::Secret;

/// Valid vectors that are refused all the same, and why.
const REFUSED_VALID: [(u64, &str); 6] = [
    (346, "the key is for PS256, the token says PS384"),
    (350, "the key is for PS256, the token says PS384"),
    (347, "ES512 is not supported"),
    (351, "ES512 is not supported"),
    (372, "a `?` in the header is not base64url"),
    (373, "a `?` in the payload is not base64url"),
];

#[allow(clippy::print_stderr, reason = "a test that did not run must say so")]
fn vectors() -> Option<Value> {
    let folder = std::env::var_os("SLUICEGATE_VECTORS")
        .map_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../shared/vectors"), PathBuf::from);
    let path = folder.join("jose/json_web_signature_test.json");
    match std::fs::read(&path) {
        Ok(bytes) => Some(serde_json::from_slice(&bytes).expect("the suite is JSON")),
        Err(fault) => {
            eprintln!("NOT RUN: 401 JWS vectors: {}: {fault}", path.display());
            None
        }
    }
}

struct Group<'a> {
    jwk: &'a Value,
    tests: &'a [Value],
}

/// Called invalid, and byte for byte the valid vector 357 of the same group (their padding was lost when the suite was
/// written): the signature layer cannot tell them apart. As tokens they are refused, their payload being no claims.
const INVALID_AND_VALID: [u64; 2] = [367, 370];

fn groups(suite: &Value) -> impl Iterator<Item = Group<'_>> {
    suite["testGroups"]
        .as_array()
        .expect("groups")
        .iter()
        .map(|group| Group { jwk: group.get("public").unwrap_or(&group["private"]), tests: group["tests"].as_array().expect("tests") })
}

/// Whoever configures the group's key: by its own `alg`, else (the keys for encryption) by what the token wants.
fn configured(jwk: &Value) -> Algorithm {
    let name = match (jwk["alg"].as_str(), jwk["kty"].as_str()) {
        (Some("ES521"), _) => "ES384",
        (Some(name), _) => name,
        (None, Some("EC")) => "ES256",
        (None, _) => "RS256",
    };
    serde_json::from_value(name.into()).expect("an algorithm that we have")
}

#[test]
fn no_invalid_jws_passes_and_the_valid_ones_do() {
    let Some(suite) = vectors() else { return };
    let (mut invalid, mut valid) = (0, 0);
    for group in groups(&suite) {
        let key = Key::from_jwk(group.jwk.to_string().as_bytes(), Some(configured(group.jwk)));
        for test in group.tests {
            let (id, comment) = (test["tcId"].as_u64().expect("a number"), &test["comment"]);
            let passes = key.as_ref().is_ok_and(|key| verify_signature(test["jws"].as_str().expect("text"), key).is_ok());
            if test["result"] == "valid" {
                let refused = REFUSED_VALID.iter().find(|(known, _)| *known == id);
                assert_eq!(passes, refused.is_none(), "{id} {comment} {refused:?}");
                valid += 1;
            } else {
                let contradicted = group.tests.iter().any(|other| other["result"] == "valid" && other["jws"] == test["jws"]);
                assert_eq!(contradicted, INVALID_AND_VALID.contains(&id), "{id} {comment}");
                assert_eq!(passes, contradicted, "{id} {comment}");
                invalid += 1;
            }
        }
    }
    assert_eq!((invalid, valid), (355, 46));
}

#[tokio::test]
async fn no_invalid_jws_makes_a_principal() {
    let Some(suite) = vectors() else { return };
    let mut refused = 0;
    for group in groups(&suite) {
        let issuer = IssuerConfig {
            kind: Kind::Static,
            issuer: Some("wycheproof".into()),
            audience: Some("gate".into()),
            algorithm: Some(configured(group.jwk)),
            key: Secret::new(group.jwk.to_string()),
            topics: vec!["*".parse().expect("a grant")],
            ..IssuerConfig::default()
        };
        let config = Config { issuers: [("wycheproof".to_owned(), issuer)].into(), ..Config::default() };
        // A key that cannot be configured lets nobody in.
        let gate = Authenticator::new(&config).ok();
        for test in group.tests.iter().filter(|test| test["result"] == "invalid") {
            if let Some(gate) = &gate {
                let token = Secret::new(test["jws"].as_str().expect("text"));
                assert!(gate.authenticate(&Credentials::Bearer(token)).await.is_err(), "{}", test["tcId"]);
            }
            refused += 1;
        }
    }
    assert_eq!(refused, 355);
}
