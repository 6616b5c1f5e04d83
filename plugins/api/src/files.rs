//! Reads files that a user names. What is there may be anything: a FIFO blocks whoever opens it, a device may
//! never end.

use std::fs::File;
use std::io::{self, ErrorKind, Read as _};
use std::os::unix::fs::FileTypeExt as _;
use std::path::Path;

use rustix::fs::{Mode, OFlags};
use rustix::io::retry_on_intr;

/// Opens whatever is at `path` for reading, a directory too, without waiting.
///
/// # Errors
/// Those of `open`.
pub fn open_at_once(path: &Path) -> io::Result<File> {
    // A regular file ignores O_NONBLOCK; a FIFO opens at once with it.
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    Ok(retry_on_intr(|| rustix::fs::open(path, flags, Mode::empty()))?.into())
}

/// Opens a regular file for reading, without waiting.
///
/// # Errors
/// Those of `open`, and that it is no regular file.
pub fn open_regular(path: &Path) -> io::Result<File> {
    let file = open_at_once(path)?;
    let kind = file.metadata()?.file_type();
    let what = match kind {
        _ if kind.is_file() => return Ok(file),
        _ if kind.is_dir() => "a directory",
        _ if kind.is_fifo() => "a FIFO or pipe",
        _ if kind.is_socket() => "a socket",
        _ => "a device",
    };
    Err(io::Error::new(ErrorKind::InvalidInput, format!("it is {what}; a regular file is needed")))
}

/// The text of a regular file of at most `limit` bytes.
///
/// # Errors
/// Those of [`open_regular`] and of reading, that it is longer, and that it is not UTF-8.
pub fn read_text(path: &Path, limit: u64) -> io::Result<String> {
    read_open(open_regular(path)?, limit)
}

/// The text of a file that is open, as [`read_text`] reads it.
///
/// # Errors
/// Those of reading, that it is longer, and that it is not UTF-8.
pub fn read_open(file: File, limit: u64) -> io::Result<String> {
    let mut text = Vec::new();
    file.take(limit.saturating_add(1)).read_to_end(&mut text)?;
    if text.len() as u64 > limit {
        return Err(io::Error::new(ErrorKind::InvalidData, format!("it has more than {limit} bytes")));
    }
    String::from_utf8(text).map_err(|_| io::Error::new(ErrorKind::InvalidData, "it is not UTF-8 text"))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A directory that is removed at the end.
    struct Directory(std::path::PathBuf);

    impl Directory {
        fn new() -> Self {
            let path = std::env::temp_dir().join(format!("wattrace-files-{}", std::process::id()));
            std::fs::create_dir_all(&path).unwrap();
            Self(path)
        }
    }

    impl Drop for Directory {
        fn drop(&mut self) {
            let _ = std::fs::remove_dir_all(&self.0);
        }
    }

    #[test]
    fn only_regular_files_of_a_limited_size_are_read_and_nothing_waits() {
        let directory = Directory::new();
        let (fifo, file) = (directory.0.join("fifo"), directory.0.join("file"));
        rustix::fs::mkfifoat(rustix::fs::CWD, &fifo, Mode::RUSR | Mode::WUSR).unwrap();
        std::fs::write(&file, "12345").unwrap();
        let error = |path: &Path, limit| read_text(path, limit).unwrap_err().to_string();
        assert_eq!(error(&fifo, 9), "it is a FIFO or pipe; a regular file is needed");
        assert_eq!(error(&directory.0, 9), "it is a directory; a regular file is needed");
        assert_eq!(error(Path::new("/dev/zero"), 9), "it is a device; a regular file is needed");
        assert_eq!(error(&file, 4), "it has more than 4 bytes");
        assert_eq!(read_text(&file, 5).unwrap(), "12345");
        std::fs::write(&file, b"\xff").unwrap();
        assert_eq!(error(&file, 5), "it is not UTF-8 text");
    }
}
