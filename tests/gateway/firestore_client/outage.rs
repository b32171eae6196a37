//! What the client says while the service is away, and after it has come back.

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Duration;

use sluicegate::drain::{Drain, Phase};
use sluicegate::inbox::firestore::Config;
use sluicegate::inbox::firestore::client::{Client, Fault, Written};
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;

use super::super::support::firestore::Firestore;
use super::super::support::stopwatch::Stopwatch;
use super::super::support::{DEADLINE, eventually, free_port};
use super::{create, settings};

/// More than the deadline of a write, and less than two.
const LIMIT: Duration = Duration::from_millis(1_900);

/// A client with the deadline that is shipped.
fn client(firestore: &Firestore) -> Client {
    Client::new(&Config { call_timeout: Config::default().call_timeout, ..settings(firestore) }).expect("settings without mistakes")
}

async fn write(client: &Client, id: &str) -> Result<Vec<Written>, Fault> {
    client.write(vec![create(client, id, 1)]).await
}

async fn is_back(client: &Client, id: &str) {
    eventually("it writes again", DEADLINE, async || match write(client, id).await {
        Ok(results) => {
            assert!(matches!(results[..], [Written::Ok(_) | Written::AlreadyExists]), "{results:?}");
            Some(())
        }
        Err(fault) => {
            assert!(fault.is_unknown(), "{fault:?}");
            None
        }
    })
    .await;
    assert_eq!(client.last_error(), None);
}

#[tokio::test]
async fn a_service_that_does_not_listen_is_unreachable_and_said_to_be_so_at_once() {
    let config = Config { project: Some("demo".into()), emulator: Some(format!("127.0.0.1:{}", free_port())), ..Config::default() };
    let client = Client::new(&config).expect("it connects later");
    let watch = Stopwatch::start();
    let fault = write(&client, "a").await.expect_err("nobody listens");
    assert!(matches!(fault, Fault::Unreachable(_)) && fault.is_unknown(), "{fault:?}");
    assert!(watch.read().own() < LIMIT, "{}", watch.read());
    assert!(client.last_error().is_some_and(|error| error.contains("refused")), "{:?}", client.last_error());
}

#[tokio::test]
async fn a_service_that_is_frozen_is_slow_within_the_deadline_and_written_to_again_when_it_thaws() {
    let Some(firestore) = Firestore::start().await else { return };
    let client = client(&firestore);
    is_back(&client, "before").await;
    firestore.stop();
    for id in ["a", "b", "c", "d"] {
        let watch = Stopwatch::start();
        let fault = write(&client, id).await.expect_err("nobody answers");
        assert!(matches!(fault, Fault::Slow | Fault::Unreachable(_)) && fault.is_unknown(), "{fault:?}");
        assert!(watch.read().own() < LIMIT, "{}", watch.read());
    }
    firestore.cont();
    is_back(&client, "after").await;
}

#[tokio::test]
async fn a_service_that_was_killed_is_written_to_again_when_it_is_back() {
    let Some(mut firestore) = Firestore::start().await else { return };
    let client = client(&firestore);
    is_back(&client, "before").await;
    firestore.kill_9();
    for id in ["a", "b"] {
        let fault = write(&client, id).await.expect_err("nobody is there");
        assert!(fault.is_unknown(), "{fault:?}");
    }
    firestore.restart().await;
    is_back(&client, "after").await;
}

/// A way to the emulator whose connections can fall silent, as they do behind a network address that has moved.
async fn silencer(firestore: &Firestore) -> (String, Arc<Notify>) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("loopback");
    let (address, silence, server) = (listener.local_addr().expect("bound"), Arc::new(Notify::new()), firestore.address());
    let silent = Arc::clone(&silence);
    tokio::spawn(async move {
        while let Ok((mut client, _)) = listener.accept().await {
            let mut server = TcpStream::connect(&server).await.expect("the emulator runs");
            let silent = Arc::clone(&silent);
            tokio::spawn(async move {
                tokio::select! {
                    _ = copy_bidirectional(&mut client, &mut server) => {}
                    // Open, and nothing passes any more.
                    () = silent.notified() => std::future::pending().await,
                }
            });
        }
    });
    (address.to_string(), silence)
}

#[tokio::test]
async fn a_connection_that_leads_nowhere_is_left_after_three_calls() {
    let Some(firestore) = Firestore::start().await else { return };
    let (address, silence) = silencer(&firestore).await;
    let client = Client::new(&Config { emulator: Some(address), call_timeout: Config::default().call_timeout, ..settings(&firestore) })
        .expect("settings without mistakes");
    is_back(&client, "before").await;
    silence.notify_waiters();
    for id in ["a", "b", "c"] {
        assert_eq!(write(&client, id).await, Err(Fault::Slow));
    }
    assert!(matches!(write(&client, "d").await.as_deref(), Ok([Written::Ok(_)])));
}

#[tokio::test]
async fn the_background_warms_the_connection_sees_the_service_come_back_and_ends_with_the_drain() {
    let Some(mut firestore) = Firestore::start().await else { return };
    firestore.kill_9();
    let client = client(&firestore);
    let drain = Drain::default();
    let background = tokio::spawn({
        let (client, signal) = (client.clone(), drain.signal());
        async move { client.start(signal).await }
    });
    eventually("the first call has failed", DEADLINE, async || client.last_error()).await;
    assert!(client.has_token());
    firestore.restart().await;
    eventually("a call of the background has gone well", DEADLINE, async || client.last_error().is_none().then_some(())).await;
    drain.enter(Phase::Finishing);
    is_back(&client, "a").await;
    assert!(!background.is_finished());
    drain.enter(Phase::Storing);
    tokio::time::timeout(DEADLINE, background).await.expect("it ends").expect("without a panic");
    is_back(&client, "b").await;
}
