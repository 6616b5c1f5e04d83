//! What transforms that deal with *some* series share: saying which, and remembering the answer.
//!
//! | module | holds |
//! | --- | --- |
//! | [`pattern`] | [`Pattern`], the configuration's `select = { … }`, and the [`Selector`] it compiles to |
//! | [`decisions`] | [`Decisions`]: what was decided about each series, on first sight, so that a point costs an array lookup |
//! | [`testing`] | a scene of packages and processes for transforms' tests, and points as lines of text |
//!
//! It is no plugin; `filter`, `aggregate`, `formula` and `relabel` are made with it.

pub mod decisions;
pub mod pattern;
pub mod testing;

pub use decisions::Decisions;
pub use pattern::{Pattern, Selector};
