//! Quotas, by a clock that is moved by hand.

use super::*;
use governor::clock::FakeRelativeClock;

pub(super) const SECOND: Duration = Duration::from_secs(1);

pub(super) fn quotas(tiers: &[(&str, Tier)]) -> (Quotas<FakeRelativeClock>, FakeRelativeClock) {
    let clock = FakeRelativeClock::default();
    let tiers = tiers.iter().map(|(name, tier)| ((*name).to_owned(), *tier)).collect();
    (Quotas::with_clock(&Config { tiers, ..Config::default() }, clock.clone()), clock)
}

pub(super) fn a_minute() -> Tier {
    Tier { events_per_second: 1.0, burst: 60, ..Tier::default() }
}

pub(super) fn waits(verdict: Verdict) -> Duration {
    match verdict {
        Verdict::Throttle { wait, .. } => wait,
        other => panic!("{other:?}"),
    }
}

#[test]
fn sixty_a_minute_is_sixty_at_once_and_then_one_a_second() {
    let (quotas, clock) = quotas(&[("standard", a_minute())]);
    for _ in 0..60 {
        assert_eq!(quotas.charge_named("a", "standard", 1, 100), Verdict::Admit);
    }
    let refused = quotas.charge_named("a", "standard", 1, 100);
    assert_eq!(refused, Verdict::Throttle { wait: SECOND, quota: Quota { unit: "events", per_second: 1.0, burst: 60 } });
    assert_eq!(quotas.charge_named("b", "standard", 60, 100), Verdict::Admit, "somebody else has a quota of their own");
    clock.advance(SECOND);
    assert_eq!(quotas.charge_named("a", "standard", 1, 100), Verdict::Admit);
    assert_eq!(waits(quotas.charge_named("a", "standard", 10, 100)), 10 * SECOND);
    clock.advance(10 * SECOND);
    assert_eq!(quotas.charge_named("a", "standard", 10, 100), Verdict::Admit);
}

#[test]
fn a_rate_below_one_a_second_is_kept_exactly() {
    let (quotas, clock) = quotas(&[("slow", Tier { events_per_second: 0.1, burst: 1, ..Tier::default() })]);
    for _ in 0..100 {
        assert_eq!(quotas.charge_named("a", "slow", 1, 0), Verdict::Admit);
        clock.advance(Duration::from_millis(9_999));
        assert_eq!(waits(quotas.charge_named("a", "slow", 1, 0)), Duration::from_millis(1));
        clock.advance(Duration::from_millis(1));
    }
}

#[test]
fn a_refusal_by_one_quota_takes_nothing_from_the_other() {
    let tier = Tier { events_per_second: 1.0, burst: 10, kib_per_second: 1.0, kib_burst: 10 };
    let (quotas, clock) = quotas(&[("standard", tier)]);
    assert_eq!(quotas.charge_named("a", "standard", 1, 10 * 1024), Verdict::Admit);
    for _ in 0..1_000 {
        assert_eq!(waits(quotas.charge_named("a", "standard", 9, 1024)), SECOND);
    }
    clock.advance(SECOND);
    assert_eq!(quotas.charge_named("a", "standard", 10, 1024), Verdict::Admit, "all ten events are still there");
    for _ in 0..1_000 {
        assert_eq!(waits(quotas.charge_named("a", "standard", 1, 0)), SECOND);
    }
    clock.advance(10 * SECOND);
    assert_eq!(quotas.charge_named("a", "standard", 1, 10 * 1024), Verdict::Admit, "all ten KiB are back");
}

#[test]
fn what_can_never_fit_is_not_told_to_wait() {
    let tier = Tier { burst: 10, kib_burst: 4, ..Tier::default() };
    let (quotas, _) = quotas(&[("standard", tier)]);
    assert!(matches!(quotas.charge_named("a", "standard", 11, 1), Verdict::TooLarge { limit: 10, actual: 11, .. }));
    assert!(matches!(quotas.charge_named("a", "standard", 1, 4097), Verdict::TooLarge { limit: 4096, actual: 4097, .. }));
    assert!(matches!(quotas.charge_named("a", "standard", 1, u64::MAX), Verdict::TooLarge { .. }));
    assert_eq!(quotas.charge_named("a", "standard", 10, 4096), Verdict::Admit, "and costs nothing");
}

#[test]
fn a_tier_picks_the_quota_and_an_unknown_one_is_the_default() {
    let (quotas, _) = quotas(&[("standard", a_minute()), ("pro", Tier { burst: 1_000, ..Tier::default() })]);
    assert_eq!(quotas.charge_named("p", "pro", 1_000, 0), Verdict::Admit);
    for tier in ["gold", "", "standard"] {
        assert!(matches!(quotas.charge_named("s", tier, 61, 0), Verdict::TooLarge { limit: 60, .. }), "{tier}");
    }
}

#[test]
fn what_is_drawn_is_admitted_and_owed_for_until_it_has_come_back() {
    let (quotas, clock) = quotas(&[("standard", a_minute())]);
    assert_eq!(quotas.owed_named("a", "standard"), Duration::ZERO, "nobody owes before the first batch");
    assert_eq!(quotas.draw_named("a", "standard", 60, 0), Duration::ZERO, "what fits at once is no debt");
    assert_eq!(quotas.draw_named("a", "standard", 5, 0), 5 * SECOND);
    assert_eq!(quotas.draw_named("a", "standard", 5, 0), 10 * SECOND, "and what exceeds is charged too");
    assert_eq!(quotas.owed_named("a", "standard"), 10 * SECOND);
    assert_eq!(waits(quotas.charge_named("a", "standard", 1, 0)), 11 * SECOND, "a debt counts at every door");
    assert_eq!(quotas.owed_named("b", "standard"), Duration::ZERO);
    clock.advance(10 * SECOND);
    assert_eq!(quotas.owed_named("a", "standard"), Duration::ZERO);
    assert_eq!(quotas.draw_named("a", "standard", 1, 0), SECOND, "nothing is left yet");
    clock.advance(61 * SECOND);
    assert_eq!(quotas.charge_named("a", "standard", 60, 0), Verdict::Admit);
}

#[test]
fn a_batch_that_never_fits_is_drawn_whole_and_the_longer_debt_counts() {
    let tier = Tier { events_per_second: 1.0, burst: 10, kib_per_second: 2.0, kib_burst: 4 };
    let (quotas, _) = quotas(&[("standard", tier)]);
    assert_eq!(quotas.draw_named("a", "standard", 25, 1024), 15 * SECOND);
    assert_eq!(quotas.draw_named("b", "standard", 1, 104 * 1024), 50 * SECOND, "100 KiB too many, 2 a second");
    assert_eq!(quotas.draw_named("b", "standard", 12, 0), 50 * SECOND);
}

#[test]
fn a_debt_has_a_bound_and_is_not_forgotten_before_it_is_paid() {
    let (quotas, clock) = quotas(&[("standard", a_minute())]);
    for _ in 0..3 {
        assert_eq!(quotas.draw_named("a", "standard", u32::MAX, u64::MAX), MAX_DEBT);
    }
    clock.advance(MAX_DEBT - SECOND);
    quotas.tidy();
    assert_eq!(quotas.owed_named("a", "standard"), SECOND);
    clock.advance(200 * SECOND);
    quotas.tidy();
    assert_eq!(quotas.accounts(), 0);
}

#[test]
fn a_draw_of_little_passes_through_the_same_account_as_a_charge() {
    let (quotas, clock) = quotas(&[("standard", a_minute())]);
    for _ in 0..30 {
        assert_eq!(quotas.charge_named("a", "standard", 1, 0), Verdict::Admit);
        assert_eq!(quotas.draw_named("a", "standard", 1, 0), Duration::ZERO);
    }
    assert_eq!(waits(quotas.charge_named("a", "standard", 1, 0)), SECOND);
    clock.advance(30 * SECOND);
    assert_eq!(quotas.draw_named("a", "standard", 30, 0), Duration::ZERO);
    assert_eq!(quotas.draw_named("a", "standard", 2, 0), 2 * SECOND);
}

#[test]
fn the_table_of_accounts_is_bounded_and_forgets_who_has_all_back() {
    let (quotas, clock) = quotas(&[("standard", a_minute())]);
    for n in 0..MAX_ACCOUNTS + 10_000 {
        assert_eq!(quotas.charge_named(&n.to_string(), "standard", 60, 0), Verdict::Admit);
    }
    assert!(quotas.accounts() <= MAX_ACCOUNTS);
    clock.advance(30 * SECOND);
    quotas.tidy();
    assert!(quotas.accounts() > MAX_ACCOUNTS / 2, "nobody has all back yet");
    clock.advance(40 * SECOND);
    quotas.tidy();
    assert_eq!(quotas.accounts(), 0);
}

#[test]
fn settings_out_of_bounds_do_not_break_the_arithmetic() {
    for (rate, burst) in [(0.0, 0), (f64::NAN, u32::MAX), (f64::INFINITY, u32::MAX), (-1.0, 1), (MIN_RATE, MAX_BURST), (MAX_RATE, 1)] {
        let (quotas, _) = quotas(&[("standard", Tier { events_per_second: rate, burst, kib_per_second: rate, kib_burst: burst })]);
        assert_eq!(quotas.charge_named("a", "standard", 1, 1), Verdict::Admit, "{rate} {burst}");
        assert!(quotas.draw_named("a", "standard", u32::MAX, u64::MAX) <= MAX_DEBT, "{rate} {burst}");
    }
}
