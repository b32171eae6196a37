use super::*;

fn pacer(ramp_from: u32, per_day: u64) -> Pacer {
    Pacer::new(&Config { ramp_from, writes_per_second: ramp_from, writes_per_day: per_day, ..Config::default() })
}

#[tokio::test(start_paused = true)]
async fn quick_full_calls_grow_and_slow_or_refused_ones_halve() {
    let pacer = pacer(500, 1_000);
    pacer.answered(1, Duration::from_millis(5));
    assert_eq!((pacer.batch(), pacer.calls()), (100, 4));
    pacer.answered(100, Duration::from_millis(5));
    assert_eq!((pacer.batch(), pacer.calls()), (110, 5));
    for _ in 0..100 {
        pacer.answered(500, Duration::from_millis(5));
    }
    assert_eq!((pacer.batch(), pacer.calls()), (500, 16));
    pacer.answered(500, Duration::from_millis(700));
    assert_eq!((pacer.batch(), pacer.calls()), (250, 8));
    pacer.unanswered(Duration::from_secs(1));
    pacer.unanswered(Duration::from_millis(1));
    assert_eq!((pacer.batch(), pacer.calls()), (125, 4));
    for _ in 0..10 {
        pacer.exhausted();
        tokio::time::advance(LONGEST_PAUSE).await;
    }
    assert_eq!((pacer.batch(), pacer.calls()), (20, 1));
}

#[tokio::test(start_paused = true)]
async fn pauses_double_up_to_ten_seconds_and_a_long_one_refuses() {
    let pacer = pacer(500, 1_000);
    let mut pauses = Vec::new();
    for _ in 0..9 {
        pacer.exhausted();
        // Those of the same moment do not count.
        pacer.exhausted();
        let pause = pacer.pause().expect("a pause");
        assert_eq!(pacer.takes(), pause <= PATIENCE);
        pauses.push(pause.as_millis());
        tokio::time::advance(pause).await;
        assert!(pacer.takes());
    }
    assert_eq!(pauses, [100, 200, 400, 800, 1_600, 3_200, 6_400, 10_000, 10_000]);
    pacer.answered(10, Duration::from_millis(1));
    pacer.exhausted();
    assert_eq!(pacer.pause(), Some(FIRST_PAUSE));
}

#[tokio::test(start_paused = true)]
async fn a_refused_credential_shuts_it_until_a_call_works() {
    let pacer = pacer(500, 1_000);
    pacer.denied(&"no");
    assert_eq!((pacer.takes(), pacer.shut()), (false, Some(Shut::Denied)));
    pacer.works();
    assert!(pacer.takes());
}

#[tokio::test(start_paused = true)]
async fn urgent_writes_are_refused_where_the_rest_waits() {
    let pacer = pacer(100, 1_000);
    assert_eq!(pacer.permit(100, true).await, Ok(()));
    assert!(pacer.has_room(99).is_ok() && pacer.has_room(100) == Err(Spent::Second));
    let began = Instant::now();
    assert_eq!(pacer.permit(101, true).await, Err(Spent::Second));
    assert_eq!(began.elapsed(), Duration::ZERO);
    // It leaves half of a second's writes: then it takes more than there are.
    assert_eq!(pacer.permit(100, false).await, Ok(()));
    assert_eq!(began.elapsed().as_millis() / 10, 100);
}

#[tokio::test(start_paused = true)]
async fn the_rest_leaves_half_to_the_urgent_but_not_for_ever() {
    let pacer = std::sync::Arc::new(pacer(100, 100_000));
    pacer.permit(100, true).await.expect("a full second's");
    let began = Instant::now();
    let rest = tokio::spawn({
        let pacer = std::sync::Arc::clone(&pacer);
        async move { pacer.permit(10, false).await.map(|()| began.elapsed()) }
    });
    // Urgent writes use all that there is.
    while !rest.is_finished() {
        pacer.permit(1, true).await.expect("in time");
    }
    let took = rest.await.expect("no panic").expect("a permit");
    assert!(took >= LONGEST_WAIT && took < LONGEST_WAIT * 2, "{took:?}");
}

#[tokio::test(start_paused = true)]
async fn however_many_of_the_rest_come_at_once_the_urgent_are_let_through() {
    let pacer = std::sync::Arc::new(pacer(500, 100_000));
    let rest: Vec<_> = (0..16)
        .map(|_| {
            let pacer = std::sync::Arc::clone(&pacer);
            tokio::spawn(async move { pacer.permit(300, false).await })
        })
        .collect();
    let began = Instant::now();
    // 4,800 writes of the rest, 500 a second.
    while began.elapsed() < Duration::from_secs(9) {
        sleep(Duration::from_millis(50)).await;
        assert!(pacer.takes(), "after {:?}", began.elapsed());
        pacer.permit(1, true).await.expect("room for one that is urgent");
    }
    for one in rest {
        assert_eq!(one.await.expect("no panic"), Ok(()));
    }
    assert!(began.elapsed() < Duration::from_secs(12), "{:?}", began.elapsed());
}

#[tokio::test(start_paused = true)]
async fn the_days_end_refuses_everything() {
    let pacer = pacer(500, 100);
    pacer.permit(100, true).await.expect("the day's");
    assert_eq!(pacer.permit(1, false).await, Err(Spent::Day));
    assert!(!pacer.takes());
    assert_eq!(pacer.snapshot().writes_today, 100);
}

#[tokio::test(start_paused = true)]
async fn a_firestore_that_does_not_answer_is_not_offered_more_until_it_does_or_was_long_not_asked() {
    let pacer = pacer(500, 1_000);
    pacer.unanswered(Duration::from_secs(1));
    assert!(pacer.takes());
    tokio::time::advance(AWAY_AFTER).await;
    pacer.unanswered(Duration::from_secs(1));
    assert!(!pacer.takes() && pacer.shut().is_none() && pacer.is_away());
    pacer.answered(1, Duration::from_millis(1));
    assert!(pacer.takes());
    pacer.unanswered(Duration::from_secs(1));
    tokio::time::advance(AWAY_AFTER).await;
    pacer.unanswered(Duration::from_secs(1));
    tokio::time::advance(AWAY_FOR).await;
    assert!(pacer.takes());
    // The next outage is another one.
    pacer.unanswered(Duration::from_secs(1));
    assert!(pacer.takes());
}
