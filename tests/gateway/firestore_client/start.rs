//! What is wrong with the settings of a Firestore inbox, as `sluicegate check` and the start say it: nothing is asked of anybody.

use crate::support::gate::{Ran, Setup};

/// A gate with a Firestore inbox, of which nothing is set yet.
fn setup() -> Setup {
    Setup::new().env("SLUICEGATE__INBOX__KIND", "firestore").env("SLUICEGATE__SINK__ANSWER_DEADLINE", "30s")
}

/// What the check and the start say; they say the same, and exit with 2.
async fn said(setup: &Setup) -> String {
    let problem = |ran: Ran| {
        assert_eq!(ran.status, 2, "{ran:?}");
        ran.stderr.lines().last().unwrap_or_default().to_owned()
    };
    let (checked, started) = (problem(setup.run(&["check"]).await), problem(setup.run(&[]).await));
    assert_eq!(checked, started);
    checked
}

#[tokio::test(flavor = "multi_thread")]
async fn a_project_that_nobody_can_name_is_seen_by_the_check_as_by_the_start() {
    let said = said(&setup().env("FIRESTORE_EMULATOR_HOST", "127.0.0.1:1")).await;
    assert!(said.contains("inbox.firestore.project: none is known") && said.contains("FIREBASE_PROJECT_ID"), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_wrong_with_an_account_names_the_whole_key_and_the_variable_that_set_it() {
    for (variable, value, key) in [
        ("FIREBASE_SERVICE_ACCOUNT_JSON", "{}", "inbox.firestore.service_account_json: expected"),
        ("GOOGLE_APPLICATION_CREDENTIALS", "/nowhere/at/all.json", "inbox.firestore.service_account: `/nowhere/at/all.json`: "),
        ("SLUICEGATE__INBOX__FIRESTORE__SERVICE_ACCOUNT", "/nowhere.json", "inbox.firestore.service_account: `/nowhere.json`: "),
    ] {
        let said = said(&setup().env("FIREBASE_PROJECT_ID", "demo").env(variable, value)).await;
        assert!(said.contains(&format!("environment {variable}: {key}")), "{said}");
    }
    let file = "[inbox]\nkind = \"firestore\"\n[inbox.firestore]\nproject = \"demo\"\nservice_account = \"/nowhere.json\"\n";
    let said = said(&setup().config(file)).await;
    assert!(said.contains(": inbox.firestore.service_account: `/nowhere.json`: ") && !said.contains("environment"), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn without_root_certificates_a_service_with_tls_is_no_inbox() {
    let bare = setup().env("FIREBASE_PROJECT_ID", "demo");
    let nobody = bare.path("nobody.pem");
    std::fs::write(&nobody, "").expect("a file in a folder of ours");
    let without = bare.clone().env("SSL_CERT_FILE", &nobody.display().to_string());
    let said = said(&without).await;
    assert!(said.contains("inbox.firestore.endpoint: ") && said.contains("root certificates") && said.contains("SSL_CERT_FILE"), "{said}");
    // Before an emulator there is no TLS.
    let emulated = without.env("FIRESTORE_EMULATOR_HOST", "127.0.0.1:1").run(&["check"]).await;
    assert_eq!(emulated.status, 0, "{emulated:?}");
}
