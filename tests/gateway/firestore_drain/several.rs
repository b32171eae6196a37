//! Several gates, or none, at one collection.

use super::*;

/// Scenario: three gates start at once on 1,500 rows in three lanes.
/// Guarantees: each row is in the broker once, in the order of its lane: one gate at a time replays a lane.
#[tokio::test(flavor = "multi_thread")]
async fn several_gates_do_not_send_the_same_row() {
    let Some((firestore, kafka)) = parts().await else { return };
    let mut rows = Rows::of(&firestore);
    rows.store((0..1_500).map(|n| keyed(n % 3, n / 3)).collect()).await;
    let setups: Vec<_> = (0..3).map(|_| setup(&firestore).broker(&kafka)).collect();
    let gates = futures_util::future::join_all(setups.iter().map(Setup::start)).await;
    rows.are_gone().await;
    for (partition, values) in values(&kafka).await.iter().enumerate() {
        assert_eq!(*values, (0..500).map(|turn| format!("{partition}:{turn}")).collect::<Vec<_>>());
    }
    drop(gates);
}

/// Scenario: a lane's lease is somebody else's, who has died; it has some seconds left.
/// Guarantees: its rows wait until the lease is over, and are delivered then; other lanes do not wait.
#[tokio::test(flavor = "multi_thread")]
async fn the_lease_of_a_dead_gate_runs_out() {
    let Some((firestore, kafka)) = parts().await else { return };
    let mut rows = Rows::of(&firestore);
    rows.store((0..30).map(|n| keyed(n % 3, n / 3)).collect()).await;
    let id = {
        use sha2::{Digest, Sha256};
        hex::encode(Sha256::digest("events/1"))[..40].to_owned()
    };
    let until = now() + 12;
    let lease = rows.document(LEASES, &id, vec![("lane", text("events/1")), ("holder", text("the dead")), ("until", timestamp(until))]);
    rows.put(vec![lease]).await;
    let gate = setup(&firestore).broker(&kafka).start().await;
    eventually("the other lanes are done", DEADLINE, async || (rows.left().await == 10).then_some(())).await;
    rows.are_gone().await;
    assert!(now() >= until, "the lease was broken");
    assert_eq!(values(&kafka).await.iter().map(Vec::len).collect::<Vec<_>>(), [10, 10, 10]);
    drop(gate);
}

/// Scenario: rows that were set aside, and a gate beside which the command is given.
/// Guarantees: they are brought back and delivered.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_set_aside_is_sent_again_by_the_command() {
    let Some((firestore, kafka)) = parts().await else { return };
    let mut rows = Rows::of(&firestore);
    rows.store((0..5).map(|n| Row { value: format!("{n}"), aside: true, ..Row::default() }).collect()).await;
    let setup = setup(&firestore).broker(&kafka);
    let ran = setup.run(&["inbox", "replay", "--json"]).await;
    assert_eq!((ran.status, ran.stdout.trim()), (0, "{\"delivered\":5}"), "{}", ran.stderr);
    assert_eq!(rows.left().await, 0);
    assert_eq!(values(&kafka).await[0], ["0", "1", "2", "3", "4"]);
    rows.store((0..400).map(|n| Row { value: format!("{n}"), aside: n % 2 == 0, ..Row::default() }).collect()).await;
    let purged = setup.run(&["inbox", "purge", "--poison", "--yes"]).await;
    assert_eq!((purged.status, purged.stdout.trim()), (0, "200 rows deleted"), "{}", purged.stderr);
    let purged = setup.run(&["inbox", "purge", "--topic", "events", "--yes"]).await;
    assert_eq!((purged.status, purged.stdout.trim()), (0, "200 rows deleted"), "{}", purged.stderr);
    assert_eq!(rows.left().await, 0);
}
