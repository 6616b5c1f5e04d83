//! Files of the kernel that hold a number or a word, distrusted: opened once, read at offset 0 each time, and
//! whatever is no number is said so with its path. Also whether a tree is the kernel's own or a stand-in.

use std::fs::File;
use std::io::{self, ErrorKind, Read};
use std::mem::MaybeUninit;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};

use wattrace_api::Origin;

/// `statfs(2)`'s number for sysfs.
const SYSFS_MAGIC: u64 = 0x6265_6572;
/// A word is not longer than this.
const LONGEST_WORD: u64 = 4096;

/// Why there is no number now.
#[derive(Debug)]
pub struct Fault {
    /// Whether the file isn't there any more, rather than having said something senseless.
    pub gone: bool,
    /// Where and what.
    pub what: String,
}

/// A file that holds a whole number.
#[derive(Debug)]
pub struct NumberFile {
    path: PathBuf,
    /// `None` after it has vanished, until it opens again.
    file: Option<File>,
    last: Option<i128>,
}

/// Reads decimal digits, perhaps with a minus, with space around them. `None`: anything else, or more than 20
/// digits.
pub fn parse_number(text: &[u8]) -> Option<i128> {
    let text = text.trim_ascii();
    let (negative, digits) = match text.strip_prefix(b"-") {
        Some(digits) => (true, digits),
        None => (false, text),
    };
    if digits.is_empty() || digits.len() > 20 || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let value = digits.iter().fold(0_i128, |value, digit| value * 10 + i128::from(digit - b'0'));
    Some(if negative { -value } else { value })
}

impl NumberFile {
    /// The file at `path`; it is opened when it is first read.
    pub fn new(path: PathBuf) -> Self {
        Self { path, file: None, last: None }
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The number in it now. Allocates nothing unless it fails.
    ///
    /// # Errors
    /// [`Fault`], with the path in its words.
    pub fn read(&mut self) -> Result<i128, Fault> {
        let mut value = self.read_once()?;
        // A file that was taken out of its directory stands still for ever. sysfs says so by an error; other
        // file systems, on which stand-ins lie, only by the count of links.
        if self.last == Some(value) && self.is_unlinked() {
            self.file = None;
            value = self.read_once()?;
        }
        self.last = Some(value);
        Ok(value)
    }

    fn read_once(&mut self) -> Result<i128, Fault> {
        let file = match &mut self.file {
            Some(file) => file,
            closed => closed.insert(File::open(&self.path).map_err(|e| fault(&self.path, &e))?),
        };
        let mut buffer = [0_u8; 64];
        match file.read_at(&mut buffer, 0) {
            // A full buffer may hide more digits.
            Ok(length) => {
                parse_number(&buffer[..length]).filter(|_| length < buffer.len()).ok_or_else(|| {
                    let text = buffer[..length].escape_ascii();
                    Fault {
                        gone: false,
                        what: format!("{}: is not a number: \"{text}\"", self.path.display()),
                    }
                })
            }
            Err(e) => {
                self.file = None;
                Err(fault(&self.path, &e))
            }
        }
    }

    fn is_unlinked(&self) -> bool {
        self.file.as_ref().is_some_and(|file| file.metadata().is_ok_and(|m| m.nlink() == 0))
    }
}

fn fault(path: &Path, e: &io::Error) -> Fault {
    // ENODEV: the device behind the file went, with the file still open.
    let gone = e.kind() == ErrorKind::NotFound || e.raw_os_error() == Some(libc::ENODEV);
    Fault { gone, what: format!("{}: {e}", path.display()) }
}

/// The number in a file that is read rarely, and so not kept open.
///
/// # Errors
/// [`Fault`], with the path in its words.
pub fn read_number(path: &Path) -> Result<i128, Fault> {
    NumberFile::new(path.to_owned()).read_once()
}

/// The first line of a small file, without the space around it; `None` if it can't be read, is empty, or is
/// no text.
pub fn read_word(path: &Path) -> Option<String> {
    let mut text = Vec::new();
    File::open(path).ok()?.take(LONGEST_WORD).read_to_end(&mut text).ok()?;
    let line = text.split(|&b| b == b'\n' || b == 0).next()?;
    let word = std::str::from_utf8(line).ok()?.trim();
    (!word.is_empty()).then(|| word.to_owned())
}

/// The names in a directory, sorted; those that are no text are left out.
///
/// # Errors
/// If the directory can't be read.
pub fn names(directory: &Path) -> io::Result<Vec<String>> {
    let entries = std::fs::read_dir(directory)?;
    let mut names: Vec<_> = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok()).collect();
    names.sort_unstable();
    Ok(names)
}

/// `measured` if `path` lies on a real sysfs, else `simulated`.
///
/// Give it what is read itself rather than the root above it: something else may be mounted in between.
pub fn origin(path: &Path) -> Origin {
    let magic = File::open(path).and_then(|file| file_system(&file));
    if magic.is_ok_and(|magic| magic == SYSFS_MAGIC) { Origin::Measured } else { Origin::Simulated }
}

fn file_system(file: &File) -> io::Result<u64> {
    let mut found = MaybeUninit::<libc::statfs>::uninit();
    // SAFETY: the descriptor is open for as long as `file` lives, and `found` is a valid place to write to.
    if unsafe { libc::fstatfs(file.as_raw_fd(), found.as_mut_ptr()) } != 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the call succeeded, so it filled the structure.
    let found = unsafe { found.assume_init() };
    Ok(found.f_type as u64)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn numbers_are_numbers() {
        for (text, value) in [
            (&b"0\n"[..], 0),
            (b" 42 \n", 42),
            (b"-7\n", -7),
            (b"18446744073709551615", i128::from(u64::MAX)),
        ] {
            assert_eq!(parse_number(text), Some(value));
        }
        for nonsense in
            [&b""[..], b"\n", b"-", b"--1", b"+1", b"1 2", b"1.5", b"0x1", b"1\0", b"100000000000000000000"]
        {
            assert_eq!(parse_number(nonsense), None, "{}", nonsense.escape_ascii());
        }
    }

    #[test]
    fn a_file_that_vanishes_is_gone_until_it_is_back_and_one_replaced_is_read_anew() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("power1_input");
        let mut file = NumberFile::new(path.clone());
        assert!(file.read().unwrap_err().gone);
        fs::write(&path, "17\n").unwrap();
        assert_eq!(file.read().unwrap(), 17);
        fs::write(dir.path().join("new"), "20\n").unwrap();
        fs::rename(dir.path().join("new"), &path).unwrap();
        // Once more the old number, then it is noticed that it stands still.
        assert_eq!(file.read().unwrap(), 20);
        fs::remove_file(&path).unwrap();
        assert!(file.read().unwrap_err().gone);
        fs::write(&path, "x\n").unwrap();
        let fault = file.read().unwrap_err();
        assert!(
            !fault.gone && fault.what.contains("power1_input: is not a number: \"x\\n\""),
            "{}",
            fault.what
        );
    }

    #[test]
    fn words_are_first_lines_and_binary_is_none() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("name");
        for (bytes, word) in
            [(&b" a b \nc\n"[..], Some("a b")), (b"", None), (b"\n", None), (b"\xff\n", None)]
        {
            fs::write(&path, bytes).unwrap();
            assert_eq!(read_word(&path).as_deref(), word);
        }
        assert_eq!(read_word(&dir.path().join("absent")), None);
    }

    #[test]
    fn sysfs_is_real_and_a_directory_of_anyone_s_is_not() {
        let elsewhere = tempfile::tempdir().unwrap();
        assert_eq!(origin(elsewhere.path()), Origin::Simulated);
        assert_eq!(origin(&elsewhere.path().join("absent")), Origin::Simulated);
        assert_eq!(origin(Path::new("/sys/kernel")), Origin::Measured);
    }
}
