//! The table of rules in `docs/otlp-conformance.md` and the tests hold each other: no row without its test, no test without
//! its row.

use std::collections::BTreeSet;
use std::path::Path;

use crate::support::checkout;

/// Folders whose tests a row may name.
const FOLDERS: [&str; 3] = ["tests", "src", "fuzz"];

/// Of the table of rules.
const COLUMNS: usize = 6;

/// The names in the column of tests: what stands in backquotes there.
fn named(table: &str) -> Vec<(String, Vec<String>)> {
    // Other tables have fewer columns.
    let rows = table.lines().map(|row| row.split('|').map(str::trim).collect::<Vec<_>>());
    let rows = rows.filter(|cells| cells.len() == COLUMNS + 2 && !matches!(cells[1], "id" | "---"));
    rows.map(|cells| {
        let tests = cells[4].split('`').skip(1).step_by(2).map(str::to_owned).collect();
        (cells[1].to_owned(), tests)
    })
    .collect()
}

fn collect(folder: &Path, tests: &mut BTreeSet<String>) {
    for entry in std::fs::read_dir(folder).expect("a folder of the checkout").flatten() {
        let path = entry.path();
        if path.is_dir() && path.file_name().is_some_and(|name| name != "node_modules" && name != "target") {
            collect(&path, tests);
        } else if path.extension().is_some_and(|kind| kind == "rs") {
            tests.extend(tests_in(&std::fs::read_to_string(path).expect("source is text")));
        } else if path.is_file() {
            tests.insert(path.strip_prefix(checkout("")).expect("below it").display().to_string());
        }
    }
}

/// The functions that follow an attribute of a test.
fn tests_in(source: &str) -> Vec<String> {
    let mut tests = Vec::new();
    let mut is_test = false;
    for line in source.lines().map(str::trim) {
        is_test |= line.starts_with("#[test]") || line.starts_with("#[tokio::test") || line == "proptest! {";
        let name = line.strip_prefix("async fn ").or_else(|| line.strip_prefix("fn ")).and_then(|rest| rest.split('(').next());
        if let Some(name) = name.filter(|_| is_test) {
            tests.push(name.to_owned());
            is_test = false;
        }
    }
    tests
}

#[test]
fn every_rule_has_a_test_and_every_test_a_rule() {
    let table = std::fs::read_to_string(checkout("docs/otlp-conformance.md")).expect("the document is there");
    let rows = named(&table);
    assert!(rows.len() > 80, "only {} rows", rows.len());
    let mut known = BTreeSet::new();
    FOLDERS.iter().for_each(|folder| collect(&checkout(folder), &mut known));
    let mut faults: Vec<String> = Vec::new();
    let mut ids = BTreeSet::new();
    for (id, tests) in &rows {
        faults.extend((!ids.insert(id)).then(|| format!("{id} stands there twice")));
        faults.extend(tests.is_empty().then(|| format!("{id} names no test")));
        faults.extend(tests.iter().filter(|test| !known.contains(*test)).map(|test| format!("{id} names {test}, which is no test")));
    }
    let named: BTreeSet<_> = rows.into_iter().flat_map(|(_, tests)| tests).collect();
    let mut own = BTreeSet::new();
    collect(&checkout("tests/gateway/otlp_conformance"), &mut own);
    own.retain(|test| !test.contains('/') && test != "every_rule_has_a_test_and_every_test_a_rule");
    faults.extend(own.difference(&named).map(|test| format!("{test} stands in no row")));
    assert!(faults.is_empty(), "docs/otlp-conformance.md:\n{}", faults.join("\n"));
}
