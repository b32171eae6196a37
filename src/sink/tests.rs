//! How an answer's time is shared between broker and inbox.

use super::*;

fn deadlines(config: Config, store_time: Option<u64>) -> [u128; 2] {
    let catalog = Catalog::open(None, Duration::from_secs(30));
    let sink = Sink::new(config, Arc::default(), catalog).expect("no broker").leaving(store_time.map(Duration::from_millis));
    [sink.send_deadline().as_millis(), sink.first_deadline().as_millis()]
}

#[test]
fn a_slow_inbox_is_left_its_time_and_a_quick_one_takes_nothing() {
    assert_eq!(deadlines(Config::default(), None), [2_000, 2_600]);
    assert_eq!(deadlines(Config::default(), Some(1_200)), [1_700, 1_700]);
    // The broker keeps what the breaker needs to see that it is away.
    assert_eq!(deadlines(Config::default(), Some(10_000)), [750, 750]);
    let patient = Config { answer_deadline: crate::units::Span::secs(10), ..Config::default() };
    assert_eq!(deadlines(patient, Some(1_200)), [2_000, 8_700]);
}
