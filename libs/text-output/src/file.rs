//! Opens the file: locks it, checks what is in it, and cuts off a last line that a crash left unfinished.
//! Also the messages for what can go wrong with it. `output` writes to the file.

use std::fs::{File, OpenOptions, TryLockError};
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use wattrace_api::Error;

/// The configured path.
#[derive(Clone, Debug)]
pub(crate) struct OutputPath {
    /// The plugin whose configuration names it.
    pub(crate) plugin: &'static str,
    /// Its path; `-` is standard output.
    pub(crate) path: PathBuf,
}

/// A file ready to be appended to.
pub(crate) struct Opened<W> {
    pub(crate) file: W,
    /// Whether nothing is in it yet.
    pub(crate) is_new: bool,
}

impl OutputPath {
    fn message(&self, what: impl std::fmt::Display) -> String {
        format!("plugins.{}.path: {}: {what}", self.plugin, self.path.display())
    }

    fn open_error(&self, error: &io::Error) -> Error {
        let parent = self.path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let remedy = match error.kind() {
            io::ErrorKind::NotFound => {
                format!(
                    "the directory does not exist: `mkdir -p {}`, or choose another path",
                    parent.display()
                )
            }
            io::ErrorKind::PermissionDenied => "grant write access or choose another path".to_string(),
            io::ErrorKind::IsADirectory => "this is a directory: name a file in it".to_string(),
            _ => "choose another path".to_string(),
        };
        Error::fatal(self.message(format_args!("cannot open: {error}; {remedy}")))
    }

    /// The error for a failed write while `waiting` lines wait in memory.
    pub(crate) fn write_error(&self, error: &io::Error, waiting: usize) -> Error {
        let remedy = match error.kind() {
            io::ErrorKind::BrokenPipe => return Error::gone(self.message("the reader has closed it")),
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => "free some space",
            _ => "check the file and its disk",
        };
        Error::retry(self.message(format_args!(
            "cannot write: {error}; lines that wait in memory to continue where the file ends: {waiting}; \
             {remedy}"
        )))
    }
}

/// Opens `path` for appending; `overwrite` empties it first.
///
/// # Errors
/// Fatal: it can't be opened, or holds something that does not begin with `opening`. Retry: another process
/// writes it.
pub(crate) fn open(path: &OutputPath, opening: &str, overwrite: bool) -> Result<Opened<File>, Error> {
    let fail = |e: io::Error| path.open_error(&e);
    if path.path == Path::new("-") {
        let stdout = io::stdout().as_fd().try_clone_to_owned().map_err(fail)?;
        return Ok(Opened { file: stdout.into(), is_new: true });
    }
    let is_special = std::fs::metadata(&path.path).is_ok_and(|m| !m.is_file() && !m.is_dir());
    let mut options = OpenOptions::new();
    options.append(true);
    if is_special {
        let file = options.open(&path.path).map_err(fail)?;
        return Ok(Opened { file, is_new: true });
    }
    let file = options.read(true).create(true).open(&path.path).map_err(fail)?;
    // Two writers would each cut off the other's unfinished line. Some file systems have no locks; go on
    // there.
    if let Err(TryLockError::WouldBlock) = file.try_lock() {
        return Err(Error::retry(
            path.message("another process writes this file: stop it or choose another path"),
        ));
    }
    if overwrite {
        file.set_len(0).map_err(fail)?;
    } else {
        if !begins_with(&file, opening.as_bytes()).map_err(fail)? {
            let append = format!("plugins.{}.append = false", path.plugin);
            let what = format!("holds something else: choose another path, or overwrite it with `{append}`");
            return Err(Error::fatal(path.message(what)));
        }
        cut_unfinished_line(&file).map_err(fail)?;
    }
    let is_new = file.metadata().map_err(fail)?.len() == 0;
    Ok(Opened { file, is_new })
}

/// Whether the file begins with `opening`, as far as it goes.
fn begins_with(file: &File, opening: &[u8]) -> io::Result<bool> {
    let known = usize::try_from(file.metadata()?.len()).unwrap_or(usize::MAX).min(opening.len());
    let mut found = vec![0; known];
    file.read_exact_at(&mut found, 0)?;
    Ok(found == opening[..known])
}

/// Cuts off what follows the last line feed: a line that a crash left unfinished.
fn cut_unfinished_line(file: &File) -> io::Result<()> {
    const CHUNK: u64 = 4096;
    let len = file.metadata()?.len();
    let mut end = len;
    while end > 0 {
        let start = end.saturating_sub(CHUNK);
        let mut chunk = [0; CHUNK as usize];
        let chunk = &mut chunk[..(end - start) as usize];
        file.read_exact_at(chunk, start)?;
        if let Some(at) = chunk.iter().rposition(|&b| b == b'\n') {
            end = start + at as u64 + 1;
            break;
        }
        end = start;
    }
    if end < len { file.set_len(end) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    fn output_path(path: &Path) -> OutputPath {
        OutputPath { plugin: "jsonl", path: path.to_path_buf() }
    }

    fn reopened(content: &str) -> Result<String, Error> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("out");
        std::fs::write(&path, content).unwrap();
        let mut opened = open(&output_path(&path), "{\"metric\":", false)?;
        opened.file.write_all(if opened.is_new { b"new" } else { b"more" }).unwrap();
        Ok(std::fs::read_to_string(&path).unwrap())
    }

    #[test]
    fn an_unfinished_line_is_cut_off_and_whole_lines_stay() {
        assert_eq!(reopened("{\"metric\":1}\n").unwrap(), "{\"metric\":1}\nmore");
        assert_eq!(reopened("{\"metric\":1}\n{\"met").unwrap(), "{\"metric\":1}\nmore");
        assert_eq!(reopened("{\"met").unwrap(), "new");
        let long = format!("{{\"metric\":1}}\n{{\"metric\":\"{}", "x".repeat(10_000));
        assert_eq!(reopened(&long).unwrap(), "{\"metric\":1}\nmore");
    }

    #[test]
    fn a_file_of_something_else_is_not_changed() {
        let error = reopened("Some notes").unwrap_err().to_string();
        assert!(error.contains("plugins.jsonl.append = false"), "{error}");
        let error = reopened("S").unwrap_err();
        assert_eq!(error.kind(), wattrace_api::ErrorKind::Fatal);
    }

    #[test]
    fn a_file_has_one_writer() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("out");
        let first = open(&output_path(&path), "", false).unwrap();
        let second = open(&output_path(&path), "", true).err().unwrap();
        assert_eq!(second.kind(), wattrace_api::ErrorKind::Retry);
        assert!(second.to_string().contains("another process"), "{second}");
        drop(first);
        assert!(open(&output_path(&path), "", true).is_ok());
    }

    #[test]
    fn a_missing_directory_is_named_with_its_remedy() {
        let error =
            open(&output_path(Path::new("/nowhere/at/all.jsonl")), "", false).err().unwrap().to_string();
        assert!(error.starts_with("plugins.jsonl.path: /nowhere/at/all.jsonl: "), "{error}");
        assert!(error.contains("`mkdir -p /nowhere/at`"), "{error}");
    }
}
