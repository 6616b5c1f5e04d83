//! One value with its labels: what `table` and `ended` keep, and `text` writes.

use std::sync::Arc;

use wattrace_api::{Timestamp, Value};

/// One value with its labels.
#[derive(Clone, Debug)]
pub(crate) struct Sample {
    /// Index of the family.
    pub(crate) family: usize,
    /// In braces, as they stand behind the name.
    pub(crate) labels: Arc<str>,
    pub(crate) value: Value,
    /// When its counter stood at zero.
    pub(crate) start: Timestamp,
}
