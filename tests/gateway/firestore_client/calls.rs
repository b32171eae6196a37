//! What each call does while all is well.

use sluicegate::inbox::firestore::client::{Client, Fault, Written};
use sluicegate::inbox::firestore::fs;

use super::super::support::firestore::Firestore;
use super::{EVENTS, by_number, client, create, delete, document, number, write};

async fn made(client: &Client, numbers: std::ops::Range<i64>) {
    let writes: Vec<fs::Write> = numbers.map(|number| create(client, &format!("{number:04}"), number)).collect();
    let results = client.write(writes).await.expect("an answer");
    assert!(results.iter().all(|one| matches!(one, Written::Ok(Some(_)))), "{results:?}");
}

#[tokio::test]
async fn each_write_of_a_call_has_a_fate_of_its_own() {
    let Some(firestore) = Firestore::start().await else { return };
    let client = client(&firestore).await;
    assert_eq!(client.write(Vec::new()).await, Ok(Vec::new()));
    made(&client, 1..2).await;
    let stale = fs::precondition::ConditionType::UpdateTime(sluicegate::inbox::firestore::Timestamp { seconds: 1, nanos: 0 });
    let exists = fs::precondition::ConditionType::Exists(true);
    let results = client
        .write(vec![
            create(&client, "0002", 2),
            create(&client, "0001", 9),
            write(fs::write::Operation::Update(document(&client, "none", 3)), Some(exists)),
        ])
        .await
        .expect("an answer");
    assert!(matches!(results[..], [Written::Ok(Some(_)), Written::AlreadyExists, Written::NotFound]), "{results:?}");
    let stale = write(fs::write::Operation::Update(document(&client, "0001", 9)), Some(stale));
    let results = client.write(vec![stale, delete(&client, "0002"), delete(&client, "never")]).await.expect("an answer");
    assert!(matches!(results[..], [Written::Precondition, Written::Ok(_), Written::Ok(_)]), "{results:?}");
    let left = firestore.documents(EVENTS).await;
    assert_eq!(left.len(), 1, "{left:?}");
    assert_eq!(left[0]["fields"]["number"]["integerValue"], "1");
}

#[tokio::test]
async fn the_time_that_a_write_was_answered_with_is_a_condition_that_holds() {
    let Some(firestore) = Firestore::start().await else { return };
    let client = client(&firestore).await;
    let results = client.write(vec![create(&client, "a", 1)]).await.expect("an answer");
    let [Written::Ok(Some(time))] = results[..] else { panic!("{results:?}") };
    let unchanged = fs::precondition::ConditionType::UpdateTime(time);
    let update = || write(fs::write::Operation::Update(document(&client, "a", 2)), Some(unchanged));
    assert!(matches!(client.write(vec![update()]).await.expect("an answer")[..], [Written::Ok(Some(_))]));
    assert_eq!(client.write(vec![update()]).await, Ok(vec![Written::Precondition]));
}

#[tokio::test]
async fn documents_come_in_the_order_asked_and_what_is_missing_is_none() {
    let Some(firestore) = Firestore::start().await else { return };
    let client = client(&firestore).await;
    made(&client, 1..4).await;
    let names = ["0003", "none", "0001", "0003"].map(|id| client.name(EVENTS, id));
    let found = client.get(names.to_vec()).await.expect("an answer");
    let numbers: Vec<Option<i64>> = found.iter().map(|document| document.as_ref().and_then(number)).collect();
    assert_eq!(numbers, [Some(3), None, Some(1), Some(3)]);
    assert_eq!(client.get(Vec::new()).await, Ok(Vec::new()));
}

#[tokio::test]
async fn a_query_keeps_its_order_and_its_limit_and_a_count_counts() {
    let Some(firestore) = Firestore::start().await else { return };
    let client = client(&firestore).await;
    assert_eq!(client.query(by_number(10)).await, Ok(Vec::new()));
    assert_eq!(client.count(by_number(10)).await, Ok(0));
    made(&client, 1..501).await;
    let found = client.query(by_number(10)).await.expect("an answer");
    assert_eq!(found.iter().filter_map(number).collect::<Vec<_>>(), (1..11).collect::<Vec<_>>());
    assert_eq!(client.count(by_number(1_000)).await, Ok(500));
}

#[tokio::test]
async fn a_query_reads_no_more_bytes_than_it_should() {
    let Some(firestore) = Firestore::start().await else { return };
    let client = client(&firestore).await;
    for number in 0..8 {
        let large = write(fs::write::Operation::Update(large(&client, number)), None);
        let results = client.write(vec![large]).await.expect("an answer");
        assert!(matches!(results[..], [Written::Ok(_)]), "{results:?}");
    }
    let found = client.query(by_number(8)).await.expect("an answer");
    assert_eq!(found.iter().filter_map(number).collect::<Vec<_>>(), [0, 1, 2, 3, 4]);
}

#[tokio::test]
async fn a_call_that_can_never_be_right_is_said_to_be_wrong() {
    let Some(firestore) = Firestore::start().await else { return };
    let client = client(&firestore).await;
    let twice = vec![create(&client, "a", 1), create(&client, "a", 1)];
    let fault = client.write(twice).await.expect_err("a name twice");
    assert!(matches!(fault, Fault::Invalid(_)) && !fault.is_unknown(), "{fault:?}");
    assert!(client.last_error().is_some());
    let message: Vec<fs::Write> = (0..5).map(|n| write(fs::write::Operation::Update(large(&client, n)), None)).collect();
    let fault = client.write(message).await.expect_err("more than a message may hold");
    assert!(matches!(fault, Fault::Exhausted(_)), "{fault:?}");
    made(&client, 1..2).await;
    assert_eq!(client.last_error(), None);
}

fn large(client: &Client, number: i64) -> fs::Document {
    let mut large = document(client, &number.to_string(), number);
    let value = fs::Value { value_type: Some(fs::value::ValueType::BytesValue(vec![7; 1_000_000].into())) };
    large.fields.insert("value".to_owned(), value);
    large
}
