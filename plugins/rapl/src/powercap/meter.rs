//! Reads one `energy_uj`, with one system call a reading.

use wattrace_meter::sysfs::{Fault, NumberFile};

use crate::meter::{Continuity, Meter};

/// The counter behind an `energy_uj`.
#[derive(Debug)]
pub(super) struct PowercapMeter {
    file: NumberFile,
    /// `max_energy_range_uj`, if it is readable.
    max: Option<u64>,
}

impl PowercapMeter {
    /// The counter in `file`, whose largest value is `max`.
    pub(super) fn new(file: NumberFile, max: Option<u64>) -> Self {
        Self { file, max }
    }
}

impl Meter for PowercapMeter {
    fn read(&mut self, readings: &mut [u64]) -> Result<Continuity, Fault> {
        let number = self.file.read_open()?;
        let bad = |why: &str| Fault::bad(format!("{}: {number} is {why}", self.file.path().display()));
        let value = u64::try_from(number).map_err(|_| bad("not a value of a counter"))?;
        if self.max.is_some_and(|max| max > 0 && value > max) {
            return Err(bad("above max_energy_range_uj"));
        }
        if let Some(reading) = readings.first_mut() {
            *reading = value;
        }
        // A file that was removed and created again shows the same register.
        Ok(Continuity::Continued)
    }

    fn close_if_dead(&mut self) -> bool {
        self.file.close_if_unlinked()
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn values_outside_the_counters_range_are_bad_readings_that_name_the_file() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("energy_uj");
        let mut meter = PowercapMeter::new(NumberFile::new(path.clone()), Some(999_999));
        let mut reading = [0];
        for bad in ["-1\n", "1000000\n", "18446744073709551616\n"] {
            fs::write(&path, bad).unwrap();
            let fault = meter.read(&mut reading).unwrap_err();
            assert!(!fault.gone && fault.what.starts_with(path.to_str().unwrap()), "{}", fault.what);
        }
        fs::write(&path, "999999\n").unwrap();
        assert_eq!((meter.read(&mut reading).unwrap(), reading[0]), (Continuity::Continued, 999_999));
    }

    #[test]
    fn a_replaced_file_is_dead_and_the_next_read_opens_the_new_one() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("energy_uj");
        fs::write(&path, "17\n").unwrap();
        let mut meter = PowercapMeter::new(NumberFile::new(path.clone()), None);
        let mut reading = [0];
        meter.read(&mut reading).unwrap();
        assert!(!meter.close_if_dead());
        fs::write(dir.path().join("new"), "20\n").unwrap();
        fs::rename(dir.path().join("new"), &path).unwrap();
        assert!(meter.close_if_dead());
        meter.read(&mut reading).unwrap();
        assert_eq!(reading, [20]);
    }
}
