//! The settings of rotation: when a file is left for a new one, and what happens to it. `rotator` renames it,
//! `archive` compresses and deletes.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use wattrace_api::Error;

use crate::output_path::OutputPath;
use crate::size::Size;

/// What happens to a file that was left.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Compression {
    /// It stays as it is.
    #[default]
    None,
    /// It is compressed in the background.
    Zstd,
}

/// When files are rotated, and what happens to them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rotation {
    /// A larger file is left. 0: none is too large.
    pub size: Size,
    /// The file is left at each whole multiple of it, in UTC. Zero: none is too old.
    pub every: Duration,
    /// So many rotated files are kept. 0: all.
    pub keep: usize,
    /// Whether rotated files are compressed.
    pub compression: Compression,
}

impl Rotation {
    /// Whether files are ever left.
    pub(crate) fn is_on(&self) -> bool {
        self.size.0 > 0 || !self.every.is_zero()
    }

    /// Refuses what makes no sense.
    pub(crate) fn check(&self, path: &OutputPath) -> Result<(), Error> {
        let plugin = path.plugin;
        if self.is_on() && path.path.as_os_str() == "-" {
            let message = format!("plugins.{plugin}.path: standard output cannot be rotated: name a file");
            return Err(Error::fatal(message));
        }
        if !self.every.is_zero() && self.every < Duration::from_secs(1) {
            return Err(Error::fatal(format!("plugins.{plugin}.rotate_every: must be at least 1s, or 0s")));
        }
        Ok(())
    }

    /// Whether a file of `size` bytes that was begun in the period of `began` is to be left at `now`, both in
    /// nanoseconds since the Unix epoch.
    pub(crate) fn is_due(&self, size: u64, began: u64, now: u64) -> bool {
        let every = u64::try_from(self.every.as_nanos()).unwrap_or(u64::MAX);
        let period = |time: u64| time.checked_div(every);
        (self.size.0 > 0 && size >= self.size.0) || period(now) > period(began)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_left_by_its_size_or_at_a_multiple_of_the_period() {
        const HOUR: u64 = 3600 * 1_000_000_000;
        let off = Rotation::default();
        assert!(!off.is_due(u64::MAX, 0, u64::MAX) && !off.is_on());
        let sized = Rotation { size: Size(100), ..off };
        assert_eq!([99, 100].map(|size| sized.is_due(size, 0, HOUR)), [false, true]);
        let hourly = Rotation { every: Duration::from_secs(3600), ..off };
        let due = [HOUR + 1, 2 * HOUR - 1, 2 * HOUR, 9 * HOUR].map(|now| hourly.is_due(1, HOUR, now));
        assert_eq!(due, [false, false, true, true]);
        assert!(!hourly.is_due(1, 2 * HOUR, HOUR), "the clock was set back");
    }
}
