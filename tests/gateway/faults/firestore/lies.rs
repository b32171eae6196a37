//! Firestore says yes and has nothing; and what somebody takes out of it by hand.

use http::Method;
use serde_json::{Value, json};

use crate::support::client::Client;
use crate::support::faulty_firestore::Lie;
use crate::support::{DEADLINE, eventually};

use super::super::load::{Load, seed};
use super::super::{REPLAYED, seen, token};
use super::{Clouded, for_now, missing};

/// Scenario: the broker is away; every write is read back, and of Firestore's OKs to calls one in four is a lie, to which it sticks.
/// Guarantees: no event is accepted that is not there; the gate says what it has found.
#[tokio::test(flavor = "multi_thread")]
async fn a_firestore_that_lies_is_found_out_before_the_answer_where_everything_is_read_back() {
    let Some(mut clouded) = Clouded::new().await else { return };
    clouded.set("AUDIT_ONE_IN", "1");
    let gate = clouded.stage.setup.start().await;
    let token = token(&gate).await;
    clouded.stage.kill_broker();
    clouded.until(&gate, &token, 202).await;
    assert_eq!(missing(&gate).await, None);
    clouded.stage.ledger.broken("Firestore lies");
    clouded.faulty.lie(Lie::Stubborn(4));
    let mut load = Load::new(&clouded.stage.ledger, &token, 8, 10, seed("Firestore lies")).rate(200);
    let mut running = load.start(&gate, Some(600));
    let tally = load.join(&mut running).await;
    assert_eq!(tally.errors, Vec::<String>::new());
    let said = eventually("the gate says what it has found", DEADLINE, async || missing(&gate).await).await;
    let lies = clouded.faulty.lied().len();
    assert!(lies > 0, "it has lied");
    clouded.faulty.heal();
    clouded.stage.ledger.healed("Firestore lies");
    clouded.until(&gate, &token, 202).await;
    clouded.stage.restart_broker().await;
    clouded.replayed(&gate).await;
    let verdict = clouded.stage.verdict().await;
    seen("F14", &format!("everything read back: {lies} lies, {said} found missing; {} requests refused; {verdict}", tally.refused.len()));
    verdict.assert_clean();
}

/// Scenario: the broker is away; one write in a thousand is read back, and from some moment on every OK of Firestore's is a lie.
/// Guarantees: it is found within a thousand writes, more or less; from then on nothing is accepted that is not there. (What
/// was accepted before is lost, which nothing can help: the checker counts exactly that.)
#[tokio::test(flavor = "multi_thread")]
async fn a_firestore_that_lies_is_found_out_within_a_thousand_writes_where_one_in_a_thousand_is_read_back() {
    let Some(mut clouded) = Clouded::new().await else { return };
    clouded.set("AUDIT_ONE_IN", "1000");
    clouded.set("RAMP_FROM", "5000");
    let gate = clouded.stage.setup.start().await;
    let token = token(&gate).await;
    clouded.stage.kill_broker();
    clouded.until(&gate, &token, 202).await;
    clouded.stage.ledger.broken("Firestore lies");
    clouded.faulty.lie(Lie::Every(1));
    let mut load = Load::new(&clouded.stage.ledger, &token, 16, 50, seed("Firestore lies, 1000"));
    let running = load.start(&gate, None);
    let said = eventually("the gate says what it has found", REPLAYED, async || missing(&gate).await).await;
    load.end(running).await;
    let (acked, lies) = (clouded.stage.ledger.acked(), clouded.faulty.lied().len());
    for _ in 0..5 {
        clouded.is_refused(&gate, &token).await;
    }
    let mut running = load.start(&gate, Some(200));
    let tally = load.join(&mut running).await;
    assert_eq!((clouded.stage.ledger.acked(), &tally.errors), (acked, &Vec::new()), "nothing more is accepted on its word");
    clouded.faulty.heal();
    clouded.until(&gate, &token, 202).await;
    clouded.stage.ledger.healed("Firestore lies");
    clouded.stage.restart_broker().await;
    clouded.replayed(&gate).await;
    let verdict = clouded.stage.verdict().await;
    seen(
        "F14",
        &format!(
            "one in 1,000 read back: found after {lies} lies, {said} found missing, {} were accepted before; {verdict}",
            verdict.lost.len()
        ),
    );
    // One in a thousand by chance is found after a thousand on average: seven times as many happen once in a thousand runs.
    assert!(!verdict.lost.is_empty() && verdict.lost.len() <= 7_000, "{verdict}");
    assert!(verdict.lost.len() <= lies, "{verdict}");
    let others: usize = verdict.rules().iter().map(|(_, offenders)| offenders.len()).sum::<usize>() - verdict.lost.len();
    assert_eq!(others, 0, "{}", verdict.table());
}

/// Scenario: without a broker Firestore takes events, and the gate dies, so that they stay there. Then, by hand, one document
/// is set aside, one taken out, one put under another topic, and one has a byte more.
/// Guarantees: what Firestore holds is not lost, nor is what was set aside; each of the others is found, and nothing else.
#[tokio::test(flavor = "multi_thread")]
async fn what_firestore_holds_is_not_lost_and_what_is_taken_out_of_it_is() {
    let Some(mut clouded) = Clouded::new().await else { return };
    let mut gate = clouded.stage.setup.start().await;
    let token = token(&gate).await;
    clouded.stage.kill_broker();
    clouded.until(&gate, &token, 202).await;
    let singles = [
        clouded.stored(&gate, &token).await,
        clouded.stored(&gate, &token).await,
        clouded.stored(&gate, &token).await,
        clouded.stored(&gate, &token).await,
    ];
    let mut load = Load::new(&clouded.stage.ledger, &token, 8, 10, seed("Firestore, by hand")).rate(150);
    let mut running = load.start(&gate, Some(200));
    let tally = load.join(&mut running).await;
    assert_eq!(tally.errors, Vec::<String>::new());
    for_now(&tally.refused);
    gate.kill_9();
    clouded.stage.restart_broker().await;
    let verdict = clouded.stage.verdict().await;
    verdict.assert_clean();
    // What was refused for now may be there all the same.
    assert!(verdict.acked > 20 && verdict.by_inbox == verdict.acked, "{verdict}");
    assert!(verdict.rows >= verdict.acked && verdict.records == 0, "{verdict}");

    let documents = clouded.firestore.documents("sluicegate_inbox").await;
    let find =
        |name: &String| documents.iter().find(|document| document["name"].as_str().is_some_and(|path| path.ends_with(name.as_str())));
    let documents = singles.each_ref().map(|name| find(name).expect("it was accepted").clone());
    let client = Client::trusting(None);
    let by_hand = async |document: &Value, field: Option<(&str, Value)>| {
        let url = format!("http://{}/v1/{}", clouded.firestore.address(), document["name"].as_str().expect("a name"));
        let answer = match field {
            None => client.send(Method::DELETE, &url, &[], "").await,
            Some((name, value)) => {
                let url = format!("{url}?updateMask.fieldPaths={name}");
                client
                    .send(Method::PATCH, &url, &[("content-type", "application/json")], json!({"fields": {name: value}}).to_string())
                    .await
            }
        };
        assert_eq!(answer.expect("Firestore answers").status, 200);
    };
    let aside = format!("!/{}", documents[0]["fields"]["order"]["stringValue"].as_str().expect("an order"));
    by_hand(&documents[0], Some(("order", json!({"stringValue": aside})))).await;
    let verdict = clouded.stage.verdict().await;
    verdict.assert_clean();
    let other = if documents[2]["fields"]["topic"]["stringValue"] == "alpha" { "beta" } else { "alpha" };
    let planted = [
        (None, (1, 0)),
        (Some(("topic", json!({"stringValue": other}))), (1, 1)),
        (Some(("value", json!({"bytesValue": "eA=="}))), (2, 2)),
    ];
    for (n, (field, (lost, mismatched))) in (1..).zip(planted) {
        by_hand(&documents[n], field.clone()).await;
        let verdict = clouded.stage.verdict().await;
        assert_eq!((verdict.lost.len(), verdict.mismatched.len()), (lost, mismatched), "{field:?}: {}", verdict.table());
    }
}
