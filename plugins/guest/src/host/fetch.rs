//! Gets the host's message, from a file or a unix socket.

use std::fs::{self, File};
use std::io::{self, ErrorKind, Read};
use std::os::unix::fs::FileTypeExt;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use wattrace_api::{Clock, Error, Timestamp};

use super::REMEDY;
use crate::message::{LONGEST, Share};

/// A socket that says nothing for longer is not listened to.
const PATIENCE: Duration = Duration::from_secs(2);

/// A message, and whether its age is of now.
#[derive(Debug)]
pub(super) struct Fetched {
    pub(super) share: Share,
    /// It came from a socket, and not from a file that has lain there for a while.
    is_live: bool,
}

impl Fetched {
    /// The end of the message's last window by this machine's clock, which read `now` when it was fetched.
    ///
    /// From a socket that is exact, but for the time on the way. A file has the host's wall-clock time, and
    /// counts as of `now` if the two clocks disagree so much that it comes from the future, or from more than
    /// `longest` ago.
    pub(super) fn as_of(&self, now: Timestamp, clock: &Clock, longest: Duration) -> Timestamp {
        let longest = u64::try_from(longest.as_nanos()).unwrap_or(u64::MAX);
        let age = if self.is_live {
            Some(self.share.age_nano)
        } else {
            clock.unix_nanos(now).checked_sub(self.share.as_of_unix_nano)
        };
        Timestamp(now.0.saturating_sub(age.filter(|age| *age <= longest).unwrap_or(0)))
    }
}

/// Why there is no message.
#[derive(Debug)]
pub(super) struct Failure {
    pub(super) why: String,
    /// There was something, and it was no message.
    pub(super) is_nonsense: bool,
    kind: ErrorKind,
}

impl Failure {
    /// The error of a source that cannot open.
    pub(super) fn into_error(self, path: &Path) -> Error {
        match self.kind {
            ErrorKind::NotFound | ErrorKind::ConnectionRefused => {
                Error::gone(format!("{}; {REMEDY}", self.why))
            }
            ErrorKind::PermissionDenied => Error::gone(format!(
                "{}; let the agent's user read it: chmod a+r {}",
                self.why,
                path.display()
            )),
            _ => Error::fatal(self.why),
        }
    }
}

pub(super) fn fetch(path: &Path) -> Result<Fetched, Failure> {
    let place = format!("plugins.host-share.path: {}", path.display());
    let (text, is_live) = read(path).map_err(|e| Failure {
        why: format!("{place}: {e}"),
        is_nonsense: false,
        kind: e.kind(),
    })?;
    let nonsense = |why: String| Failure {
        why: format!("{place}: {why}; is that the file that the host's guest-share writes?"),
        is_nonsense: true,
        kind: ErrorKind::InvalidData,
    };
    let text = std::str::from_utf8(&text).map_err(|e| nonsense(e.to_string()))?;
    let share = Share::parse(text).map_err(nonsense)?;
    Ok(Fetched { share, is_live })
}

fn read(path: &Path) -> io::Result<(Vec<u8>, bool)> {
    let is_socket = fs::metadata(path)?.file_type().is_socket();
    let mut text = Vec::new();
    if is_socket {
        let stream = UnixStream::connect(path)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.take(LONGEST).read_to_end(&mut text)?;
    } else {
        File::open(path)?.take(LONGEST).read_to_end(&mut text)?;
    }
    Ok((text, is_socket))
}
