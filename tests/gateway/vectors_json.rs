//! JSONTestSuite, each vector sent as `{"data":<bytes>}`: what must be refused is refused with its place, what must be
//! accepted is accepted, and the rest is answered.

use bytes::Bytes;
use sluicegate::listeners::http::Config;
use sluicegate::listeners::http::events::{self, Form, Given};
use sluicegate::receipt::Refusal;

use crate::support::gate::Setup;
use crate::support::{not_run, vectors};

/// As many as the suite has, by what is required of them: accepted, refused, either.
const REQUIRED: [(&str, usize); 3] = [("y_", 95), ("n_", 188), ("i_", 35)];

const OPEN: &[u8] = b"{\"data\":";

/// The bodies of the suite by name; none: this machine has no vectors, and the summary says so.
fn bodies() -> Option<Vec<(String, Bytes)>> {
    let Some(folder) = vectors("json") else {
        not_run(318, "JSONTestSuite: the vectors are missing; set SLUICEGATE_VECTORS");
        return None;
    };
    let mut bodies: Vec<_> = std::fs::read_dir(folder)
        .expect("a readable folder")
        .map(|entry| {
            let entry = entry.expect("a readable folder");
            let vector = std::fs::read(entry.path()).expect("a readable vector");
            (entry.file_name().to_string_lossy().into_owned(), Bytes::from([OPEN, &vector, b"}"].concat()))
        })
        .collect();
    bodies.sort();
    for (prefix, count) in REQUIRED {
        assert_eq!(bodies.iter().filter(|(name, _)| name.starts_with(prefix)).count(), count, "vectors {prefix}");
    }
    Some(bodies)
}

#[test]
fn every_vector_of_the_json_test_suite_is_judged_by_the_decoder_as_the_suite_says() {
    let config = Config::default();
    let given = Given { path: Some("events"), query: None, id: None, config: &config };
    for (name, body) in bodies().unwrap_or_default() {
        match events::decode(&body, Form::Json, &given) {
            Ok(decoded) => {
                assert!(!name.starts_with("n_"), "{name} was accepted");
                let event = decoded.into_iter().next().expect("one event").expect("a good event");
                assert_eq!(event.value, body[OPEN.len()..body.len() - 1].trim_ascii(), "{name}: not the bytes as they came");
            }
            Err(Refusal::Malformed { position: Some(_), .. }) => assert!(!name.starts_with("y_"), "{name} was refused"),
            Err(other) => panic!("{name}: {other:?}"),
        }
    }
}

#[tokio::test]
async fn every_vector_of_the_json_test_suite_is_judged_by_the_gate_as_the_suite_says() {
    let Some(bodies) = bodies() else { return };
    let gate = Setup::new().start().await;
    let token = gate.token(&["--sub", "vectors"]).await;
    for (name, body) in bodies {
        let answer = gate.post("/v1/events/events", &token, body).await;
        let refused = answer.status == 400 && answer.json()["code"] == "malformed" && answer.json()["position"]["offset"].is_u64();
        let accepted = answer.status == 202 && answer.json()["accepted"] == 1;
        match name.get(..2) {
            Some("y_") => assert!(accepted, "{name}: {} {}", answer.status, answer.text()),
            Some("n_") => assert!(refused, "{name}: {} {}", answer.status, answer.text()),
            _ => assert!(accepted || refused, "{name}: {} {}", answer.status, answer.text()),
        }
    }
}
