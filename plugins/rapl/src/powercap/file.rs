//! One `energy_uj`: opened once, read at offset 0 each time into a buffer on the stack, one system call a
//! reading.

use std::fs::File;
use std::io::{self, ErrorKind};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::PathBuf;

use crate::meter::{Fault, Reader, Reading};

/// The counter behind an `energy_uj`.
#[derive(Debug)]
pub(super) struct CounterFile {
    path: PathBuf,
    /// `None` after it has vanished, until it opens again.
    file: Option<File>,
    max: Option<u64>,
    /// Whether a newline has been seen at the end; from then on its absence means that the end is missing.
    has_newline: bool,
}

/// What the bytes of an `energy_uj` say.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Number {
    value: u64,
    newline: bool,
}

/// Reads decimal digits with space around them. `None`: there are none, or other things too, or more than 64
/// bits hold.
pub(crate) fn parse(text: &[u8]) -> Option<Number> {
    let digits = text.trim_ascii();
    if digits.is_empty() {
        return None;
    }
    let value = digits.iter().try_fold(0_u64, |value, digit| match digit {
        b'0'..=b'9' => value.checked_mul(10)?.checked_add(u64::from(digit - b'0')),
        _ => None,
    })?;
    Some(Number { value, newline: text.last() == Some(&b'\n') })
}

impl CounterFile {
    /// The counter in `file`, which was opened at `path` and holds up to `max`.
    pub(super) fn new(path: PathBuf, file: File, max: Option<u64>) -> Self {
        Self { path, file: Some(file), max, has_newline: false }
    }

    fn read_once(&mut self) -> Result<u64, Fault> {
        let file = match &mut self.file {
            Some(file) => file,
            closed => {
                let opened = File::open(&self.path).map_err(|e| fault(&self.path, &e))?;
                closed.insert(opened)
            }
        };
        let mut buffer = [0_u8; 64];
        let length = match file.read_at(&mut buffer, 0) {
            Ok(length) => length,
            Err(e) => {
                self.file = None;
                return Err(fault(&self.path, &e));
            }
        };
        let bad = |why: &str| {
            let text = buffer[..length].escape_ascii();
            Fault::bad(format!("{}: {why}: \"{text}\"", self.path.display()))
        };
        // A full buffer may hide more digits.
        let number = parse(&buffer[..length]).filter(|_| length < buffer.len());
        let number = number.ok_or_else(|| bad("is not a number of microjoules"))?;
        if self.has_newline && !number.newline {
            return Err(bad("ends before its newline"));
        }
        if self.max.is_some_and(|max| max > 0 && number.value > max) {
            return Err(bad("is above max_energy_range_uj"));
        }
        self.has_newline = number.newline;
        Ok(number.value)
    }

    /// Whether the open file has been taken out of its directory, so that its number stands still for ever.
    /// sysfs says so by an error; other file systems, on which stand-ins lie, only by the count of links.
    fn is_unlinked(&self) -> bool {
        self.file.as_ref().is_some_and(|file| file.metadata().is_ok_and(|m| m.nlink() == 0))
    }
}

impl Reader for CounterFile {
    fn read(&mut self, raw: &mut [u64]) -> Result<Reading, Fault> {
        let value = self.read_once()?;
        if let Some(raw) = raw.first_mut() {
            *raw = value;
        }
        // The register behind a file that is back is the one that was behind it before.
        Ok(Reading::Continued)
    }

    fn doubt(&mut self) -> bool {
        let dead = self.is_unlinked();
        if dead {
            self.file = None;
        }
        dead
    }
}

fn fault(path: &std::path::Path, e: &io::Error) -> Fault {
    let what = format!("{}: {e}", path.display());
    let gone = e.kind() == ErrorKind::NotFound || e.raw_os_error() == Some(libc::ENODEV);
    if gone { Fault::gone(what) } else { Fault::bad(what) }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;

    use super::*;

    fn open(path: &Path, max: Option<u64>) -> CounterFile {
        CounterFile::new(path.to_owned(), File::open(path).unwrap(), max)
    }

    fn read(counter: &mut CounterFile) -> Result<u64, Fault> {
        let mut raw = [0];
        counter.read(&mut raw).map(|_| raw[0])
    }

    #[test]
    fn digits_are_digits() {
        let number = |value, newline| Some(Number { value, newline });
        assert_eq!(parse(b"0\n"), number(0, true));
        assert_eq!(parse(b"00000000000000000042\n"), number(42, true));
        assert_eq!(parse(b" 7 "), number(7, false));
        assert_eq!(parse(b"18446744073709551615\n"), number(u64::MAX, true));
        for nonsense in
            [&b""[..], b"\n", b"18446744073709551616", b"-1\n", b"+1\n", b"1 2\n", b"1\0", b"1e3\n"]
        {
            assert_eq!(parse(nonsense), None, "{}", nonsense.escape_ascii());
        }
    }

    #[test]
    fn a_bad_reading_names_the_file_and_the_next_good_one_counts() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("energy_uj");
        fs::write(&path, "123456\n").unwrap();
        let mut counter = open(&path, Some(999_999));
        assert_eq!(read(&mut counter).unwrap(), 123_456);
        for bad in ["", "\n", "abc\n", "1234", "1000000\n", &"0".repeat(100)] {
            fs::write(&path, bad).unwrap();
            let fault = read(&mut counter).unwrap_err();
            assert!(!fault.gone && fault.what.starts_with(path.to_str().unwrap()), "{bad:?}: {}", fault.what);
        }
        fs::write(&path, "123999\n").unwrap();
        assert_eq!(read(&mut counter).unwrap(), 123_999);
    }

    #[test]
    fn a_file_that_never_had_a_newline_needs_none() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("energy_uj");
        fs::write(&path, "17").unwrap();
        let mut counter = open(&path, None);
        assert_eq!(read(&mut counter).unwrap(), 17);
        assert_eq!(read(&mut counter).unwrap(), 17);
    }

    #[test]
    fn a_file_that_vanishes_is_gone_until_it_is_back() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("energy_uj");
        fs::write(&path, "17\n").unwrap();
        let mut counter = open(&path, None);
        assert_eq!(read(&mut counter).unwrap(), 17);
        assert!(!counter.doubt());
        fs::remove_file(&path).unwrap();
        assert!(counter.doubt());
        assert!(read(&mut counter).unwrap_err().gone);
        assert!(read(&mut counter).unwrap_err().gone);
        fs::write(&path, "18\n").unwrap();
        assert_eq!(read(&mut counter).unwrap(), 18);
    }

    #[test]
    fn a_file_that_is_replaced_is_read_anew() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("energy_uj");
        fs::write(&path, "17\n").unwrap();
        let mut counter = open(&path, None);
        assert_eq!(read(&mut counter).unwrap(), 17);
        fs::write(dir.path().join("new"), "20\n").unwrap();
        fs::rename(dir.path().join("new"), &path).unwrap();
        assert!(counter.doubt());
        assert_eq!(read(&mut counter).unwrap(), 20);
    }
}
