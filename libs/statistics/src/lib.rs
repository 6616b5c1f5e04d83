//! The statistics of repeated and of compared runs of a command.
//!
//! | module | holds |
//! | --- | --- |
//! | `summary` | mean, median, standard deviation, interval and outliers of one sample |
//! | `shift` | by how much one side is above the other: Wilcoxon's tests, inverted to an interval |
//! | `rank` | the distributions of those tests |
//! | `plan` | when a comparison looks at its runs, and which error each look may make |
//! | `answer` | what an interval says about the question, and whether more runs could answer it |
//!
//! A comparison runs two commands in pairs, in random order within each pair. If the two are the same, then
//! either order was equally likely, whatever the noise looks like: skewed, with outliers, drifting from pair
//! to pair. So the test of [`paired_shift`] is exact for any noise, and as each look of a [`Plan`] has an
//! error of its own, the errors of all looks sum to the plan's. The percentile bootstrap of so few runs has
//! two to three times the error that it states (`tests/trials.rs`).
//!
//! ```
//! use wattrace_statistics::{Answer, Pair, Plan, Question, paired_shift};
//!
//! let plan = Plan::new(20, 0.05).expect("six runs or more");
//! let noise = [0.0, 0.1, -0.1, 0.05, -0.05, 0.02, -0.03, 0.04];
//! let pairs: Vec<Pair> =
//!     noise.map(|noise| Pair { a: 1.0, b: 2.0 + noise, b_first: noise > 0.0 }).to_vec();
//! let found = paired_shift(&pairs, plan.looks()[0].error).expect("finite numbers");
//! assert!((found.estimate - 1.0).abs() < 0.02);
//! assert_eq!(Question::Differs { by: 0.02 }.answer(found.interval), Some(Answer::More));
//! ```

mod answer;
mod plan;
mod rank;
mod shift;
mod summary;

pub use answer::{Answer, Question};
pub use plan::{Look, Plan};
pub use shift::{Pair, Shift, paired_shift, unpaired_shift};
pub use summary::{Interval, Summary, outliers, quantile};
