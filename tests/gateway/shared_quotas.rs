//! Quotas that two gates share through a real Redis: one principal, one quota, wherever it sends.

use std::time::{Duration, Instant};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;
use sluicegate::limits::quota::reports::Used;
use sluicegate::limits::shared::Config;
use sluicegate::limits::shared::store::{Store, Told};
use sluicegate::units::{Secret, Span};

use super::support::client::Answer;
use super::support::gate::{Gate, Setup};
use super::support::redis::Redis;
use super::support::{DEADLINE, eventually};

const PASSWORD: &str = "canary-password of ada";

/// Sixty a minute, as the platform's accounts have them, and ten times as much.
const TIERS: &str = "
[limits.tiers.standard]
events_per_second = 1.0
burst = 60
[limits.tiers.pro]
events_per_second = 10.0
burst = 600
";

async fn setup(redis_url: &str) -> Setup {
    alone().await.env("REDIS_URL", redis_url)
}

/// A gate of users in a folder of its own. Its turns are quick, so that a test need not be slow, and patient, as a machine may be busy.
async fn alone() -> Setup {
    let setup = Setup::new().config(TIERS);
    let file = setup.path("users.toml").display().to_string();
    let setup = setup.env("SLUICEGATE__AUTH__USERS_FILE", &file);
    let setup = setup.env("SLUICEGATE__LIMITS__SHARED__INTERVAL", "20ms").env("SLUICEGATE__LIMITS__SHARED__TIMEOUT", "1s");
    let secret = setup.path("secret.txt");
    std::fs::write(&secret, PASSWORD).expect("a file in a folder of ours");
    for (name, tier) in [("ada", "standard"), ("paul", "pro")] {
        let secret = secret.display().to_string();
        let ran = setup.run(&["user", "add", name, "--topics", "events", "--tier", tier, "--password-file", &secret]).await;
        assert_eq!(ran.status, 0, "{}", ran.stderr);
    }
    setup
}

async fn post(gate: &Gate, name: &str) -> Answer {
    let basic = format!("Basic {}", STANDARD.encode(format!("{name}:{PASSWORD}")));
    let headers = [("authorization", basic.as_str()), ("content-type", "application/json")];
    gate.post_with("/v1/events/events", &headers, "{\"data\":1}").await
}

/// Whether it was admitted; if not, because of the quota.
async fn is_admitted(gate: &Gate, name: &str) -> bool {
    let answer = post(gate, name).await;
    assert!(matches!(answer.status, 202 | 429), "{} {}", answer.status, answer.text());
    answer.status == 202
}

async fn shared(gate: &Gate) -> Value {
    gate.admin_get("/status").await.json()["limits"]["shared"].clone()
}

/// Waits until the gate says so.
async fn is(gate: &Gate, state: &str) {
    eventually(&format!("quotas are {state}"), DEADLINE, async || (shared(gate).await["state"] == state).then_some(())).await;
}

/// Accounts that it has told of, and of which it has heard what the others used.
async fn told(gate: &Gate) -> f64 {
    let metrics = gate.admin_get("/metrics").await.text();
    let counted = metrics.lines().find_map(|line| line.strip_prefix("sluicegate_quota_share_accounts_total "));
    counted.and_then(|counted| counted.parse().ok()).unwrap_or_else(|| panic!("no such counter: {metrics}"))
}

/// Whether it was admitted; if so, the gate has told of it, however long that takes on a busy machine.
async fn is_admitted_and_told(gate: &Gate, name: &str) -> bool {
    let before = told(gate).await;
    let admitted = is_admitted(gate, name).await;
    if admitted {
        eventually("the gate tells of it", DEADLINE, async || (told(gate).await > before).then_some(())).await;
    }
    admitted
}

fn wait(answer: &Answer) -> u64 {
    answer.header("retry-after").and_then(|wait| wait.parse().ok()).unwrap_or_else(|| panic!("no Retry-After: {}", answer.text()))
}

/// Scenario: one sender of 60 a minute sends in turn to two gates, and another of 600 a minute too.
/// Guarantees: both gates together admit one quota, each sender its own; both say the same wait; Redis holds no name.
#[tokio::test(flavor = "multi_thread")]
async fn two_gates_admit_one_quota_together() {
    let Some(redis) = Redis::start().await else { return };
    let (first, second) = (setup(&redis.url()).await, setup(&redis.url()).await);
    let (first, second) = tokio::join!(first.start(), second.start());
    for gate in [&first, &second] {
        is(gate, "shared").await;
    }
    let (began, mut admitted) = (Instant::now(), 0);
    for n in 0..100 {
        let gate = if n % 2 == 0 { &first } else { &second };
        admitted += u64::from(is_admitted_and_told(gate, "ada").await);
    }
    // What comes back meanwhile, and what each admits before it hears of the other's last.
    let most = 60 + began.elapsed().as_secs() + 1 + 2;
    assert!((60..=most).contains(&admitted), "{admitted} admitted, at most {most} expected");
    // A gate that only refuses asks each second.
    eventually("both say the same wait", DEADLINE, async || {
        let (one, other) = (post(&first, "ada").await, post(&second, "ada").await);
        (one.status == 429 && other.status == 429 && wait(&one).abs_diff(wait(&other)) <= 1).then_some(())
    })
    .await;
    for n in 0..80 {
        assert!(is_admitted(if n % 2 == 0 { &first } else { &second }, "paul").await, "another one's quota is another one");
    }

    let mut connection = redis.connection().await;
    let keys = eventually("Redis has both accounts", DEADLINE, async || {
        let keys = redis::cmd("KEYS").arg("sluicegate:quota:*:*").query_async::<Vec<String>>(&mut connection.clone()).await;
        keys.ok().filter(|keys| keys.len() == 2)
    })
    .await;
    for key in keys {
        let known = key.strip_prefix("sluicegate:quota:").and_then(|rest| rest.split_once(':'));
        let (tier, hash) = known.unwrap_or_else(|| panic!("{key}"));
        assert!(matches!(tier, "standard" | "pro") && hash.len() == 32 && hash.bytes().all(|b| b.is_ascii_hexdigit()), "{key}");
        let ttl: i64 = redis::cmd("PTTL").arg(&key).query_async(&mut connection).await.expect("Redis answers");
        assert!((1..=80_000).contains(&ttl), "it forgets who has all back: {ttl} ms");
    }
    // A busy machine may have let one answer of Redis come late: then it is so again.
    eventually("the metrics say that it shares", DEADLINE, async || {
        first.admin_get("/metrics").await.text().contains("sluicegate_quota_share_state 1.0\n").then_some(())
    })
    .await;
    assert!(shared(&first).await["accounts"].as_u64() >= Some(1));
}

/// Scenario: a sender has used its burst; the gate is stopped and started again, as an instance of a service is.
/// Guarantees: the burst does not come back by that, neither after a stop in order nor after a kill.
#[tokio::test(flavor = "multi_thread")]
async fn a_restart_gives_no_burst_back() {
    let Some(redis) = Redis::start().await else { return };
    let mut gate = setup(&redis.url()).await.start().await;
    is(&gate, "shared").await;
    while is_admitted(&gate, "ada").await {}
    for killed in [false, true] {
        if killed {
            // What was admitted since the last turn dies with it: here a turn has passed.
            eventually("a turn has passed", DEADLINE, async || (!is_admitted(&gate, "ada").await).then_some(())).await;
            gate.kill_9();
        } else {
            gate.sigterm();
            assert_eq!(gate.wait(DEADLINE).await.code(), Some(0));
        }
        let down = Instant::now();
        gate = gate.setup.clone().start().await;
        is(&gate, "shared").await;
        let mut admitted = 0;
        while is_admitted(&gate, "ada").await {
            admitted += 1;
        }
        let most = down.elapsed().as_secs() + 1 + 30;
        assert!(admitted <= most, "{admitted} admitted after a restart, at most {most} expected (killed: {killed})");
    }
}

/// Scenario: Redis wants a password; one gate has it, another has a wrong one.
/// Guarantees: the first shares; the other serves, counts by itself, and says why; no password is in a log, in `/status`,
/// or in what `check` prints.
#[tokio::test(flavor = "multi_thread")]
async fn a_password_lets_a_gate_in_and_is_shown_nowhere() {
    let Some(redis) = Redis::start_with_password("canary-right").await else { return };
    let right = setup(&redis.url()).await;
    let checked = right.run(&["check"]).await;
    assert_eq!(checked.status, 0, "{}", checked.stderr);
    assert!(checked.stdout.contains("url = \"***\"  # from REDIS_URL"), "{}", checked.stdout);
    let gate = right.start().await;
    is(&gate, "shared").await;
    let wrong = setup(&redis.url().replace("canary-right", "canary-wrong")).await.start().await;
    let standing =
        eventually("it says why", DEADLINE, async || Some(shared(&wrong).await).filter(|standing| standing["last_error"].is_string()));
    let standing = standing.await;
    assert_eq!((&standing["state"], standing["last_error"].as_str().map(|said| said.contains("refuses"))), (&"alone".into(), Some(true)));
    assert!(is_admitted(&wrong, "ada").await, "it serves");
    assert_eq!(wrong.admin_get("/readyz").await.status, 200);
    let said = [gate.lines(), wrong.lines()].concat().join("\n") + &standing.to_string() + &checked.stdout + &checked.stderr;
    assert!(!said.contains("canary-right") && !said.contains("canary-wrong"));
    assert_eq!(wrong.lines().iter().filter(|line| line.contains("quotas are not shared")).count(), 1, "one line for a change of state");
}

/// Scenario: Redis speaks TLS with a certificate of a private authority.
/// Guarantees: a gate that is told of the authority shares; one that is not counts by itself, and says why.
#[tokio::test(flavor = "multi_thread")]
async fn tls_is_spoken_with_a_private_authority_and_not_without() {
    let Some(redis) = Redis::start_with_tls().await else { return };
    let ca = redis.ca().display().to_string();
    let gate = setup(&redis.url()).await.env("SLUICEGATE__LIMITS__SHARED__CA_FILE", &ca).start().await;
    is(&gate, "shared").await;
    let stranger = setup(&redis.url()).await.start().await;
    let said = eventually("it says why", DEADLINE, async || shared(&stranger).await["last_error"].as_str().map(str::to_owned)).await;
    assert!(said.contains("no TLS"), "{said}");
    assert!(is_admitted(&stranger, "ada").await, "it serves");
}

/// Scenario: the platform names a host alone; another gate has no address.
/// Guarantees: the first shares by it; the second has no task and says `off`; a wrong address is a mistake without its text.
#[tokio::test(flavor = "multi_thread")]
async fn a_host_is_enough_and_none_is_off() {
    let Some(redis) = Redis::start().await else { return };
    let named = alone().await.env("DRAGONFLY_HOST", &redis.address());
    let gate = named.start().await;
    is(&gate, "shared").await;
    let off = alone().await.start().await;
    assert_eq!(shared(&off).await["state"], "off");
    let wrong = alone().await.env("REDIS_URL", "redis://:canary@host/x").run(&["check"]).await;
    assert!(wrong.status == 2 && wrong.stderr.contains("limits.shared.url: expected `redis://"), "{}", wrong.stderr);
    assert!(!wrong.stderr.contains("canary"), "{}", wrong.stderr);
}

/// Scenario: accounts with every kind of bound, in one call and in many, with what somebody else has left under a key.
/// Guarantees: the script does what the arithmetic of the gate says.
#[tokio::test(flavor = "multi_thread")]
async fn the_script_counts_as_the_gate_does() {
    let Some(redis) = Redis::start().await else { return };
    let config = Config { url: Secret::new(redis.url()), timeout: Span::secs(1), ..Config::default() };
    let mut store = Store::configured(&config).expect("no mistake").expect("an address");
    store.connect().await.expect("Redis takes connections");
    let second = 1_000_000;
    let used = |own: u64, cost: u64, cap: u64| Used { own: own * second, cost: cost * second, cap: cap * second, most: 7_200 * second };
    let steps = [
        used(0, 0, 60),
        used(10, 10, 60),
        used(0, 20, 60),
        used(100, 5, 3_660),
        used(0, 50, 60),
        used(0, 7_000, 7_200),
        used(0, 900, 7_200),
    ];
    let (started, mut expected) = (Instant::now(), [0; 2]);
    for (events, kib) in steps.into_iter().zip(steps.into_iter().rev()) {
        let told = Told { key: "test:a".to_owned(), used: [events, kib] };
        let heard = store.exchange(&[told]).await.expect("Redis answers")[0];
        expected = [events.added_to(expected[0]), kib.added_to(expected[1])];
        let passed = u64::try_from(started.elapsed().as_micros()).expect("short");
        for (heard, expected) in heard.into_iter().zip(expected) {
            assert!(heard <= expected && heard + passed >= expected, "{heard} for {expected} after {passed} µs");
        }
    }

    let mut connection = redis.connection().await;
    for foreign in ["", "canary", "-5 1e99", "99999999999999999999 7", "1 1"] {
        let () = redis::cmd("SET").arg("test:b").arg(foreign).query_async(&mut connection).await.expect("Redis answers");
        let told = Told { key: "test:b".to_owned(), used: [used(1, 1, 60), used(0, 0, 60)] };
        let heard = store.exchange(&[told]).await.expect("what is no account is none")[0];
        assert!(heard.iter().all(|ahead| *ahead <= 7_201 * second), "{foreign:?}: {heard:?}");
    }
    let many: Vec<_> = (0..256).map(|n| Told { key: format!("test:{n}"), used: [used(n, 0, 60), used(0, 0, 60)] }).collect();
    let heard = store.exchange(&many).await.expect("Redis answers");
    assert!(heard.iter().zip(0..).all(|(heard, n)| heard[0] == n * second), "each answer is its account's: {heard:?}");

    redis.stop();
    let asked = Instant::now();
    store.exchange(&many).await.expect_err("it is frozen");
    assert!(asked.elapsed() < DEADLINE && !store.is_connected(), "after a silence nobody trusts the connection");
    let connecting = Instant::now();
    store.connect().await.expect_err("it is frozen");
    assert!(connecting.elapsed() < Duration::from_secs(5));
    redis.cont();
    store.connect().await.expect("it is back");
}
