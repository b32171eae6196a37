//! What a call carries, and how answers are put in order. What it does is tested against Google's emulator.

use super::*;

fn client() -> Client {
    let config = Config { project: Some("demo".to_owned()), emulator: Some("127.0.0.1:1".to_owned()), ..Config::default() };
    Client::new(&config).expect("settings without mistakes")
}

#[tokio::test]
async fn a_name_says_project_database_collection_and_id() {
    assert_eq!(client().name("c", "id"), "projects/demo/databases/deml/documents/c/id");
}

#[tokio::test]
async fn a_call_names_the_database_twice_and_carries_the_token_out_of_sight() {
    let Inner { credentials, headers, .. } = &*client().0;
    let token = credentials.token().await.expect("the emulator's");
    let request = headers.request((), Duration::from_secs(1), &headers.by_parent, &token);
    let said = |name: &str| request.metadata().get(name).expect("a header").clone();
    assert_eq!(said("google-cloud-resource-prefix"), "projects/demo/databases/deml");
    assert_eq!(said("x-goog-request-params"), "parent=projects%2Fdemo%2Fdatabases%2Fdeml%2Fdocuments");
    assert_eq!(said("authorization"), "Bearer owner");
    assert_eq!(said("grpc-timeout"), "1000000u");
    assert!(said("authorization").is_sensitive() && !format!("{request:?}").contains("owner"));
}

#[tokio::test]
async fn a_mistake_in_the_settings_makes_no_client() {
    let mistake = Client::new(&Config { collection: "a/b".to_owned(), ..Config::default() }).expect_err("a mistake");
    assert!(mistake.starts_with("inbox.firestore.collection: "), "{mistake}");
    let nameless = Config { emulator: Some("127.0.0.1:1".to_owned()), ..Config::default() };
    assert!(Client::new(&nameless).expect_err("no project").contains("inbox.firestore.project"));
}

#[tokio::test]
async fn a_missing_project_is_seen_without_asking_anybody_where_nobody_can_be_asked() {
    let nameless = Config { emulator: Some("127.0.0.1:1".to_owned()), ..Config::default() };
    assert!(Client::check(&nameless).expect_err("no project").starts_with("inbox.firestore.project: "));
    assert_eq!(Client::check(&Config { project: Some("demo".to_owned()), ..nameless }), Ok(()));
    // The metadata server may know it, and is not asked.
    let served = Config { metadata_host: "127.0.0.1:1".to_owned(), endpoint: "http://127.0.0.1:1".to_owned(), ..Config::default() };
    assert_eq!(Client::check(&served), Ok(()));
}

#[test]
fn a_name_that_there_is_no_word_of_is_not_a_missing_document() {
    let names = ["a", "b", "a"].map(str::to_owned);
    let document = |name: &str| Some(fs::Document { name: name.to_owned(), ..Default::default() });
    let mut found = HashMap::from([("a".to_owned(), document("a"))]);
    assert!(matches!(in_order(&names, &found), Err(Fault::Other(_))));
    found.insert("b".to_owned(), None);
    assert_eq!(in_order(&names, &found), Ok(vec![document("a"), None, document("a")]));
}
