//! The token that is sent is the one that was handed out, and another one comes before it is needed, or when it is not taken.
//! The emulator's rules here let in nobody but `Bearer owner`.

use std::time::Duration;

use sluicegate::drain::{Drain, Phase};
use sluicegate::inbox::firestore::Config;
use sluicegate::inbox::firestore::client::{Client, Fault, Written};
use sluicegate::units::Secret;

use super::super::support::firestore::Firestore;
use super::super::support::stopwatch::Stopwatch;
use super::super::support::{DEADLINE, eventually, free_port};
use super::make;
use super::metadata::{Handed, Metadata};

const OWNER: Handed = Some(("owner", 3_600));
/// `{"alg":"none"}` and `{"sub":"stranger"}`: what is no JWT at all the emulator calls malformed, not forbidden.
const STRANGER: Handed = Some(("eyJhbGciOiJub25lIn0.eyJzdWIiOiJzdHJhbmdlciJ9.", 3_600));

/// The service is the emulator, and who we are is asked of the metadata server.
fn settings(firestore: &Firestore, metadata: &Metadata) -> Config {
    let endpoint = format!("http://{}", firestore.address());
    Config { emulator: None, endpoint, metadata_host: metadata.host(), ..super::settings(firestore) }
}

async fn client(firestore: &Firestore, metadata: &Metadata) -> Client {
    let config = settings(firestore, metadata);
    // It may wait for the metadata server, which lives on this test's thread.
    tokio::task::spawn_blocking(move || Client::new(&config)).await.expect("no panic").expect("settings without mistakes")
}

async fn writes(client: &Client, id: &str) {
    let results = make(client, id).await.expect("it is let in");
    assert!(matches!(results[..], [Written::Ok(_) | Written::AlreadyExists]), "{results:?}");
}

#[tokio::test]
async fn the_emulator_is_told_that_its_owner_comes() {
    let Some(firestore) = Firestore::start_with_rules().await else { return };
    writes(&super::client(&firestore).await, "a").await;
}

#[tokio::test]
async fn the_metadata_servers_token_is_sent_and_fetched_once() {
    let Some(firestore) = Firestore::start_with_rules().await else { return };
    let metadata = Metadata::start(&[OWNER]).await;
    let client = client(&firestore, &metadata).await;
    assert!(!client.has_token() && metadata.asked() == 0, "nothing is asked before it is needed");
    writes(&client, "a").await;
    writes(&client, "b").await;
    assert!(client.has_token());
    assert_eq!((client.last_error(), metadata.asked()), (None, 1));
}

#[tokio::test]
async fn a_token_that_is_not_taken_is_thrown_away_and_another_one_is_fetched() {
    let Some(firestore) = Firestore::start_with_rules().await else { return };
    let metadata = Metadata::start(&[STRANGER, OWNER]).await;
    let client = client(&firestore, &metadata).await;
    let fault = make(&client, "a").await.expect_err("a stranger's token");
    assert!(matches!(fault, Fault::Denied(_)) && !fault.is_unknown(), "{fault:?}");
    assert!(!client.has_token());
    assert!(client.last_error().is_some_and(|error| error.contains("PermissionDenied") && !error.contains("eyJ")));
    writes(&client, "a").await;
    assert_eq!((client.last_error(), metadata.asked()), (None, 2));
}

#[tokio::test]
async fn who_is_never_let_in_does_not_ask_for_token_after_token() {
    let Some(firestore) = Firestore::start_with_rules().await else { return };
    let metadata = Metadata::start(&[STRANGER]).await;
    let client = client(&firestore, &metadata).await;
    let watch = Stopwatch::start();
    for _ in 0..20 {
        assert!(matches!(make(&client, "a").await, Err(Fault::Denied(_))));
    }
    // One at first, one for that thrown away, and one for each 5 s that this has taken.
    let allowed = 2 + usize::try_from(watch.read().whole.as_secs() / 5).expect("a few");
    assert!(metadata.asked() <= allowed, "{} > {allowed}", metadata.asked());
}

#[tokio::test]
async fn the_background_has_a_token_at_the_start_and_a_new_one_before_it_expires() {
    let Some(firestore) = Firestore::start_with_rules().await else { return };
    let metadata = Metadata::start(&[Some(("owner", 4)), Some(("owner", 5)), OWNER]).await;
    let client = client(&firestore, &metadata).await;
    let drain = Drain::default();
    let background = tokio::spawn({
        let (client, signal) = (client.clone(), drain.signal());
        async move { client.start(signal).await }
    });
    eventually("a token before any call of ours", DEADLINE, async || client.has_token().then_some(())).await;
    let watch = Stopwatch::start();
    eventually("the third token", DEADLINE, async || {
        // A stall of the machine may outlast a token of four seconds.
        assert!(client.has_token() || watch.read().stalled > Duration::from_secs(1), "a time without a token");
        (metadata.asked() == 3).then_some(())
    })
    .await;
    writes(&client, "a").await;
    drain.enter(Phase::Storing);
    background.await.expect("it ends");
}

#[tokio::test]
async fn a_metadata_server_that_fails_is_asked_again_and_its_fault_is_told_until_then() {
    let Some(firestore) = Firestore::start_with_rules().await else { return };
    let metadata = Metadata::start(&[None, None, OWNER]).await;
    let client = client(&firestore, &metadata).await;
    let fault = make(&client, "a").await.expect_err("no token");
    assert!(matches!(fault, Fault::Denied(_)) && !fault.is_unknown(), "{fault:?}");
    assert!(client.last_error().is_some_and(|error| error.contains("503")), "{:?}", client.last_error());
    let drain = Drain::default();
    tokio::spawn({
        let (client, signal) = (client.clone(), drain.signal());
        async move { client.start(signal).await }
    });
    eventually("a token", DEADLINE, async || client.has_token().then_some(())).await;
    writes(&client, "a").await;
    assert_eq!(client.last_error(), None);
}

#[tokio::test]
async fn without_a_project_the_metadata_server_names_it_and_without_that_nothing_starts() {
    let Some(firestore) = Firestore::start_with_rules().await else { return };
    let metadata = Metadata::start(&[OWNER]).await;
    let config = Config { project: None, ..settings(&firestore, &metadata) };
    let made = tokio::task::spawn_blocking({
        let config = config.clone();
        move || Client::new(&config)
    });
    let client = made.await.expect("no panic").expect("a project");
    assert_eq!(client.name("c", "id"), "projects/demo/databases/deml/documents/c/id");
    writes(&client, "a").await;
    drop(metadata);
    let nobody = Config { metadata_host: format!("127.0.0.1:{}", free_port()), ..config };
    let mistake = Client::new(&nobody).expect_err("nobody names a project");
    assert!(mistake.contains("inbox.firestore.project") && mistake.contains("not reached"), "{mistake}");
}

#[tokio::test]
async fn what_answers_in_the_place_of_a_metadata_server_and_does_not_say_that_it_is_one_is_not_believed() {
    let Some(firestore) = Firestore::start_with_rules().await else { return };
    let metadata = Metadata::start(&[OWNER]).await;
    metadata.disguise();
    let client = client(&firestore, &metadata).await;
    let fault = make(&client, "a").await.expect_err("no token");
    assert!(matches!(fault, Fault::Denied(_)) && !fault.is_unknown() && metadata.asked() > 0, "{fault:?}");
    assert!(client.last_error().is_some_and(|error| error.contains("Metadata-Flavor")), "{:?}", client.last_error());
    let nameless = Config { project: None, ..settings(&firestore, &metadata) };
    let made = tokio::task::spawn_blocking(move || Client::new(&nameless)).await.expect("no panic");
    assert!(made.expect_err("nobody names a project").contains("Metadata-Flavor"));
}

#[tokio::test]
async fn no_token_and_no_key_shows_itself() {
    let Some(firestore) = Firestore::start_with_rules().await else { return };
    let metadata = Metadata::start(&[Some(("canary", 3_600))]).await;
    let client = client(&firestore, &metadata).await;
    let fault = make(&client, "a").await.expect_err("a token of nobody");
    assert!(!format!("{client:?} {fault:?} {:?}", client.last_error()).contains("canary"));
    let config = Config { service_account_json: Secret::new(r#"{"type":"canary""#), ..settings(&firestore, &metadata) };
    let mistake = Client::new(&config).expect_err("no JSON");
    assert!(mistake.starts_with("inbox.firestore.service_account_json: expected") && !mistake.contains("canary"), "{mistake}");
}
