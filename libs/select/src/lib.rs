//! What transforms need that work on a part of all series: patterns that select series, a decision remembered
//! per series, and the series that is derived from another. A library, not a plugin.
//!
//! | module | holds |
//! | --- | --- |
//! | [`glob`] | [`Glob`], a shell's pattern of text |
//! | [`pattern`] | [`Pattern`], as `select = { … }` in the configuration, and the compiled [`Selector`] |
//! | [`decisions`] | [`Decisions`]: decided once per series, so that a point costs an array lookup |
//! | [`derived`] | the description of a series that is computed from another one |

pub mod decisions;
pub mod derived;
pub mod glob;
pub mod pattern;

pub use decisions::Decisions;
pub use glob::Glob;
pub use pattern::{Pattern, Selector};
