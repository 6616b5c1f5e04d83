//! Why a point from outside is refused. Refused points are counted by [`PointError::reason`]; none of these
//! errors is fatal.

use crate::number::NumberError;

/// Why a point is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PointError {
    /// The value is not a valid number.
    #[error(transparent)]
    Number(#[from] NumberError),
    /// A counter decreased although its start time is the same.
    #[error("the counter went backwards without a new start")]
    Backwards,
    /// The point is older than the last one of its series.
    #[error("it is older than the series' last point")]
    Late,
    /// The timestamp is later than the agent's clock.
    #[error("its time lies in the future")]
    Future,
    /// The sender has reached its limit of open series.
    #[error("there are {limit} series already: the limit")]
    TooManySeries {
        /// Most series that may be open at a time.
        limit: usize,
    },
    /// The names of the sender's series have reached their limit of bytes.
    #[error("the names of its series take {limit} bytes already: the limit")]
    TooManyBytes {
        /// Most bytes of names that may be open at a time.
        limit: usize,
    },
    /// A text is too long.
    #[error("the {what} is longer than {limit} bytes")]
    TooLong {
        /// Which text.
        what: &'static str,
        /// Its most bytes.
        limit: usize,
    },
    /// There is too much of something.
    #[error("it has more than {limit} {what}")]
    TooMany {
        /// Of what.
        what: &'static str,
        /// How many there may be.
        limit: usize,
    },
    /// The point contradicts the declaration of its metric.
    #[error("{0}")]
    Conflict(String),
    /// A type of metric, consumer or resource that Wattrace does not have.
    #[error("{0}")]
    Unsupported(String),
}

impl PointError {
    /// Whether the sender has reached a bound on its memory: the points after it will be refused too.
    pub fn is_limit(&self) -> bool {
        use PointError::{TooLong, TooMany, TooManyBytes, TooManySeries};
        matches!(self, TooLong { .. } | TooMany { .. } | TooManyBytes { .. } | TooManySeries { .. })
    }

    /// A short name under which such errors are counted.
    pub fn reason(&self) -> &'static str {
        match self {
            PointError::Number(_) => "bad_number",
            PointError::Backwards => "backwards",
            PointError::Late => "late",
            PointError::Future => "future",
            PointError::TooManySeries { .. } => "too_many_series",
            PointError::TooManyBytes { .. } => "too_many_bytes",
            PointError::TooLong { .. } => "too_long",
            PointError::TooMany { .. } => "too_many",
            PointError::Conflict(_) => "conflict",
            PointError::Unsupported(_) => "unsupported",
        }
    }
}
