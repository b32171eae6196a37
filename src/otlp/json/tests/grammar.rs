//! JSONTestSuite and the specification's own examples.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

use serde::de::{DeserializeOwned, IgnoredAny};

use super::*;

/// Vectors of JSONTestSuite that may be taken or refused, and are taken as the content of a field that nobody knows.
const TAKEN: [&str; 20] = [
    "i_number_double_huge_neg_exp.json",
    "i_number_huge_exp.json",
    "i_number_neg_int_huge_exp.json",
    "i_number_pos_double_huge_exp.json",
    "i_number_real_neg_overflow.json",
    "i_number_real_pos_overflow.json",
    "i_number_real_underflow.json",
    "i_number_too_big_neg_int.json",
    "i_number_too_big_pos_int.json",
    "i_number_very_big_negative_int.json",
    "i_object_key_lone_2nd_surrogate.json",
    "i_string_1st_surrogate_but_2nd_missing.json",
    "i_string_1st_valid_surrogate_2nd_invalid.json",
    "i_string_incomplete_surrogate_and_escape_valid.json",
    "i_string_incomplete_surrogate_pair.json",
    "i_string_incomplete_surrogates_escape_valid.json",
    "i_string_invalid_lonely_surrogate.json",
    "i_string_invalid_surrogate.json",
    "i_string_inverted_surrogates_U+1D11E.json",
    "i_string_lone_second_surrogate.json",
];

/// Public test data, where this machine has it.
fn vectors(folder: &str) -> Option<PathBuf> {
    let beside = || Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/vectors");
    let root = std::env::var_os("SLUICEGATE_VECTORS").map_or_else(beside, PathBuf::from);
    Some(root.join(folder)).filter(|path| path.is_dir())
}

/// Tells `tests/run` that so many checks could not be made here.
fn not_run(tests: usize, why: &str) {
    if let Some(path) = std::env::var_os("SLUICEGATE_NOT_RUN") {
        let mut file = fs::OpenOptions::new().create(true).append(true).open(path).expect("the file of tests/run can be written");
        writeln!(file, "{tests} {why}").expect("the file of tests/run can be written");
    }
}

fn suite() -> Vec<(String, Vec<u8>)> {
    let Some(folder) = vectors("json") else {
        not_run(318, "JSONTestSuite for OTLP/JSON: the vectors are missing; set SLUICEGATE_VECTORS");
        return Vec::new();
    };
    let entries = fs::read_dir(folder).expect("a readable folder").map(|entry| entry.expect("a readable folder"));
    entries.map(|entry| (entry.file_name().to_string_lossy().into_owned(), fs::read(entry.path()).expect("a vector"))).collect()
}

#[test]
fn every_vector_of_the_json_test_suite_is_judged_where_it_stands_in_a_field_that_nobody_knows() {
    let suite = suite();
    for (name, vector) in &suite {
        let json = [br#"{"resourceSpans":[],"x":"#, &vector[..], b"}"].concat();
        let is_taken = transcode(Signal::Traces, &json).is_ok();
        let expected = name.starts_with("y_") || TAKEN.contains(&name.as_str());
        assert_eq!(is_taken, expected, "{name}: {:?}", transcode(Signal::Traces, &json));
        if is_taken {
            assert!(serde_json::from_slice::<IgnoredAny>(&json).is_ok(), "{name}: not taken by another parser");
        }
    }
    assert!(suite.is_empty() || suite.len() == 318);
}

#[test]
fn no_vector_that_is_no_json_is_taken_as_a_request() {
    for (name, vector) in suite() {
        let is_taken = transcode(Signal::Traces, &vector).is_ok();
        assert!(!is_taken || name == "y_structure_lonely_object.json" || name == "y_object_empty.json", "{name} was taken");
    }
}

/// One of the specification's examples: what comes out, and what another reader of the same text makes of it.
fn example<M: Message + Default + DeserializeOwned>(signal: Signal, name: &str) -> Option<u64> {
    let Some(folder) = vectors("otlp") else {
        not_run(1, "an example of OTLP/JSON: the vectors are missing; set SLUICEGATE_VECTORS");
        return None;
    };
    let json = fs::read(folder.join(name)).expect("an example");
    let transcoded = transcode(signal, &json).expect("an example is right");
    let other: M = serde_json::from_slice(&json).expect("an example is right");
    assert_eq!(M::decode(&transcoded.bytes[..]).expect("protobuf").encode_to_vec(), other.encode_to_vec());
    assert_eq!(transcoded.deviations, Deviations::default(), "{name}");
    Some(transcoded.items)
}

#[test]
fn the_specifications_examples_are_what_another_reader_says() {
    assert!(example::<ExportTraceServiceRequest>(Signal::Traces, "trace.json").is_none_or(|items| items == 1));
    assert!(example::<ExportLogsServiceRequest>(Signal::Logs, "logs.json").is_none_or(|items| items == 1));
    assert!(example::<ExportLogsServiceRequest>(Signal::Logs, "events.json").is_none_or(|items| items == 1));
    assert!(example::<ExportMetricsServiceRequest>(Signal::Metrics, "metrics.json").is_none_or(|items| items == 4));
}
