//! Thousands of simulated comparisons: how often a program compared with itself raises a false alarm, how
//! often 2 % more work are found, and after how many runs. Seeded, so that the figures never change.

#![allow(clippy::unwrap_used, reason = "helpers of tests may panic: that is how tests fail")]

use wattrace_statistics::{Answer, Pair, Plan, Question, paired_shift, quantile};

const TRIALS: usize = 1_000;

/// The most runs of a side.
const RUNS: usize = 20;

/// The logarithms of the joules of all runs of a comparison, in their order.
type Noise = fn(&mut fastrand::Rng) -> [f64; 2 * RUNS];

/// A standard normal value (Box and Muller).
fn normal(random: &mut fastrand::Rng) -> f64 {
    let radius = (-2.0 * (1.0 - random.f64()).ln()).sqrt();
    radius * (std::f64::consts::TAU * random.f64()).cos()
}

/// One percent, as of attributed joules beside a burner.
fn quiet(random: &mut fastrand::Rng) -> [f64; 2 * RUNS] {
    std::array::from_fn(|_| 0.01 * normal(random))
}

/// Now and then something else makes a run more expensive by a third.
fn with_outliers(random: &mut fastrand::Rng) -> [f64; 2 * RUNS] {
    quiet(random).map(|noise| noise + if random.f64() < 0.1 { 0.3 } else { 0.0 })
}

/// Skewed: squares of normal values.
fn skewed(random: &mut fastrand::Rng) -> [f64; 2 * RUNS] {
    std::array::from_fn(|_| 0.02 * normal(random).powi(2))
}

/// The machine warms up while the comparison runs.
fn drifting(random: &mut fastrand::Rng) -> [f64; 2 * RUNS] {
    let noise = quiet(random);
    std::array::from_fn(|run| noise[run] + 0.1 * (1.0 - (-(run as f64) / 15.0).exp()))
}

/// As measured on a virtual machine: the speed changes by 3 % within some ten runs, because of its
/// neighbours.
fn wandering(random: &mut fastrand::Rng) -> [f64; 2 * RUNS] {
    let (mut noise, mut speed) = (quiet(random), 0.03 * normal(random));
    for noise in &mut noise {
        speed = 0.9 * speed + 0.013 * normal(random);
        *noise += speed;
    }
    noise
}

/// The joules of the whole machine beside a burner that loads one of two CPUs by 0 to 50 %: 10 W idle, 20 W
/// for the command's CPU and 20 W for the burner's.
fn whole_machine(random: &mut fastrand::Rng) -> [f64; 2 * RUNS] {
    quiet(random).map(|noise| (30.0 + 20.0 * 0.5 * random.f64()).ln() + noise)
}

struct Outcome {
    answer: Option<Answer>,
    runs: usize,
}

/// Compares two programs of which the second does `work` more.
fn compare(plan: &Plan, random: &mut fastrand::Rng, noise: Noise, work: f64, question: Question) -> Outcome {
    let noise = noise(random);
    let pair = |runs: &[f64]| {
        let b_first = random.bool();
        let (a, b) = if b_first { (runs[1], runs[0]) } else { (runs[0], runs[1]) };
        Pair { a, b: b + work.ln_1p(), b_first }
    };
    let pairs: Vec<Pair> = noise.chunks(2).map(pair).collect();
    for look in plan.looks() {
        let found = paired_shift(&pairs[..look.runs], look.error).unwrap();
        let answer = question.answer(found.interval);
        if answer.is_some() || question.is_hopeless(&found, look.runs, plan) {
            return Outcome { answer, runs: look.runs };
        }
    }
    Outcome { answer: None, runs: RUNS }
}

/// Of [`TRIALS`] comparisons: how many ended with one of `answers`, and the mean number of runs of a side.
fn trials(noise: Noise, work: f64, question: Question, answers: &[Answer]) -> (usize, f64) {
    let (plan, mut random) = (Plan::new(RUNS, 0.05).unwrap(), fastrand::Rng::with_seed(20_261_127));
    let outcomes: Vec<_> = (0..TRIALS).map(|_| compare(&plan, &mut random, noise, work, question)).collect();
    let found = outcomes.iter().filter(|o| o.answer.is_some_and(|a| answers.contains(&a))).count();
    let runs = outcomes.iter().map(|o| o.runs as f64).sum::<f64>() / TRIALS as f64;
    (found, runs)
}

const DIFFERS: Question = Question::Differs { by: 0.02 };
const ALARMS: [Answer; 2] = [Answer::More, Answer::Less];

#[test]
fn a_program_compared_with_itself_raises_at_most_five_false_alarms_in_a_hundred() {
    let noises: [(&str, Noise); 6] = [
        ("quiet", quiet),
        ("outliers", with_outliers),
        ("skewed", skewed),
        ("drifting", drifting),
        ("wandering", wandering),
        ("whole machine", whole_machine),
    ];
    for (name, noise) in noises {
        let (alarms, runs) = trials(noise, 0.0, DIFFERS, &ALARMS);
        eprintln!("{name}: {alarms} false alarms in {TRIALS}, {runs:.1} runs a side");
        assert!(alarms * 100 <= 5 * TRIALS, "{name}: {alarms} false alarms in {TRIALS}");
    }
}

#[test]
fn two_percent_more_work_are_found_in_at_least_95_of_100_with_at_most_20_runs_a_side() {
    for (name, noise) in [("quiet", quiet as Noise), ("wandering", wandering)] {
        let (found, runs) = trials(noise, 0.02, DIFFERS, &[Answer::More]);
        eprintln!("attributed, {name}: found {found} of {TRIALS}, {runs:.1} runs a side");
        assert!(found * 100 >= 95 * TRIALS, "{name}: found {found} of {TRIALS}");
    }
    // A run of ten is 15 times as far off as what is to be found.
    let (found, runs) = trials(with_outliers, 0.02, DIFFERS, &[Answer::More]);
    eprintln!("attributed, outliers: found {found} of {TRIALS}, {runs:.1} runs a side");
    assert!(found * 100 >= 60 * TRIALS, "outliers: found {found} of {TRIALS}");
    let (machine, runs) = trials(whole_machine, 0.02, DIFFERS, &[Answer::More]);
    eprintln!("whole machine: found {machine} of {TRIALS}, {runs:.1} runs a side");
    assert!(machine * 100 < 20 * TRIALS, "the burner hides it: found {machine} of {TRIALS}");
}

#[test]
fn a_comparison_stops_once_it_is_answered() {
    let mean_runs = |work, question, answer| {
        let (found, runs) = trials(quiet, work, question, &[answer]);
        assert!(found * 100 >= 99 * TRIALS, "{answer:?}: {found} of {TRIALS}");
        runs
    };
    let large = mean_runs(0.10, DIFFERS, Answer::More);
    let gate = mean_runs(0.0, Question::Exceeds { limit: 0.05 }, Answer::Held);
    eprintln!("10 % found after {large:.1} runs a side; a gate of 5 % held after {gate:.1}");
    assert!(large < 8.1 && gate < 9.0, "{large} {gate}");
}

#[test]
fn the_percentile_bootstrap_of_five_runs_has_more_than_twice_the_error_that_it_states() {
    let mut random = fastrand::Rng::with_seed(20_261_127);
    let mut alarms = 0;
    for _ in 0..TRIALS {
        let [a, b]: [Vec<f64>; 2] = std::array::from_fn(|_| quiet(&mut random)[..5].to_vec());
        let mut resampled =
            |values: &[f64]| (0..values.len()).map(|_| values[random.usize(..values.len())]).sum::<f64>();
        let mut shifts: Vec<f64> = (0..1_000).map(|_| resampled(&b) - resampled(&a)).collect();
        shifts.sort_by(f64::total_cmp);
        let (low, high) = (quantile(&shifts, 0.025), quantile(&shifts, 0.975));
        alarms += usize::from(low > 0.0 || high < 0.0);
    }
    eprintln!("percentile bootstrap: {alarms} false alarms in {TRIALS}");
    assert!(alarms * 100 > 10 * TRIALS, "only {alarms} false alarms in {TRIALS}");
}
