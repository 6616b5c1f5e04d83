//! Reads the host's message from a file or a unix socket.

use std::fs;
use std::io::{self, ErrorKind, Read};
use std::os::unix::fs::FileTypeExt;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use wattrace_api::files::open_regular;
use wattrace_api::{Clock, Error, Timestamp};

use super::REMEDY;
use crate::message::{MAX_LENGTH, Share};

/// How long to wait for data on a socket.
const TIMEOUT: Duration = Duration::from_secs(2);

/// A message.
#[derive(Debug)]
pub(super) struct Fetched {
    pub(super) share: Share,
    /// It came from a socket, so its age is exact. A file may be old.
    is_live: bool,
}

impl Fetched {
    /// The end of the message's last window by this machine's clock. The message was fetched at `now`.
    ///
    /// For a socket that is exact, except for the time of transmission. A file has the host's wall-clock
    /// time: if the clocks differ so much that it is in the future, or more than `max_age` ago, it counts as
    /// `now`.
    pub(super) fn as_of(&self, now: Timestamp, clock: &Clock, max_age: Duration) -> Timestamp {
        let max_age = u64::try_from(max_age.as_nanos()).unwrap_or(u64::MAX);
        let age = if self.is_live {
            Some(self.share.age_nano)
        } else {
            clock.unix_nanos(now).checked_sub(self.share.as_of_unix_nano)
        };
        Timestamp(now.0.saturating_sub(age.filter(|age| *age <= max_age).unwrap_or(0)))
    }
}

/// Why there is no message.
#[derive(Debug)]
pub(super) struct FetchError {
    pub(super) message: String,
    /// Something was read, but it was not a message.
    pub(super) is_malformed: bool,
    kind: ErrorKind,
}

impl FetchError {
    /// The error of a source that cannot open.
    pub(super) fn into_error(self, path: &Path) -> Error {
        match self.kind {
            ErrorKind::NotFound | ErrorKind::ConnectionRefused => {
                Error::gone(format!("{}; {REMEDY}", self.message))
            }
            ErrorKind::PermissionDenied => Error::denied(format!(
                "{}; let the agent's user read it: chmod a+r {}",
                self.message,
                path.display()
            )),
            _ => Error::fatal(self.message),
        }
    }
}

/// Reads the message at `path`.
///
/// # Errors
/// It cannot be read, or is not a message.
pub(super) fn fetch(path: &Path) -> Result<Fetched, FetchError> {
    let place = format!("plugins.host-share.path: {}", path.display());
    let (text, is_live) = read(path).map_err(|e| FetchError {
        message: format!("{place}: {e}"),
        is_malformed: false,
        kind: e.kind(),
    })?;
    let malformed = |cause: String| FetchError {
        message: format!("{place}: {cause}; is it the file that the host's guest-share writes?"),
        is_malformed: true,
        kind: ErrorKind::InvalidData,
    };
    let text = std::str::from_utf8(&text).map_err(|e| malformed(e.to_string()))?;
    let share = Share::parse(text).map_err(malformed)?;
    Ok(Fetched { share, is_live })
}

fn read(path: &Path) -> io::Result<(Vec<u8>, bool)> {
    let is_socket = fs::metadata(path)?.file_type().is_socket();
    let mut text = Vec::new();
    if is_socket {
        let stream = UnixStream::connect(path)?;
        stream.set_read_timeout(Some(TIMEOUT))?;
        stream.take(MAX_LENGTH).read_to_end(&mut text)?;
    } else {
        open_regular(path)?.take(MAX_LENGTH).read_to_end(&mut text)?;
    }
    Ok((text, is_socket))
}
