//! Errors whose consequence their author chooses. There is no `From` for them, so `?` alone never decides
//! that an unreadable file kills a plugin: the author writes [`ResultExt::or_retry`], [`ResultExt::or_gone`]
//! or [`ResultExt::or_fatal`].

use std::fmt;

/// What the runner does about an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ErrorKind {
    /// What the element dealt with isn't there (any more): it ends, and that is a state, not a failure.
    Gone,
    /// It may work the next time: the element is called again, later and later.
    Retry,
    /// The element cannot continue: it is closed, and reopened after a while.
    Fatal,
}

impl ErrorKind {
    /// `gone`, `retry` or `fatal`.
    pub fn as_str(self) -> &'static str {
        match self {
            ErrorKind::Gone => "gone",
            ErrorKind::Retry => "retry",
            ErrorKind::Fatal => "fatal",
        }
    }
}

/// An element's error: what happened (where, and what to do about it) and what is to follow from it.
#[derive(Debug)]
pub struct Error {
    kind: ErrorKind,
    cause: Box<dyn std::error::Error + Send + Sync>,
    is_denied: bool,
}

impl Error {
    /// See [`ErrorKind::Gone`].
    pub fn gone(cause: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        Self { kind: ErrorKind::Gone, cause: cause.into(), is_denied: false }
    }
    /// As [`Error::gone`], because this process may not use it, whether or not it is there. The cause names
    /// the command that gives the permission.
    pub fn denied(cause: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        Self { is_denied: true, ..Self::gone(cause) }
    }
    /// See [`ErrorKind::Retry`].
    pub fn retry(cause: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        Self { kind: ErrorKind::Retry, cause: cause.into(), is_denied: false }
    }
    /// See [`ErrorKind::Fatal`].
    pub fn fatal(cause: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        Self { kind: ErrorKind::Fatal, cause: cause.into(), is_denied: false }
    }
    /// What the runner does about it.
    pub fn kind(&self) -> ErrorKind {
        self.kind
    }
    /// Whether a permission is all that is missing: [`Error::denied`].
    pub fn is_denied(&self) -> bool {
        self.is_denied
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.cause.fmt(f)?;
        let mut cause = self.cause.source();
        while let Some(inner) = cause {
            write!(f, ": {inner}")?;
            cause = inner.source();
        }
        Ok(())
    }
}

/// Turns a library's error into an element's, with the consequence spelt out.
pub trait ResultExt<T> {
    /// On error: what the element dealt with isn't there.
    fn or_gone(self) -> Result<T, Error>;
    /// On error: try again later.
    fn or_retry(self) -> Result<T, Error>;
    /// On error: the element can't go on.
    fn or_fatal(self) -> Result<T, Error>;
}

impl<T, E: Into<Box<dyn std::error::Error + Send + Sync>>> ResultExt<T> for Result<T, E> {
    fn or_gone(self) -> Result<T, Error> {
        self.map_err(Error::gone)
    }
    fn or_retry(self) -> Result<T, Error> {
        self.map_err(Error::retry)
    }
    fn or_fatal(self) -> Result<T, Error> {
        self.map_err(Error::fatal)
    }
}
