//! When tokens are fetched, on a clock that is moved by hand.

use super::*;

const MINUTE: Duration = Duration::from_secs(60);

fn fetched(life: Duration) -> Fetched {
    Fetched { token: Secret::new("canary"), life }
}

fn token(life: Duration) -> Token {
    Token::new(&fetched(life), 1).expect("a token")
}

/// Credentials that need nobody: the emulator's.
fn emulator() -> Credentials {
    let config = Config { emulator: Some("127.0.0.1:1".to_owned()), ..Config::default() };
    Credentials::new(&config).expect("no mistake")
}

fn number(credentials: &Credentials) -> Option<u64> {
    credentials.state().token.as_ref().map(|token| token.number)
}

#[tokio::test(start_paused = true)]
async fn a_token_is_renewed_minutes_before_it_expires_and_not_sent_in_its_last_moments() {
    let now = Instant::now();
    let hour = token(60 * MINUTE);
    assert_eq!((hour.renew_at - now, hour.usable_until - now), (54 * MINUTE, 60 * MINUTE - MARGIN));
    // What the metadata server has kept until now: a new one cannot be had for some moments yet.
    let old = token(5 * MINUTE);
    assert_eq!(old.renew_at - now, 75 * Duration::from_secs(1));
    let none = token(Duration::ZERO);
    assert!(!none.is_usable() && none.renew_at - now == BACKOFF.0);
    assert_eq!(token(Duration::MAX).usable_until - now, 24 * 60 * MINUTE - MARGIN);
    tokio::time::advance(60 * MINUTE - MARGIN).await;
    assert!(!hour.is_usable());
}

#[test]
fn a_token_does_not_show_itself_and_is_what_a_header_can_carry() {
    let token = token(MINUTE);
    assert_eq!(token.header().to_str().expect("text"), "Bearer canary");
    assert!(!format!("{token:?} {:?} {:?}", token.header(), fetched(MINUTE)).contains("canary"));
    let broken = Fetched { token: Secret::new("a\nb"), life: MINUTE };
    assert!(Token::new(&broken, 1).is_err());
}

#[tokio::test(start_paused = true)]
async fn a_token_is_fetched_when_it_is_needed_and_then_kept() {
    let credentials = emulator();
    assert!(!credentials.has_token());
    let token = credentials.token().await.expect("a token");
    assert_eq!(token.header().to_str().expect("text"), "Bearer owner");
    credentials.token().await.expect("a token");
    assert_eq!(number(&credentials), Some(1));
}

#[tokio::test(start_paused = true)]
async fn a_token_is_thrown_away_once_in_a_while_and_only_by_who_was_refused_with_it() {
    let credentials = emulator();
    let first = credentials.token().await.expect("a token");
    credentials.discard(&first);
    assert!(!credentials.has_token());
    let second = credentials.token().await.expect("a token");
    credentials.discard(&first);
    assert_eq!(number(&credentials), Some(2), "a late word about the first one");
    credentials.discard(&second);
    assert_eq!(number(&credentials), Some(2), "too soon");
    tokio::time::advance(DISCARD_EVERY).await;
    credentials.discard(&second);
    assert_eq!(number(&credentials), None);
}

#[tokio::test(start_paused = true)]
async fn the_background_fetches_at_the_start_ahead_of_time_and_when_one_was_thrown_away() {
    let credentials = std::sync::Arc::new(emulator());
    let keeping = tokio::spawn({
        let credentials = std::sync::Arc::clone(&credentials);
        async move { credentials.keep().await }
    });
    let moment = Duration::from_millis(1);
    tokio::time::sleep(moment).await;
    assert_eq!(number(&credentials), Some(1));
    tokio::time::sleep(24 * 60 * MINUTE - AHEAD).await;
    assert_eq!(number(&credentials), Some(2));
    let token = credentials.token().await.expect("a token");
    credentials.discard(&token);
    tokio::time::sleep(moment).await;
    assert_eq!(number(&credentials), Some(3));
    keeping.abort();
}

#[test]
fn the_json_wins_over_the_file_and_the_emulator_over_both() {
    let mut config = Config { service_account: Some("/nowhere/at/all.json".into()), ..Config::default() };
    let mistake = |config: &Config| Credentials::new(config).expect_err("no account");
    assert!(mistake(&config).starts_with("inbox.firestore.service_account: `/nowhere/at/all.json`: "), "{}", mistake(&config));
    config.service_account_json = Secret::new("{}");
    assert!(mistake(&config).starts_with("inbox.firestore.service_account_json: expected "), "{}", mistake(&config));
    config.emulator = Some("127.0.0.1:1".to_owned());
    assert!(matches!(Credentials::new(&config).expect("no mistake").source, Source::Emulator));
    assert!(matches!(Credentials::new(&Config::default()).expect("no mistake").source, Source::Metadata(_)));
}
