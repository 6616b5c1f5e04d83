//! The configured path: the messages for what can go wrong with its file, and which file it names. `file`
//! opens it.

use std::io;
use std::path::{Path, PathBuf};

use wattrace_api::Error;

/// The configured path.
#[derive(Clone, Debug)]
pub struct OutputPath {
    /// The plugin whose configuration names it.
    pub plugin: &'static str,
    /// Its path; `-` is standard output.
    pub path: PathBuf,
}

impl OutputPath {
    /// `what`, with the key and the path before it.
    pub fn message(&self, what: impl std::fmt::Display) -> String {
        format!("plugins.{}.path: {}: {what}", self.plugin, self.path.display())
    }

    /// The error for a failed opening.
    pub fn open_error(&self, error: &io::Error) -> Error {
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

/// Which file a path names: it changes when the file is renamed or deleted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FileIdentity {
    pub(crate) device: u64,
    pub(crate) inode: u64,
}

impl FileIdentity {
    /// The file at `path`; `None` if there is none.
    ///
    /// # Errors
    /// It cannot be known.
    pub fn at(path: &Path) -> io::Result<Option<Self>> {
        match rustix::fs::stat(path) {
            Ok(stat) => Ok(Some(Self { device: stat.st_dev, inode: stat.st_ino })),
            Err(rustix::io::Errno::NOENT | rustix::io::Errno::NOTDIR) => Ok(None),
            Err(e) => Err(e.into()),
        }
    }
}
