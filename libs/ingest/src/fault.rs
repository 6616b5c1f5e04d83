//! What can be wrong with a point that somebody outside sent. Each is counted under its [`Fault::reason`] and
//! refused; none is fatal.

use crate::number::NumberFault;

/// Why a point is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// Its value is none.
    #[error(transparent)]
    Number(#[from] NumberFault),
    /// A counter that is smaller than before, though it says that it was not restarted.
    #[error("the counter went backwards without a new start")]
    Backwards,
    /// It is older than what its series has already.
    #[error("it is older than the series' last point")]
    Late,
    /// It lies ahead of our clock.
    #[error("its time lies in the future")]
    Future,
    /// Its series would be one too many.
    #[error("there are {limit} series already: the limit")]
    TooManySeries {
        /// How many there may be.
        limit: usize,
    },
    /// It contradicts what is known of its metric.
    #[error("{0}")]
    Conflict(String),
    /// It is of a kind that does not exist here.
    #[error("{0}")]
    Unsupported(String),
}

impl Fault {
    /// A short name to count it under.
    pub fn reason(&self) -> &'static str {
        match self {
            Fault::Number(_) => "bad_number",
            Fault::Backwards => "backwards",
            Fault::Late => "late",
            Fault::Future => "future",
            Fault::TooManySeries { .. } => "too_many_series",
            Fault::Conflict(_) => "conflict",
            Fault::Unsupported(_) => "unsupported",
        }
    }
}
