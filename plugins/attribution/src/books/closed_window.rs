//! A window that is closed: what `account.rs` hands to `totals.rs`, and what `spread.rs` makes intervals of.

use wattrace_api::Window;

use crate::model::{CodeCosts, Uncertainty};

/// A window that is closed: its energy in microjoules, and the parts of it that are no consumer's.
pub(crate) struct ClosedWindow<'a> {
    pub(crate) window: Window,
    pub(crate) energy: u64,
    pub(crate) idle: u64,
    pub(crate) unattributed: u64,
    /// The dynamic and the static energy that was divided.
    pub(crate) divided: [u64; 2],
    /// The model's standard errors.
    pub(crate) uncertainty: Uncertainty,
    /// What it knows of kinds of code.
    pub(crate) codes: &'a CodeCosts,
}
