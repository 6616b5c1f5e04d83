//! The file: opens it, locks it, checks what is in it, and cuts off a last line that a crash left unfinished.
//! Notices when it was renamed, deleted or truncated, as by logrotate, and goes on in the file that the path
//! names then. `buffer` writes to it, `place` finds it, `output_path` has the messages.

use std::fs::{File, Metadata, TryLockError};
use std::io::{self, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::Path;

use rustix::fs::{FileType, OFlags, fcntl_getfl, fcntl_setfl};
use tracing::{info, warn};
use wattrace_api::{Error, ErrorKind};

use crate::buffer::Target;
use crate::output_path::{FileIdentity, OutputPath};
use crate::place::Place;
use crate::rotator::Rotator;

/// A file ready to be appended to.
pub(crate) struct OutputFile {
    file: File,
    path: OutputPath,
    /// What it has to begin with.
    opening: &'static str,
    /// `None` for what is not a regular file: it cannot be renamed away.
    watched: Option<Watched>,
}

struct Watched {
    identity: FileIdentity,
    /// Where the last write ended.
    end: u64,
    /// When its first lines were written, or those of an earlier run its last, in nanoseconds since the Unix
    /// epoch.
    began: u64,
}

impl OutputFile {
    /// Whether nothing is in it yet.
    pub(crate) fn is_new(&self) -> bool {
        self.watched.as_ref().is_none_or(|watched| watched.end == 0)
    }
}

impl Write for OutputFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.file.write(bytes)?;
        if let Some(watched) = &mut self.watched {
            watched.end += written as u64;
        }
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

impl Target for OutputFile {
    fn follow(&mut self, look_at_path: bool) -> Result<Option<bool>, Error> {
        let Some(watched) = &mut self.watched else { return Ok(None) };
        let fail = |e: io::Error| Error::retry(self.path.message(format_args!("cannot look at it: {e}")));
        let now = self.file.metadata().map_err(fail)?;
        let is_deleted = now.nlink() == 0;
        if look_at_path || is_deleted {
            // If the path cannot be looked at, the file is still there to be written.
            let here = FileIdentity::at(&self.path.path).unwrap_or(Some(watched.identity));
            if here != Some(watched.identity) {
                // The lines wait until it can be opened.
                *self = open(&self.path, self.opening, false).map_err(|e| match e.kind() {
                    ErrorKind::Fatal => Error::retry(e.to_string()),
                    _ => e,
                })?;
                let message = self.path.message("going on in another file: this one was");
                match is_deleted {
                    true => warn!("{message} deleted"),
                    false => info!("{message} renamed"),
                }
                return Ok(Some(self.is_new()));
            }
        }
        if now.len() >= watched.end {
            return Ok(None);
        }
        cut_unfinished_line(&self.file).map_err(fail)?;
        watched.end = self.file.metadata().map_err(fail)?.len();
        info!("{}", self.path.message("was truncated; going on at its new end"));
        Ok(Some(watched.end == 0))
    }

    fn rotate(&mut self, rotator: &mut Rotator, now: u64) -> Result<bool, Error> {
        let Some(watched) = &mut self.watched else { return Ok(false) };
        if watched.end <= self.opening.len() as u64 {
            // The lines that wait are its first.
            watched.began = now;
            return Ok(false);
        }
        let is_here = FileIdentity::at(&self.path.path).is_ok_and(|here| here == Some(watched.identity));
        if !is_here || !rotator.is_due(watched.end, watched.began, now) {
            return Ok(false);
        }
        let fail = |e: io::Error| Error::retry(self.path.message(format_args!("cannot rotate it: {e}")));
        let renamed = rotator.rename(now).map_err(fail)?;
        match open(&self.path, self.opening, false) {
            Ok(next) => *self = next,
            Err(e) => {
                renamed.undo();
                return Err(e);
            }
        }
        if let Some(watched) = &mut self.watched {
            watched.began = now;
        }
        rotator.left();
        Ok(true)
    }
}

/// Opens `path` for appending; `overwrite` empties it first.
///
/// # Errors
/// Fatal: it can't be opened, or holds something that does not begin with `opening`. Retry: another process
/// writes it, or it is a pipe that nobody reads.
pub(crate) fn open(path: &OutputPath, opening: &'static str, overwrite: bool) -> Result<OutputFile, Error> {
    let fail = |e: io::Error| path.open_error(&e);
    let unwatched = |file| OutputFile { file, path: path.clone(), opening, watched: None };
    if path.path == Path::new("-") {
        let stdout = io::stdout().as_fd().try_clone_to_owned().map_err(fail)?;
        return Ok(unwatched(stdout.into()));
    }
    let place = Place::find(&path.path).map_err(fail)?;
    match place.kind().map_err(fail)? {
        None | Some(FileType::RegularFile) => {}
        Some(kind) => return open_special(path, &place, kind).map(unwatched),
    }
    let file = place.open(OFlags::RDWR | OFlags::APPEND | OFlags::CREATE).map_err(fail)?;
    if !file.metadata().map_err(fail)?.is_file() {
        return Err(fail(io::Error::other("it was replaced meanwhile")));
    }
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
    let now = file.metadata().map_err(fail)?;
    let identity = FileIdentity { device: now.dev(), inode: now.ino() };
    let watched = Some(Watched { identity, end: now.len(), began: last_written(&now) });
    Ok(OutputFile { watched, ..unwatched(file) })
}

/// When a file was last written, in nanoseconds since the Unix epoch.
fn last_written(file: &Metadata) -> u64 {
    let nanos = i128::from(file.mtime()) * 1_000_000_000 + i128::from(file.mtime_nsec());
    u64::try_from(nanos).unwrap_or(0)
}

/// Opens a device or a pipe. The opening of a pipe that nobody reads would wait for a reader.
fn open_special(path: &OutputPath, place: &Place, kind: FileType) -> Result<File, Error> {
    let opened = place.open(OFlags::WRONLY | OFlags::APPEND | OFlags::NONBLOCK);
    let file = match opened {
        Err(e)
            if kind == FileType::Fifo && e.raw_os_error() == Some(rustix::io::Errno::NXIO.raw_os_error()) =>
        {
            return Err(Error::retry(path.message("no program reads this pipe: start one")));
        }
        opened => opened.map_err(|e| path.open_error(&e))?,
    };
    let blocking = fcntl_getfl(&file).and_then(|flags| fcntl_setfl(&file, flags - OFlags::NONBLOCK));
    blocking.map_err(|e| path.open_error(&e.into()))?;
    Ok(file)
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
#[path = "file_tests.rs"]
mod tests;
