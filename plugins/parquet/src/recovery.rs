//! What an agent left that could not complete its file: it was killed, the power failed, or the disk was
//! full. `file` says how such a file looks.

use std::fs::File;
use std::io::{self, Read as _, Seek as _, SeekFrom};
use std::path::{Path, PathBuf};

use parquet::file::metadata::ParquetMetaDataReader;
use rustix::fs::{FlockOperation, OFlags, flock};
use rustix::io::Errno;
use tracing::warn;
use wattrace_text_output::Place;

use crate::file::{BEFORE, BEHIND, give_name};

const MAGIC: &[u8; 4] = b"PAR1";
/// No footer is longer.
const MOST_FOOTER: u64 = 64 * 1024 * 1024;

/// Completes what is left in `directory` and is not being written by another agent. What cannot be completed
/// is set aside, and logged.
///
/// # Errors
/// The directory cannot be listed.
pub(crate) fn recover_all(directory: &Path) -> io::Result<()> {
    for entry in std::fs::read_dir(directory)? {
        let name = entry?.file_name();
        let Some(name) = name.to_str() else { continue };
        let own = name.strip_prefix(BEFORE).and_then(|name| name.strip_suffix(BEHIND));
        if own.is_some_and(|name| name.starts_with("wattrace-") && name.ends_with(".parquet")) {
            recover_or_warn(&directory.join(name));
        }
    }
    Ok(())
}

/// [`recover`], for the log.
pub(crate) fn recover_or_warn(path: &Path) {
    match recover(path) {
        Ok(Some((path, lost))) => {
            let path = path.display();
            warn!("plugins.parquet: {path} was not completed; it is complete now, less {lost} bytes");
        }
        Ok(None) => {}
        Err(e) => warn!("plugins.parquet: {}: cannot be completed: {e}", path.display()),
    }
}

/// Cuts the partial file at `path` off behind its last footer, and gives it its name. Returns its path and
/// how many bytes had no footer; `None`: somebody is writing it, or it had no footer at all and is set aside.
///
/// # Errors
/// Those of the file system.
pub(crate) fn recover(path: &Path) -> io::Result<Option<(PathBuf, u64)>> {
    let (Some(directory), Some(name)) = (path.parent(), path.file_name().and_then(|name| name.to_str()))
    else {
        return Ok(None);
    };
    let name = name.trim_start_matches(BEFORE).trim_end_matches(BEHIND);
    let mut file = Place::find(path)?.open(OFlags::RDWR)?;
    match flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Err(Errno::WOULDBLOCK) => return Ok(None),
        locked => locked?,
    }
    let length = file.metadata()?.len();
    match last_footer(&mut file, length)? {
        Some(end) => {
            file.set_len(end)?;
            file.sync_all()?;
            // Another agent may have completed a file of this name meanwhile.
            let free = if directory.join(name).try_exists()? {
                format!("recovered-{name}")
            } else {
                name.to_owned()
            };
            Ok(Some((give_name(path, directory, &free)?, length - end)))
        }
        None if length <= MAGIC.len() as u64 => std::fs::remove_file(path).map(|()| None),
        None => {
            let aside = directory.join(format!("{name}.broken"));
            std::fs::rename(path, &aside)?;
            warn!("plugins.parquet: {}: no row group of it is complete; set aside", aside.display());
            Ok(None)
        }
    }
}

/// Where the last complete footer ends: metadata, their length in four bytes, and the magic.
fn last_footer(file: &mut File, length: u64) -> io::Result<Option<u64>> {
    let (mut end, mut chunk) = (length, Vec::new());
    // Backwards in chunks that overlap by less than the magic.
    while end > MAGIC.len() as u64 {
        let start = end.saturating_sub(1 << 20);
        chunk.resize((end - start) as usize, 0);
        file.seek(SeekFrom::Start(start))?;
        file.read_exact(&mut chunk)?;
        for at in (0..=chunk.len() - MAGIC.len()).rev() {
            let footer_end = start + (at + MAGIC.len()) as u64;
            if chunk[at..].starts_with(MAGIC) && is_footer(file, footer_end)? {
                return Ok(Some(footer_end));
            }
        }
        end = if start == 0 { 0 } else { start + MAGIC.len() as u64 - 1 };
    }
    Ok(None)
}

/// Whether a footer ends there.
fn is_footer(file: &mut File, end: u64) -> io::Result<bool> {
    let Some(length_at) = end.checked_sub(8) else { return Ok(false) };
    let mut length = [0; 4];
    file.seek(SeekFrom::Start(length_at))?;
    file.read_exact(&mut length)?;
    let length = u64::from(u32::from_le_bytes(length));
    let Some(start) = length_at.checked_sub(length).filter(|_| length <= MOST_FOOTER) else {
        return Ok(false);
    };
    let mut metadata = vec![0; length as usize];
    file.seek(SeekFrom::Start(start))?;
    file.read_exact(&mut metadata)?;
    let Ok(metadata) = ParquetMetaDataReader::decode_metadata(&metadata) else { return Ok(false) };
    // Values may look like a footer: this one is about what is before it.
    let is_before = |group: &parquet::file::metadata::RowGroupMetaData| {
        group.columns().iter().all(|column| {
            let (at, bytes) = column.byte_range();
            at.checked_add(bytes).is_some_and(|end| end <= start)
        })
    };
    Ok(metadata.num_row_groups() > 0 && metadata.row_groups().iter().all(is_before))
}
