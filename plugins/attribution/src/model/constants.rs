//! The tuned constants of the power model, all of them. `docs/decisions/0006-power-model.md` gives the
//! evaluation's figures behind them and how sensitive it is to each.

use std::ops::RangeInclusive;
use std::time::Duration;

// ---- Observations: what the model learns from
// -------------------------------------------------------------------

/// Windows are added up until they span this long. A meter that updates every millisecond says little about a
/// single update.
pub(super) const OBSERVATION: Duration = Duration::from_millis(100);
/// Windows up to this length show how early or late the meter is. In longer ones that averages out.
pub(super) const SHORT_WINDOW: Duration = Duration::from_millis(50);

// ---- Working points: the long memory of power levels
// ------------------------------------------------------------

/// Working points that are kept. Beyond that, the one with the smallest weight is dropped.
pub(super) const MAX_POINTS: usize = 128;
/// The largest weight of a point, in observations. A point at the limit follows new observations.
pub(super) const MAX_POINT_WEIGHT: f64 = 50.0;
/// What each observation leaves of every point's weight: after some ten thousand of them, a machine that has
/// changed (its firmware, its temperature) is learnt again.
pub(super) const POINT_DECAY: f64 = 1.0 - 1e-4;
/// Steps of utilisation, from 0 to 1, that are points of their own.
pub(super) const UTILISATION_STEPS: f64 = 16.0;
/// Steps of it per busy CPU, where that is more: one thread that comes and goes on a large machine is seen.
pub(super) const BUSY_CPU_STEPS: f64 = 2.0;
/// Steps of the other coordinates per unit: of the shared part of CPU time, of gigahertz, of instructions per
/// cycle.
pub(super) const POINT_STEPS: f64 = 4.0;

// ---- The fit
// ----------------------------------------------------------------------------------------------------

/// Observations before static power is fitted, if it is not given.
pub(super) const MIN_OBSERVATIONS: f64 = 5.0;
/// Standard error of static power, as a part of all power, up to which it is believed when it is learnt.
pub(super) const MAX_STATIC_ERROR: f64 = 0.2;
/// How many times that may become before it is no longer believed: a load that never varies makes the points
/// of others fade.
pub(super) const FADED_ERROR: f64 = 2.0;
/// Observations over which the noise of power within a point is averaged.
pub(super) const NOISE_MEMORY: f64 = 100.0;
/// Observations before a utilisation's mean power limits static power: a meter that stood still for one
/// observation must not.
pub(super) const MIN_PLAUSIBLE: f64 = 3.0;
/// The fit makes relative errors small, down to this part of mean power: a core that is switched off draws
/// nothing, and its meter's steps are not a small error of nothing.
pub(super) const LEAST_POWER: f64 = 0.1;
/// Power that counts as none, W.
pub(super) const MIN_WATTS: f64 = 1e-3;
/// Ridge of the fit: the weight of the expectation (all CPU time costs the same, and all cycles) beside the
/// observations.
pub(super) const RIDGE: f64 = 1e-4;

/// The same of the expectation that everything costs the same part on shared cores of what it costs alone.
pub(super) const SHARED_RIDGE: f64 = 0.1;

// ---- The prior: static power before the meter has shown it
// ---------------------------------------------------------------------

/// Static power of a package as a part of its power at full load: the mean of the families of x86 servers in
/// `plugins/estimate`'s table (SPECpower results since 2017) is 0.21. Measured with RAPL, idle packages drew
/// 0.12 of their design power (Teads, 2021).
pub(super) const PACKAGE_STATIC_SHARE: f64 = 0.2;
/// The same of the cores of a package, or of one of them: idle cores are switched off.
pub(super) const CORE_STATIC_SHARE: f64 = 0.1;
/// The same of a GPU: 40 to 60 W of 300 to 400 W.
pub(super) const GPU_STATIC_SHARE: f64 = 0.15;
/// The same of everything else (memory, uncore, a whole machine), where much does not depend on the load.
pub(super) const OTHER_STATIC_SHARE: f64 = 0.4;
/// The standard deviation of a share among machines, as a part of it.
pub(super) const SHARE_ERROR: f64 = 0.75;

// ---- Warmth
// ----------------------------------------------------------------------------------------------------

/// Static power of a package per watt of its mean power in the last half minute: by how much idle power rises
/// in the trace of a real server (docs/evaluation.md) with a mean of 15 s. Regressions that also have the
/// windows' counters say 0.8 to 1.0 % with that mean, and 1.0 to 1.1 % with this; predictions are as good.
pub(super) const PACKAGE_WARMTH: f64 = 0.0065;
/// Time constant of that mean, s. In the trace idle power follows means of 20 to 60 s better than shorter
/// ones.
pub(super) const WARMTH_SECONDS: f64 = 30.0;
/// Standard error of what warmth adds to static power, per watt of dynamic power: packages differ in it, and
/// what exceeds the assumed part passes for a cost of the load; and in how soon.
pub(super) const WARMTH_ERROR: f64 = 0.0026;

/// By how many standard deviations of its drift static power must rise while anything runs, before a package
/// is taken to sleep while nothing does.
pub(super) const SLEEP_DEVIATIONS: f64 = 2.0;

// ---- Differences: the short memory of changes in power
// ----------------------------------------------------------

/// Time constant, in seconds, of the mean that an observation is compared with: many observations, and
/// shorter than a package takes to warm up.
pub(super) const RECENT_SECONDS: f64 = 15.0;
/// Up to this many seconds all observations count alike in that mean: one, which may be some milliseconds
/// longer. The meter is early or late in a single short observation. If the mean followed faster for longer,
/// a package that warms up under its first load would pass for a cost of that load.
pub(super) const FIRST_SECONDS: f64 = 1.1;
/// Time constant, in seconds, after which differences fade: no model fits all code, and the code that runs
/// now counts most. Older observations remain in the working points.
pub(super) const DIFFERENCE_SECONDS: f64 = 60.0;
/// Standard deviation of static power around its mean, as a part of it: a warm package draws some percent
/// more.
pub(super) const STATIC_DRIFT: f64 = 0.03;
/// Static power drifts that far where dynamic power is at least one part in this many of all power, and less
/// where it is less: the package hardly warms up then.
pub(super) const DRIFT_RANGE: f64 = 2.5;
/// Standard deviation of predicted power over the last seconds that neither static nor dynamic power's recent
/// errors explain, as a part of it, at most.
pub(super) const MAX_LASTING: f64 = 0.005;
/// The smallest weight of levels beside differences. Only levels determine static power.
pub(super) const MIN_LEVEL_WEIGHT: f64 = 0.01;

// ---- What kinds of code cost
// ----------------------------------------------------------------------------------------------------

/// Kinds of code whose costs are kept at a time.
pub(super) const KEPT_CODES: usize = 24;
/// Consumers whose own difference from their kind of code is learnt at a time.
pub(super) const KEPT_CONSUMERS: usize = 24;
/// How much what kinds of code execute is expected to cost more or less than the counters say: the standard
/// deviation, as a part.
pub(super) const CODE_SPREAD: f64 = 0.05;
/// How far off coefficients are expected to be that fit all code best: the standard deviation, as a part.
pub(super) const COEFFICIENT_ERROR: f64 = 0.5;
/// How far off a level of power is beyond the noise of its observations, where coefficients are taken from
/// it: the standard deviation, as a part of power. It is off by the effects of what ran.
pub(super) const LEVEL_ERROR: f64 = 0.003;
/// How many kinds of code `CODE_SPREAD` stands for beside those that run.
pub(super) const EXPECTED_CODES: f64 = 0.7;
/// The largest difference that is believed.
pub(super) const MAX_EFFECT: f64 = 0.3;
/// The smallest standard deviation of power over a second that is left unexplained, as a part of it.
pub(super) const MIN_UNEXPLAINED: f64 = 0.00072;
/// How much what consumers of the same kind of code execute is expected to differ: the standard deviation, as
/// a part.
pub(super) const OWN_SPREAD: f64 = 0.0186;
/// What a consumer that has ended drew in the mean of the last seconds, as a part of all power, down to which
/// its own effect is kept.
pub(super) const ENDED_POWER: f64 = 0.015;
/// The largest part of an observation's noise that the next one gives back.
pub(super) const MAX_CARRIED: f64 = 0.9;
/// How much what a consumer executes in one window is expected to cost more or less where it may be a mixture
/// of kinds: the standard deviation, as a part.
pub(super) const MIXED_SPREAD: f64 = 0.03;
/// How much consumers are expected to differ from their kind, beyond `OWN_SPREAD`, where all that was learnt
/// of it is of mixtures: the standard deviation, as a part.
pub(super) const UNMIXED_SPREAD: f64 = 0.0225;
/// The same of consumers without an effect of their own. They are many and small, and teach of their kind
/// together.
pub(super) const UNMIXED_SPREAD_OF_SMALL: f64 = 0.015;
/// How far off what a higher or lower clock adds to the cost of cycles and instructions is, as a part of it:
/// cores on which nothing runs leak more at a higher voltage, too, and that passes for a cost of what runs.
pub(crate) const CLOCK_ERROR: f64 = 0.062;
/// What a million cache misses are expected to cost at least where it is said how far off that is, J: 10 nJ
/// each, as in a package's uncore. The fit gives them nothing where hardly any code that ran had some.
pub(super) const LEAST_MISSES: f64 = 0.01;
/// The part of what a core draws that depends on what it executes, at least: where instructions rise and fall
/// with cycles, the fit may give them nothing.
pub(super) const LEAST_EXECUTED: f64 = 0.2;

// ---- What was learnt in an earlier run
// ------------------------------------------------------------------------------------------

/// How many times power may be what was learnt earlier under the same load, or the reverse, before that is a
/// contradiction.
pub(super) const MAX_CONTRADICTION: f64 = 2.0;
/// First observations that contradict what was learnt earlier, before it is forgotten.
pub(super) const CONTRADICTIONS: u32 = 3;

// ---- Errors, and the trial of a candidate beside CPU time
// -------------------------------------------------------

/// Observations that a candidate's mean error is taken over, at most.
pub(super) const ERROR_MEMORY: u32 = 20;
/// Observations (or windows) before a mean error counts.
pub(super) const MIN_SCORED: u32 = 10;
/// The largest relative error that is counted for one observation.
pub(super) const MAX_ERROR: f64 = 10.0;
/// Short windows that their mean error is taken over, at most.
pub(super) const WINDOW_ERROR_MEMORY: u32 = 1000;
/// Observations after which a trial forgets.
pub(super) const TRIAL_MEMORY: f64 = 50.0;
/// Standard deviations by which a candidate must do worse than CPU time before it is withdrawn. Chance alone
/// exceeds three in one of 700 cases.
pub(super) const TRIAL_DEVIATIONS: f64 = 3.0;
/// How much larger a candidate's errors must have been before it is withdrawn: as much as in so many
/// observations in which only CPU time was right. Small differences in a row are no chance either, but CPU
/// time divides energy no better for them.
pub(super) const TRIAL_LEAST: f64 = 2.0;

// ---- Uncertainty
// -----------------------------------------------------------------------------------------------------

/// Standard deviation over mean absolute error, of normally distributed errors.
pub(super) const MEAN_TO_STANDARD: f64 = 1.2533;
/// Standard error of the time of a meter's value before short windows have shown it: that of a meter which
/// updates every millisecond.
pub(super) const METER_EDGE: Duration = Duration::from_micros(289);
/// How much further off a process is than windows are, because the meter is early or late. Divided in the
/// true proportions, processes of a window or two are 1.25 % off in the evaluation where windows suggest 1.03
/// %, and divided by what is learnt they are further off than that: with this, intervals of short processes
/// cover as many in windows of 10 ms as in those of 1 s.
pub(super) const EDGE_SPREAD: f64 = 1.62;
/// How much consumers deviate from what their use costs, as a part of it, before changes of power show it:
/// CPU time alone is that far off.
pub(super) const DEFAULT_DEVIATION: f64 = 0.2;
/// The smallest and the largest deviation that is believed.
pub(super) const MIN_DEVIATION: f64 = 0.002;
pub(super) const MAX_DEVIATION: f64 = 1.0;
/// How many times more changes than coefficients there must have been.
pub(super) const FIT_REDUNDANCY: f64 = 4.0;
/// The part of static power's drift that remains unseen: the mean of the last seconds shows most of it.
pub(super) const UNSEEN_DRIFT: f64 = 0.17;
/// Observations are added up until they span this long, to show the deviation: a second, which may be some
/// milliseconds short.
pub(super) const LONG_OBSERVATION: Duration = Duration::from_millis(990);
/// How much wider a 95 % interval is whose deviation was seen on some fifteen programs: Student's t (2.13)
/// over the normal distribution (1.96). What runs on a machine within minutes are not many kinds of code.
pub(super) const FEW_PROGRAMS: f64 = 1.09;
/// Time constant, in seconds, over which the observed deviation is averaged. A longer one keeps the errors of
/// the first fits, which are off by orders of magnitude.
pub(super) const DEVIATION_SECONDS: f64 = 10.0;
/// How much more than the meter's noise power must have changed, in squares, to show a deviation.
pub(super) const MIN_SIGNAL: f64 = 4.0;

// ---- Shared cores
// -----------------------------------------------------------------------------------------------

/// Weight of a nanosecond on a shared core beside one alone, until it is given or learnt: two threads on a
/// core draw about a quarter more than one.
pub(super) const DEFAULT_SMT_FACTOR: f64 = 0.63;
/// Values of that weight that are believed when it is learnt.
pub(super) const SMT_FACTORS: RangeInclusive<f64> = 0.5..=1.0;
