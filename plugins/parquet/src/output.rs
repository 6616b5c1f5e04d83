//! The output: decides when a row group is written, and when another file begins. Rows stay in memory until
//! they are in a file that outlives the agent.

use std::fs::DirBuilder;
use std::io;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::Path;
use std::time::{Duration, SystemTime};

use tracing::{info, warn};
use wattrace_api::{Batch, Clock, Error, Output, Timestamp};

use crate::config::{Settings, bad};
use crate::file::PartialFile;
use crate::recovery;
use crate::rows::Rows;

/// Rows of a row group that are written without waiting for more, and of which as many may wait while the
/// disk takes none: some 32 MB.
const MOST_ROWS: usize = 1_000_000;

/// The output.
pub(crate) struct ParquetOutput {
    settings: Settings,
    clock: Clock,
    rows: Rows,
    file: Option<PartialFile>,
    /// When the row group is written, and the file completed.
    group_due: Timestamp,
    file_due: Timestamp,
    /// Why the last row group was not written.
    trouble: Option<String>,
}

impl ParquetOutput {
    /// Completes what is left in the directory, which is created if it is missing.
    ///
    /// # Errors
    /// Fatal: no directory that can be written.
    pub(crate) fn open(settings: Settings, rows: Rows, clock: Clock) -> Result<Self, Error> {
        let directory = &settings.directory;
        let open = || {
            match DirBuilder::new().mode(0o750).create(directory) {
                Err(e) if e.kind() != io::ErrorKind::AlreadyExists => return Err(e),
                _ => {}
            }
            recovery::recover_all(directory)?;
            rustix::fs::access(directory, rustix::fs::Access::WRITE_OK)?;
            Ok(())
        };
        let remedy = "choose another directory, or let the agent write it";
        open().map_err(|e| bad("directory", format!("{}: {e}; {remedy}", directory.display())))?;
        let now = clock.now();
        let (group_due, file_due) = (now + settings.row_group, now + settings.file_interval);
        Ok(Self { settings, clock, rows, file: None, group_due, file_due, trouble: None })
    }

    /// Writes all rows as a row group. What was not written stays.
    fn write_group(&mut self) -> Result<(), Error> {
        let now = self.clock.now();
        self.group_due = now + self.settings.row_group;
        let result = self.try_write_group(now);
        if result.is_err()
            && let Some(file) = self.file.take()
        {
            // Half a row group makes the rest of the file useless; the next one begins another.
            let path = file.path();
            drop(file);
            recovery::recover_or_warn(&path);
        }
        let directory = self.settings.directory.display();
        let result = result.map_err(|e| {
            Error::retry(format!("plugins.parquet.directory: {directory}: {e}; points wait in memory"))
        });
        let trouble = result.as_ref().err().map(ToString::to_string);
        if let Some(why) = trouble.as_ref().filter(|_| self.trouble.is_none()) {
            warn!("{why}");
        }
        self.trouble = trouble;
        result
    }

    fn try_write_group(&mut self, now: Timestamp) -> io::Result<()> {
        if self.rows.rows.is_empty() {
            return Ok(());
        }
        if let Some(gone) = self.file.take_if(|file| !file.path().exists()) {
            warn!("plugins.parquet: {}: renamed or deleted; going on in another file", gone.path().display());
        }
        if self.file.is_none() {
            let stem = self.stem(now);
            self.file = Some(PartialFile::create(&self.settings.directory, &stem)?);
            self.file_due = now + self.settings.file_interval;
        }
        let Some(file) = &mut self.file else { return Ok(()) };
        file.append(&self.rows.rows)?;
        self.rows.rows.clear();
        Ok(())
    }

    /// `wattrace-HOST-20261127T183000Z`
    fn stem(&self, now: Timestamp) -> String {
        let is_fine = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
        let host: String = self.settings.host.chars().map(|c| if is_fine(c) { c } else { '_' }).collect();
        let time = SystemTime::UNIX_EPOCH + Duration::from_nanos(self.clock.unix_nanos(now));
        let time = humantime::format_rfc3339_seconds(time).to_string().replace(['-', ':'], "");
        format!("wattrace-{host}-{time}")
    }

    fn complete_file(&mut self) -> Result<(), Error> {
        let Some(file) = self.file.take() else { return Ok(()) };
        let path = file.path();
        let complete = |path: &Path, e: io::Error| {
            Error::retry(format!("plugins.parquet.directory: {}: cannot be completed: {e}", path.display()))
        };
        let path = file.complete().map_err(|e| complete(&path, e))?;
        info!("plugins.parquet: {} is complete", path.display());
        Ok(())
    }
}

impl Output for ParquetOutput {
    fn write(&mut self, batch: &Batch) -> Result<(), Error> {
        if self.trouble.is_some() && (self.rows.rows.len() >= MOST_ROWS || self.clock.now() >= self.group_due)
        {
            let result = self.write_group();
            if self.rows.rows.len() >= MOST_ROWS {
                result?;
            }
        }
        self.rows.take(batch);
        let now = self.clock.now();
        if (now >= self.group_due || self.rows.rows.len() >= MOST_ROWS) && self.write_group().is_ok() {
            let is_large = self.file.as_ref().is_some_and(|file| file.bytes() >= self.settings.file_bytes);
            // The batch is taken, so it does not fail; the file is completed at the next start.
            if (is_large || now >= self.file_due)
                && let Err(e) = self.complete_file()
            {
                warn!("{e}");
            }
        }
        Ok(())
    }

    /// Completes the file; what comes next begins another.
    fn flush(&mut self) -> Result<(), Error> {
        self.write_group()?;
        self.complete_file()
    }

    fn undelivered(&self) -> u64 {
        self.rows.rows.len() as u64
    }

    fn trouble(&self) -> Option<&str> {
        self.trouble.as_deref()
    }

    fn take_losses(&mut self) -> Vec<(&'static str, u64)> {
        let unknown = self.rows.take_unknown();
        if unknown > 0 { vec![("unknown_series", unknown)] } else { Vec::new() }
    }
}

#[cfg(test)]
mod tests;
