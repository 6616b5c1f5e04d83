//! The statistics of repeated and of compared runs of a command.
//!
//! | module | holds |
//! | --- | --- |
//! | `summary` | mean, median, standard deviation, interval and outliers of one sample |
//! | `shift` | by how much one side is above the other: a randomization test, inverted to an interval |
//! | `plan` | when a comparison looks at its runs, and which error each look may make |
//! | `answer` | what an interval says about the question, and whether more runs could answer it |
//!
//! A comparison runs two commands in blocks, in random order within each block. If the two are the same, then
//! every order was equally likely, whatever the noise looks like: skewed, with outliers, drifting from block
//! to block. So the test of [`shift`] is exact for any noise, and as each look of a [`Plan`] has an error of
//! its own, the errors of all looks sum to the plan's. The percentile bootstrap of so few runs has two to
//! three times the error that it states (`tests/trials.rs`).
//!
//! ```
//! use wattrace_statistics::{Answer, Block, Plan, Question, shift};
//!
//! let plan = Plan::new(20, 0.05).expect("five runs or more");
//! let mut random = fastrand::Rng::with_seed(1);
//! let block = Block { a: vec![1.0, 1.1, 0.9, 1.05, 0.95], b: vec![2.0, 2.1, 1.9, 2.05, 1.95] };
//! let found = shift(&[block], plan.looks()[0].error, &mut random).expect("finite numbers");
//! assert!((found.estimate - 1.0).abs() < 1e-9);
//! assert_eq!(Question::Differs { by: 0.02 }.answer(found.interval), Some(Answer::More));
//! ```

mod answer;
mod plan;
mod shift;
mod summary;

pub use answer::{Answer, Question};
pub use plan::{Look, Plan};
pub use shift::{Block, Shift, shift};
pub use summary::{Interval, Summary, outliers, quantile};
