//! What is wrong with a spool's file, and what the operator can do.

use std::io;

use rusqlite::ErrorCode;

/// Why the file cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Problem {
    /// Another process has it.
    #[error("another process uses it; give each agent a spool of its own")]
    InUse,
    /// It holds something else.
    #[error("it is a database of something else; name another file")]
    Foreign,
    /// It was damaged.
    #[error("it is damaged ({0})")]
    Corrupt(String),
    /// The disk is full, read-only or broken, or access is denied.
    #[error("{0}")]
    Disk(String),
}

impl From<rusqlite::Error> for Problem {
    fn from(error: rusqlite::Error) -> Self {
        match error.sqlite_error_code() {
            Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => Problem::InUse,
            Some(ErrorCode::DiskFull) => Problem::Disk("the disk is full; free some space".to_owned()),
            Some(ErrorCode::CannotOpen | ErrorCode::ReadOnly | ErrorCode::PermissionDenied) => {
                Problem::Disk(format!("{error}; grant write access to it and its directory"))
            }
            Some(ErrorCode::SystemIoFailure) => Problem::Disk(format!("{error}; check the disk")),
            // A file without its tables, or with other values in them, is damaged as well.
            _ => Problem::Corrupt(error.to_string()),
        }
    }
}

impl From<io::Error> for Problem {
    fn from(error: io::Error) -> Self {
        Problem::Disk(error.to_string())
    }
}
