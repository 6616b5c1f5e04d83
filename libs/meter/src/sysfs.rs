//! Files of the kernel that hold a number or a word. Neither their kind nor their content is trusted: a FIFO
//! in the place of a file is not waited for ([`open`]), and a file that does not hold a number is an
//! error that names its path. Also whether a file is the kernel's own or a simulated one.

use std::fs::File;
use std::io::{self, ErrorKind, Read};
use std::os::unix::fs::{FileExt, FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use rustix::io::Errno;
use wattrace_api::Origin;
use wattrace_api::files::{open_at_once, open_regular, read_open};
use wattrace_api::privilege::for_kernel_file;

/// `statfs(2)`'s numbers for sysfs and resctrl.
const KERNELS_MAGIC: [u64; 2] = [0x6265_6572, 0x0765_5821];
/// Words are cut at this length.
const MAX_WORD: u64 = 4096;
/// No file of the kernel that is read as a whole is longer: `/proc/cpuinfo` has about 1.5 kB for each CPU.
const MAX_TEXT: u64 = 16 << 20;

/// Opens a regular file of the kernel, or of a simulated tree with the user's rights. Whatever else is at
/// `path` is refused, and not waited for. Files of sysfs and /proc are regular.
///
/// # Errors
/// If it cannot be opened or is no regular file. The message does not name the path.
pub fn open(path: &Path) -> io::Result<File> {
    for_kernel_file(path, || open_regular(path))
}

/// The same for a device of the kernel (`/dev/cpu/0/msr`), or the regular file that simulates it.
///
/// # Errors
/// If it cannot be opened, or is neither. The message does not name the path.
pub fn open_device(path: &Path) -> io::Result<File> {
    let file = open_anything(path)?;
    let kind = file.metadata()?.file_type();
    if kind.is_file() || kind.is_char_device() {
        return Ok(file);
    }
    Err(io::Error::new(ErrorKind::InvalidInput, "it is neither a character device nor a regular file"))
}

fn open_anything(path: &Path) -> io::Result<File> {
    for_kernel_file(path, || open_at_once(path))
}

/// The text of a regular file of the kernel, of at most 16 MiB.
///
/// # Errors
/// Those of [`open`] and of [`read_open`]. The message does not name the path.
pub fn read_text(path: &Path) -> io::Result<String> {
    read_open(open(path)?, MAX_TEXT)
}

/// Why there is no reading now.
#[derive(Debug)]
pub struct Fault {
    /// Whether the file or device is gone, rather than its content being bad.
    pub gone: bool,
    /// Where, and what is wrong.
    pub what: String,
}

impl Fault {
    /// The content is bad.
    pub fn bad(what: String) -> Self {
        Self { gone: false, what }
    }

    /// What was read is gone.
    pub fn gone(what: String) -> Self {
        Self { gone: true, what }
    }

    fn of_io(path: &Path, e: &io::Error) -> Self {
        // ENODEV: the device behind the open file is gone.
        let gone = e.kind() == ErrorKind::NotFound || Errno::from_io_error(e) == Some(Errno::NODEV);
        Self { gone, what: format!("{}: {e}", path.display()) }
    }
}

/// A file that holds a whole number. It stays open, and is read at offset 0 each time.
#[derive(Debug)]
pub struct NumberFile {
    path: PathBuf,
    /// `None` until the first read, and after the file is gone.
    file: Option<File>,
    last: Option<i128>,
    /// Whether a newline was seen at the end. From then on a text without it is incomplete.
    has_newline: bool,
}

/// Parses decimal digits with an optional minus sign and surrounding white space. `None`: anything else, or
/// more than 20 digits.
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

/// Parses a decimal number such as `12345.678901` as millionths, with surrounding white space. Further digits
/// are cut off. `None`: anything else, or more than 20 digits before the point.
pub fn parse_millionths(text: &[u8]) -> Option<i128> {
    let text = text.trim_ascii();
    let point = text.iter().position(|&b| b == b'.').unwrap_or(text.len());
    let (whole, fraction) = (&text[..point], text.get(point + 1..).unwrap_or_default());
    let is_point_alone = point < text.len() && fraction.is_empty();
    if is_point_alone || text.starts_with(b"-") || !fraction.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let digit = |nth: usize| i128::from(fraction.get(nth).map_or(0, |digit| digit - b'0'));
    let millionths = (0..6).fold(0, |sum, nth| sum * 10 + digit(nth));
    Some(parse_number(whole)? * 1_000_000 + millionths)
}

impl NumberFile {
    /// The file at `path`; it is opened when it is first read.
    pub fn new(path: PathBuf) -> Self {
        Self { path, file: None, last: None, has_newline: false }
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Opens the file, which [`NumberFile::read`] does as well.
    ///
    /// # Errors
    /// If it cannot be opened.
    pub fn open(&mut self) -> io::Result<()> {
        self.file = Some(open(&self.path)?);
        Ok(())
    }

    /// The number in it now. Opens the path again if the number stands still because the open file was
    /// removed from its directory. Allocates nothing unless it fails.
    ///
    /// # Errors
    /// [`Fault`], which names the path.
    pub fn read(&mut self) -> Result<i128, Fault> {
        let mut value = self.read_open()?;
        if self.last == Some(value) && self.close_if_unlinked() {
            value = self.read_open()?;
        }
        self.last = Some(value);
        Ok(value)
    }

    /// The number in it now, with one system call: for a file that is read a thousand times a second. Does
    /// not notice that the path leads to another file now: [`NumberFile::close_if_unlinked`] does.
    ///
    /// # Errors
    /// [`Fault`], which names the path.
    pub fn read_open(&mut self) -> Result<i128, Fault> {
        let file = match &mut self.file {
            Some(file) => file,
            closed => closed.insert(open(&self.path).map_err(|e| Fault::of_io(&self.path, &e))?),
        };
        let mut buffer = [0_u8; 64];
        let length = match file.read_at(&mut buffer, 0) {
            Ok(length) => length,
            Err(e) => {
                self.file = None;
                return Err(Fault::of_io(&self.path, &e));
            }
        };
        let text = &buffer[..length];
        let bad = |why: &str| {
            Err(Fault::bad(format!("{}: {why}: \"{}\"", self.path.display(), text.escape_ascii())))
        };
        // If the buffer is full, more digits may follow.
        let Some(value) = parse_number(text).filter(|_| length < buffer.len()) else {
            return bad("is not a number");
        };
        let newline = text.ends_with(b"\n");
        if self.has_newline && !newline {
            return bad("ends before its newline");
        }
        self.has_newline = newline;
        Ok(value)
    }

    /// Closes the file if it was removed from its directory; the next read opens the path again. A removed
    /// file of sysfs gives an error when it is read. On other file systems, where simulated trees are, only
    /// the count of links tells.
    pub fn close_if_unlinked(&mut self) -> bool {
        let unlinked = self.file.as_ref().is_some_and(|file| file.metadata().is_ok_and(|m| m.nlink() == 0));
        if unlinked {
            self.file = None;
        }
        unlinked
    }
}

/// The number in a file that is read rarely, and so is not kept open.
///
/// # Errors
/// [`Fault`], which names the path.
pub fn read_number(path: &Path) -> Result<i128, Fault> {
    NumberFile::new(path.to_owned()).read_open()
}

/// The first line of a small file, trimmed; `None` if it cannot be read, is empty, or is not UTF-8.
pub fn read_word(path: &Path) -> Option<String> {
    let mut text = Vec::new();
    open(path).ok()?.take(MAX_WORD).read_to_end(&mut text).ok()?;
    let line = text.split(|&b| b == b'\n' || b == 0).next()?;
    let word = std::str::from_utf8(line).ok()?.trim();
    (!word.is_empty()).then(|| word.to_owned())
}

/// The names in a directory, sorted; those that are not UTF-8 are left out.
///
/// # Errors
/// If the directory cannot be read.
pub fn names(directory: &Path) -> io::Result<Vec<String>> {
    let entries = std::fs::read_dir(directory)?;
    let mut names: Vec<_> = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok()).collect();
    names.sort_unstable();
    Ok(names)
}

/// `measured` if `path` lies on a real sysfs or resctrl, else `simulated`.
///
/// Pass the file that is read rather than the root above it: something else may be mounted in between.
pub fn origin(path: &Path) -> Origin {
    let magic = open_anything(path).and_then(|file| file_system(&file));
    let is_kernels = magic.is_ok_and(|magic| KERNELS_MAGIC.contains(&magic));
    if is_kernels { Origin::Measured } else { Origin::Simulated }
}

fn file_system(file: &File) -> io::Result<u64> {
    Ok(rustix::fs::fstatfs(file)?.f_type as u64)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn numbers_are_parsed_and_nonsense_is_refused() {
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
    fn decimal_numbers_are_parsed_as_millionths() {
        for (text, value) in [
            (&b"12345.678901\n"[..], Some(12_345_678_901)),
            (b"0.02203", Some(22_030)),
            (b"7", Some(7_000_000)),
            (b"1.0000009", Some(1_000_000)),
            (b"18446744073709551615.5", Some(18_446_744_073_709_551_615_500_000)),
            (b"", None),
            (b".5", None),
            (b"1.", None),
            (b"-0.5", None),
            (b"1.5e3", None),
            (b"1.2.3", None),
            (b"Unavailable\n", None),
        ] {
            assert_eq!(parse_millionths(text), value, "{}", text.escape_ascii());
        }
    }

    fn file() -> (tempfile::TempDir, PathBuf, NumberFile) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("power1_input");
        let file = NumberFile::new(path.clone());
        (dir, path, file)
    }

    #[test]
    fn a_bad_text_names_the_file_and_the_next_good_one_is_read() {
        let (_dir, path, mut file) = file();
        fs::write(&path, "123456\n").unwrap();
        assert_eq!(file.read().unwrap(), 123_456);
        for bad in ["", "\n", "abc\n", "1234", "1 2\n", &"0".repeat(100)] {
            fs::write(&path, bad).unwrap();
            let fault = file.read().unwrap_err();
            assert!(!fault.gone && fault.what.starts_with(path.to_str().unwrap()), "{bad:?}: {}", fault.what);
        }
        fs::write(&path, "123999\n").unwrap();
        assert_eq!(file.read().unwrap(), 123_999);
    }

    #[test]
    fn a_file_that_never_had_a_newline_needs_none() {
        let (_dir, path, mut file) = file();
        fs::write(&path, "17").unwrap();
        assert_eq!((file.read().unwrap(), file.read().unwrap()), (17, 17));
    }

    #[test]
    fn a_removed_file_is_gone_until_it_is_back() {
        let (_dir, path, mut file) = file();
        assert!(file.read().unwrap_err().gone);
        fs::write(&path, "17\n").unwrap();
        assert_eq!(file.read().unwrap(), 17);
        assert!(!file.close_if_unlinked());
        fs::remove_file(&path).unwrap();
        assert!(file.read().unwrap_err().gone);
        assert!(file.read_open().unwrap_err().gone);
        fs::write(&path, "18\n").unwrap();
        assert_eq!(file.read_open().unwrap(), 18);
    }

    #[test]
    fn a_replaced_file_is_noticed_when_its_number_stands_still() {
        let (dir, path, mut file) = file();
        fs::write(&path, "17\n").unwrap();
        assert_eq!(file.read().unwrap(), 17);
        fs::write(dir.path().join("new"), "20\n").unwrap();
        fs::rename(dir.path().join("new"), &path).unwrap();
        assert_eq!(file.read_open().unwrap(), 17, "the open file is read");
        assert_eq!(file.read().unwrap(), 20);
    }

    fn fifo(path: &Path) {
        rustix::fs::mkfifoat(rustix::fs::CWD, path, rustix::fs::Mode::RUSR).unwrap();
    }

    /// Without the check of what is opened this waits for a writer, which never comes.
    #[test]
    fn what_is_no_regular_file_is_refused_at_once_and_the_error_names_file_and_kind() {
        let (dir, path, mut file) = file();
        fifo(&path);
        let fault = file.read().unwrap_err();
        assert_eq!(fault.what, format!("{}: it is a FIFO or pipe; a regular file is needed", path.display()));
        assert!(!fault.gone && file.open().is_err() && read_number(&path).is_err());
        assert_eq!((read_word(&path), read_text(&path).is_err()), (None, true));
        assert_eq!((origin(&path), open_device(&path).is_err()), (Origin::Simulated, true));
        let directory = read_number(dir.path()).unwrap_err();
        assert!(directory.what.ends_with(": it is a directory; a regular file is needed"));
        assert!(open_device(Path::new("/dev/null")).is_ok() && open(Path::new("/dev/null")).is_err());
        // The kernel's files are regular.
        assert!(read_text(Path::new("/proc/cpuinfo")).is_ok_and(|text| !text.is_empty()));
    }

    #[test]
    fn a_word_is_the_first_line_and_binary_content_is_none() {
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
    fn sysfs_is_measured_and_other_file_systems_are_simulated() {
        let elsewhere = tempfile::tempdir().unwrap();
        assert_eq!(origin(elsewhere.path()), Origin::Simulated);
        assert_eq!(origin(&elsewhere.path().join("absent")), Origin::Simulated);
        assert_eq!(origin(Path::new("/sys/kernel")), Origin::Measured);
    }
}
