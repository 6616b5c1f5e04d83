//! Rotated files: `energy.20261127T140000Z.csv` beside `energy.csv`. A thread compresses them and deletes the
//! oldest. All of it can be interrupted anywhere: a file is complete in one of its two forms, and the next
//! start takes up the rest.

use std::fs::TryLockError;
use std::io::{self, Read as _};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::JoinHandle;

use rustix::fs::OFlags;
use tracing::{info, warn};

use crate::output_path::OutputPath;
use crate::place::Place;
use crate::rotation::{Compression, Rotation};

const COMPRESSED: &str = ".zst";
const UNFINISHED: &str = ".zst.part";

/// The names of the rotated files of a path.
pub(crate) struct Names {
    /// `energy.`
    before: String,
    /// `.csv`
    after: String,
}

/// A rotated file.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Rotated {
    /// When it was rotated, in seconds since the Unix epoch.
    pub(crate) second: u64,
    /// Empty, or what follows the name of a file as it was written.
    form: String,
    name: String,
}

impl Names {
    pub(crate) fn of(place: &Place) -> Self {
        let path = place.path();
        let text = |part: Option<&std::ffi::OsStr>| part.unwrap_or_default().to_string_lossy().into_owned();
        let extension = text(path.extension());
        let after = if extension.is_empty() { extension } else { format!(".{extension}") };
        Self { before: format!("{}.", text(path.file_stem())), after }
    }

    /// The name of a file that is rotated at `second`.
    pub(crate) fn name(&self, second: u64) -> String {
        let time = jiff::Timestamp::from_second(i64::try_from(second).unwrap_or(0)).unwrap_or_default();
        format!("{}{}{}", self.before, time.strftime("%Y%m%dT%H%M%SZ"), self.after)
    }

    fn read(&self, name: &str) -> Option<Rotated> {
        let rest = name.strip_prefix(&self.before)?;
        let (time, form) = rest.split_at_checked(16)?;
        let form = form.strip_prefix(&self.after)?;
        if !["", COMPRESSED, UNFINISHED].contains(&form) {
            return None;
        }
        let time = jiff::civil::DateTime::strptime("%Y%m%dT%H%M%SZ", time).ok()?;
        let second = time.to_zoned(jiff::tz::TimeZone::UTC).ok()?.timestamp().as_second();
        Some(Rotated { second: u64::try_from(second).ok()?, form: form.to_owned(), name: name.to_owned() })
    }

    /// All rotated files beside `place`, the oldest first.
    pub(crate) fn list(&self, place: &Place) -> io::Result<Vec<Rotated>> {
        let names = place.siblings()?;
        let mut all: Vec<_> = names.iter().filter_map(|name| self.read(name.to_str()?)).collect();
        all.sort_unstable();
        Ok(all)
    }
}

/// The thread that looks after rotated files.
pub(crate) struct Archive {
    jobs: Option<SyncSender<()>>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Archive {
    pub(crate) fn start(rotation: Rotation, path: OutputPath) -> Self {
        // One waiting job is enough: each looks after all files.
        let (jobs, inbox) = sync_channel(1);
        let stop = Arc::new(AtomicBool::new(false));
        let keeper = Keeper { rotation, path: path.clone(), stop: stop.clone() };
        let thread = std::thread::Builder::new().name("archive".into()).spawn(move || keeper.run(&inbox));
        if let Err(e) = &thread {
            warn!("{}", path.message(format_args!("rotated files stay as they are: no thread: {e}")));
        }
        Self { jobs: Some(jobs), stop, thread: thread.ok() }
    }

    /// Compresses and deletes what there is, in the background.
    pub(crate) fn tidy(&self) {
        // If a job waits, it will see all files.
        let _ = self.jobs.as_ref().map(|jobs| jobs.try_send(()));
    }
}

impl Drop for Archive {
    fn drop(&mut self) {
        self.stop.store(true, Relaxed);
        self.jobs = None;
        // It ends after the piece that it compresses. A panic has been reported.
        let _ = self.thread.take().map(JoinHandle::join);
    }
}

struct Keeper {
    rotation: Rotation,
    path: OutputPath,
    stop: Arc<AtomicBool>,
}

impl Keeper {
    fn run(&self, inbox: &Receiver<()>) {
        // On Linux this is about the thread.
        let _ = rustix::process::nice(10);
        while inbox.recv().is_ok() {
            if let Err(e) = self.tidy() {
                warn!("{}", self.path.message(format_args!("rotated files stay as they are: {e}")));
            }
        }
    }

    fn tidy(&self) -> io::Result<()> {
        let place = Place::find(&self.path.path)?;
        let names = Names::of(&place);
        // Unfinished files of earlier runs first: their names are needed.
        let (unfinished, files): (Vec<_>, Vec<_>) =
            names.list(&place)?.into_iter().partition(|rotated| rotated.form == UNFINISHED);
        for rotated in &unfinished {
            place.sibling(rotated.name.clone().into())?.remove()?;
        }
        let is_wanted = self.rotation.compression == Compression::Zstd;
        for rotated in files.iter().filter(|rotated| is_wanted && rotated.form.is_empty()) {
            if self.stop.load(Relaxed) {
                return Ok(());
            }
            self.compress(&place.sibling(rotated.name.clone().into())?, &rotated.name)?;
        }
        let files = names.list(&place)?;
        let most = if self.rotation.keep == 0 { usize::MAX } else { self.rotation.keep };
        for old in &files[..files.len().saturating_sub(most)] {
            place.sibling(old.name.clone().into())?.remove()?;
            info!("{}", self.path.message(format_args!("deleted {}: rotate_keep is {most}", old.name)));
        }
        Ok(())
    }

    /// Replaces a file by its compressed form, which appears complete and durable.
    fn compress(&self, file: &Place, name: &str) -> io::Result<()> {
        let (done, part) = (
            file.sibling(format!("{name}{COMPRESSED}").into())?,
            file.sibling(format!("{name}{UNFINISHED}").into())?,
        );
        if done.kind()?.is_some() {
            // The agent was stopped between the last two steps.
            return file.remove();
        }
        let mut source = file.open(OFlags::RDONLY)?;
        if let Err(TryLockError::WouldBlock) = source.try_lock() {
            // Somebody still writes to it.
            return Ok(());
        }
        let target = part.open(OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL)?;
        let mut encoder = zstd::Encoder::new(target, zstd::DEFAULT_COMPRESSION_LEVEL)?;
        encoder.include_checksum(true)?;
        let mut piece = vec![0; 256 * 1024];
        loop {
            let length = source.read(&mut piece)?;
            if length == 0 {
                break;
            }
            io::Write::write_all(&mut encoder, &piece[..length])?;
            if self.stop.load(Relaxed) {
                return part.remove();
            }
        }
        encoder.finish()?.sync_all()?;
        part.rename_to(&done)?;
        file.remove()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    fn names(path: &Path) -> Names {
        Names::of(&Place::find(path).unwrap())
    }

    #[test]
    fn names_are_read_back_and_those_of_others_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        for (file, name) in [("a.b.csv", "a.b.20261127T140000Z.csv"), ("log", "log.20261127T140000Z")] {
            let names = names(&dir.path().join(file));
            assert_eq!(names.name(1_795_788_000), name);
            for form in ["", COMPRESSED, UNFINISHED] {
                let read = names.read(&format!("{name}{form}")).unwrap();
                assert_eq!((read.second, &*read.form), (1_795_788_000, form));
            }
            for other in ["x", "log.1", "a.b.csv.1", "a.b.20261327T140000Z.csv", &format!("{name}.gz")] {
                assert_eq!(names.read(other), None, "{other}");
            }
        }
    }
}
