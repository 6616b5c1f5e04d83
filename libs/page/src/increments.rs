//! Increments of a counter. `history` collects them, `axis` divides their time.

/// The half-open span of time that an increment covers, in nanoseconds since the Unix epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Window {
    /// First nanosecond covered.
    pub begin: u64,
    /// First nanosecond no longer covered.
    pub end: u64,
}

/// Increments, in the order in which they came.
#[derive(Clone, Debug, Default)]
pub(crate) struct Increments(pub(crate) Vec<(Window, u64)>);
