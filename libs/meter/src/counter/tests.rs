//! Counters of every width and unit against a known truth.

use proptest::prelude::*;

use super::*;

const SECOND: Duration = Duration::from_secs(1);
const MAX_WATTS: u64 = 10_000;
const REGISTER: u64 = 1 << 32;

fn microjoules(period: Period) -> Counter {
    Counter::new(Scale::MICROJOULE, period, MAX_WATTS)
}

fn powercap(max: u64) -> Counter {
    microjoules(Period::Known(powercap_period(max)))
}

/// Pseudo-random numbers below a bound.
fn random() -> impl FnMut(u64) -> u64 {
    let mut seed = 0x2545_f491_4f6c_dd1d_u64;
    move |below| {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (seed >> 33) % below
    }
}

#[test]
fn the_period_of_a_register_is_one_step_longer_than_its_largest_value() {
    // 2^32 counts of 61.035 µJ (Intel's clients), and of 15.258 µJ (AMD), as the kernel computes them.
    assert_eq!(powercap_period(262_143_328_850), 4_294_967_296 * 61_035 / 1_000);
    assert_eq!(powercap_period(65_532_610_987), 4_294_967_296 * 15_258 / 1_000);
    assert_eq!(powercap_period(999_999), 1_000_000);
    assert_eq!(powercap_period(u64::MAX), u64::MAX);
}

/// Random steps of up to 400 W over windows of up to 1 s.
#[test]
fn the_total_is_exact_across_thousands_of_wraps_at_a_known_period() {
    for max in [999_999, 1_234_567, 65_532_610_987] {
        let (period, mut random) = (powercap_period(max), random());
        let mut truth = period - 5;
        let mut counter = powercap(max);
        assert_eq!(counter.take(truth % period, SECOND), Step::Based);
        let (from, mut wraps) = (truth, 0_u64);
        for _ in 0..20_000 {
            let elapsed = Duration::from_micros(1_000 + random(999_000));
            // Less than a period: nobody can detect two wraps. 400 W for the slow counter.
            let growth = random(400 * elapsed.as_micros() as u64).min(period - 1);
            let expected = match ((truth + growth) / period > truth / period, growth) {
                (true, _) => Step::Wrapped,
                (false, 0) => Step::Still,
                (false, _) => Step::Advanced,
            };
            truth += growth;
            assert_eq!(counter.take(truth % period, elapsed), expected);
            assert_eq!(counter.microjoules(), truth - from);
            wraps += u64::from(expected == Step::Wrapped);
        }
        assert!(wraps >= 20, "{max}: {wraps}");
    }
}

#[test]
fn the_total_is_exact_across_wraps_of_32_and_64_bits_at_an_unknown_period() {
    for size in WIDTHS.map(|bits| 1_u128 << bits) {
        let (mut power, mut random) = (200_u64, random());
        let mut truth = size - 1_000_000_077;
        let from = truth;
        let mut counter = microjoules(Period::Unknown);
        assert_eq!(counter.take((truth % size) as u64, SECOND), Step::Based);
        let mut wraps = 0;
        for _ in 0..20_000 {
            power = (power + random(41)).saturating_sub(20).clamp(100, 300);
            let elapsed = Duration::from_micros(500_000 + random(500_000));
            let growth = u128::from(power) * elapsed.as_micros();
            let wrapped = (truth + growth) / size > truth / size;
            truth += growth;
            let expected = if wrapped { Step::Wrapped } else { Step::Advanced };
            assert_eq!(counter.take((truth % size) as u64, elapsed), expected, "{size}");
            assert_eq!(u128::from(counter.microjoules()), truth - from);
            wraps += u32::from(wrapped);
        }
        assert!(wraps >= 1, "{size}");
    }
}

#[test]
fn counting_continues_after_a_reset_without_the_unknown_energy() {
    let mut known = powercap(262_143_328_850);
    let mut unknown = microjoules(Period::Unknown);
    for (counter, readings) in [
        (&mut known, [5_000_000, 8_000_000, 1_000, 1_500]),
        // 2^32 is 284.97 J away: thirty times the power of the window before is not a wrap.
        (&mut unknown, [4_000_000_000, 4_003_000_000, 0, 500]),
    ] {
        let steps = readings.map(|reading| counter.take(reading, SECOND));
        assert_eq!(steps, [Step::Based, Step::Advanced, Step::Reset, Step::Advanced]);
        assert_eq!(counter.microjoules(), 3_000_500);
    }
}

#[test]
fn a_wrap_at_an_unknown_period_needs_a_similar_window_before_it() {
    let mut counter = microjoules(Period::Unknown);
    counter.take(10, SECOND);
    assert_eq!(counter.take(9, SECOND), Step::Reset);
    assert_eq!(counter.microjoules(), 0);
}

#[test]
fn a_jump_up_and_the_way_back_count_nothing() {
    let mut counter = microjoules(Period::Unknown);
    let steps = [1_000, 2_000, u64::MAX, 3_000].map(|reading| counter.take(reading, SECOND));
    assert_eq!(steps, [Step::Based, Step::Advanced, Step::Jumped, Step::Reset]);
    assert_eq!(counter.take(4_000, SECOND), Step::Advanced);
    assert_eq!(counter.microjoules(), 2_000);
}

#[test]
fn growth_is_a_jump_above_the_maximum_power_over_at_least_one_second() {
    let grow = |growth, elapsed| {
        let mut counter = microjoules(Period::Unknown);
        counter.take(0, SECOND);
        counter.take(growth, elapsed)
    };
    assert_eq!(grow(10_000_000_000, Duration::from_millis(1)), Step::Advanced);
    assert_eq!(grow(10_000_000_001, Duration::from_millis(1)), Step::Jumped);
    assert_eq!(grow(20_000_000_000, 2 * SECOND), Step::Advanced);
}

#[test]
fn a_wrap_above_the_maximum_power_is_a_reset() {
    let take = |reading| {
        let mut counter = powercap(99_999_999_999);
        counter.take(99_999_999_990, SECOND);
        counter.take(reading, SECOND)
    };
    // From the previous reading to the end it is period - last = 100_000_000_022 - 99_999_999_990 = 32 µJ.
    assert_eq!(powercap_period(99_999_999_999), 100_000_000_022);
    assert_eq!(take(10_000_000_000 - 32), Step::Wrapped);
    assert_eq!(take(10_000_000_000 - 31), Step::Reset);
}

#[test]
fn a_rebased_counter_keeps_its_total_and_starts_from_the_next_reading() {
    let mut counter = microjoules(Period::Unknown);
    assert!(!counter.rebase(), "there was no reading");
    counter.take(5, SECOND);
    counter.take(8, SECOND);
    assert!(counter.rebase());
    assert_eq!((counter.take(1_000, SECOND), counter.take(1_001, SECOND)), (Step::Based, Step::Advanced));
    assert_eq!(counter.microjoules(), 4);
}

#[test]
fn fractions_of_microjoules_do_not_drift() {
    let scale = Scale::parse("2.3283064365386962890625e-10").unwrap();
    let mut counter = Counter::new(scale, Period::Unknown, MAX_WATTS);
    counter.take(7, SECOND);
    let mut raw = 7_u64;
    for i in 0..100_000_u64 {
        raw += i % 777;
        counter.take(raw, SECOND);
        assert_eq!(u128::from(counter.microjoules()), (u128::from(raw - 7) * 1_000_000) >> 32);
    }
}

proptest! {
    /// For any unit, any start and any growth within one period and within the maximum power.
    #[test]
    fn registers_of_32_bits_lose_nothing_at_their_wraps(
        esu in 3_i32..=20,
        start in any::<u32>(),
        growths in prop::collection::vec(0_u64..REGISTER, 1..60),
    ) {
        let scale = Scale::joules_times_two_to(-esu).unwrap();
        let mut counter = Counter::new(scale, Period::Known(REGISTER), MAX_WATTS);
        let mut truth = u64::from(start);
        prop_assert_eq!(counter.take(truth % REGISTER, Duration::ZERO), Step::Based);
        for growth in growths {
            // Half of the maximum power.
            let elapsed = Duration::from_micros(scale.microjoules(growth) / (MAX_WATTS / 2) + 1);
            let wraps = (truth + growth) / REGISTER > truth / REGISTER;
            truth += growth;
            let expected = match (wraps, growth) {
                (_, 0) => Step::Still,
                (true, _) => Step::Wrapped,
                (false, _) => Step::Advanced,
            };
            prop_assert_eq!(counter.take(truth % REGISTER, elapsed), expected);
            prop_assert_eq!(counter.microjoules(), scale.microjoules(truth - u64::from(start)));
        }
    }
}
