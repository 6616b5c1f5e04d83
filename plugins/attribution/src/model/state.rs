//! The state file, which keeps what was learnt of each domain across restarts: by machine, by the domain's
//! name and by its origin.
//!
//! Several agents may use one file: a daemon, and commands that run beside it. Each writes all that it knows
//! over what is there, but of each domain the learner stays that has learnt from more observations. So a
//! command of a second does not replace what a daemon has learnt in a month.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read as _, Write};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustix::fs::OFlags;
use serde::{Deserialize, Serialize};
use tracing::{debug, info, warn};
use wattrace_api::{Domain, Origin};
use wattrace_text_output::Place;

use super::learner::Learner;
use super::machine;

const SCHEMA: &str = "wattrace.attribution/4";

/// A longer file is not one of these.
const MAX_SIZE: u64 = 16 << 20;

/// Machines that one file keeps: those that wrote last. A home directory may be shared by a cluster.
const MAX_MACHINES: usize = 32;

/// How often, and after what time, another agent's lock is looked at again.
const LOCK_TRIES: u32 = 20;
const LOCK_WAIT: Duration = Duration::from_millis(5);

/// The state file, if there is one, and what it holds of domains without an account.
#[derive(Debug)]
pub(crate) struct StateFile {
    path: Option<PathBuf>,
    machine: String,
    learnt: BTreeMap<String, Learner>,
    /// The log already has the message that the file cannot be written.
    reported: bool,
}

/// What of a file can be read whatever its schema is.
#[derive(Deserialize)]
struct Schema {
    schema: String,
}

#[derive(Serialize, Deserialize)]
struct Contents {
    schema: String,
    /// By [`machine::key`].
    machines: BTreeMap<String, Machine>,
}

impl Default for Contents {
    fn default() -> Self {
        Self { schema: SCHEMA.to_owned(), machines: BTreeMap::new() }
    }
}

#[derive(Default, Serialize, Deserialize)]
struct Machine {
    /// When it was last written, in seconds since 1970.
    written: u64,
    domains: BTreeMap<String, Learner>,
}

impl StateFile {
    /// Reads what `path` has of this machine, if the file exists. One that cannot be read is reported, and
    /// replaced by the next write.
    pub(crate) fn open(path: Option<PathBuf>) -> Self {
        let machine = machine::key();
        let contents = path.as_deref().map(|path| read(path).unwrap_or_else(|e| forgotten(path, &e)));
        let of_this = contents.and_then(|mut contents| contents.machines.remove(&machine));
        Self { path, learnt: of_this.unwrap_or_default().domains, machine, reported: false }
    }

    /// Takes what is known of `domain`, for its account.
    pub(crate) fn take(&mut self, domain: &Domain) -> Learner {
        self.learnt.remove(&key(domain)).unwrap_or_default()
    }

    /// Keeps what was learnt of `domain`, whose meter has ended and may return.
    pub(crate) fn keep(&mut self, domain: &Domain, learner: Learner) {
        if is_kept(domain) {
            self.learnt.insert(key(domain), learner);
        }
    }

    /// Replaces the file: what is known of `domains`, and what is kept of others.
    pub(crate) fn write<'a>(&mut self, domains: impl Iterator<Item = (&'a Domain, &'a Learner)>) {
        let Some(path) = &self.path else { return };
        let mut known = self.learnt.clone();
        known.extend(domains.filter(|(d, _)| is_kept(d)).map(|(d, learner)| (key(d), learner.clone())));
        known.retain(|_, learner| learner.observations() > 0);
        if known.is_empty() {
            return;
        }
        match replace(path, &self.machine, known) {
            Ok(()) => debug!("wrote what was learnt to {}", path.display()),
            Err(e) if !std::mem::replace(&mut self.reported, true) => info!(
                "plugins.attribution.state: cannot write {} ({e}), so what is learnt is lost at the end; \
                 make its directory writable, name another file, or set \"none\"",
                path.display()
            ),
            Err(_) => {}
        }
    }
}

fn key(domain: &Domain) -> String {
    format!("{} {}", domain.name, domain.origin.as_str())
}

/// Whether what is learnt of a domain is worth keeping: an estimate's power follows from usage, and its idle
/// power is given.
fn is_kept(domain: &Domain) -> bool {
    domain.origin != Origin::Estimated
}

fn forgotten(path: &Path, e: &io::Error) -> Contents {
    if e.kind() != io::ErrorKind::NotFound {
        warn!("plugins.attribution.state: {}: {e}; learning from the start", path.display());
    }
    Contents::default()
}

/// What the file holds. Domains whose numbers are impossible are left out.
fn read(path: &Path) -> io::Result<Contents> {
    // A link is not followed where others could have put it.
    let file = Place::find(path)?.open(OFlags::RDONLY | OFlags::NONBLOCK)?;
    if !file.metadata()?.is_file() {
        return Err(io::Error::other("it is no regular file"));
    }
    let mut text = Vec::new();
    file.take(MAX_SIZE).read_to_end(&mut text)?;
    let Schema { schema } = serde_json::from_slice(&text)?;
    if schema != SCHEMA {
        return Err(io::Error::other(format!("it is of schema {schema}, not {SCHEMA}")));
    }
    let mut contents: Contents = serde_json::from_slice(&text)?;
    contents.machines.values_mut().for_each(|machine| machine.domains.retain(|_, l| l.is_possible()));
    Ok(contents)
}

/// Adds what is `known` on `machine` to the file, and replaces it: a reader sees the old or the new contents.
fn replace(path: &Path, machine: &str, known: BTreeMap<String, Learner>) -> io::Result<()> {
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    DirBuilder::new().recursive(true).mode(0o750).create(parent)?;
    let path = Place::find(path)?.path();
    let directory = path.parent().unwrap_or(Path::new("/"));
    // Held until the file is replaced, so that no other agent's is lost in between.
    let _lock = lock(directory)?;
    let mut contents = read(&path).unwrap_or_default();
    let of_this = contents.machines.entry(machine.to_owned()).or_default();
    let mut is_news = false;
    for (domain, learner) in known {
        let there = of_this.domains.get(&domain).map_or(0, Learner::observations);
        if learner.observations() > there {
            of_this.domains.insert(domain, learner);
            is_news = true;
        }
    }
    if !is_news {
        return Ok(());
    }
    of_this.written = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    while contents.machines.len() > MAX_MACHINES
        && let Some(oldest) = contents.machines.iter().min_by_key(|(_, machine)| machine.written)
    {
        let oldest = oldest.0.clone();
        contents.machines.remove(&oldest);
    }
    // Beside it, because only within a file system a rename replaces at once.
    let mut name = OsString::from(".");
    name.push(path.file_name().unwrap_or_default());
    name.push(format!(".{}", std::process::id()));
    let beside = directory.join(name);
    let written = create(&beside).and_then(|mut file| {
        serde_json::to_writer(&mut file, &contents)?;
        file.write_all(b"\n")?;
        fs::rename(&beside, &path)
    });
    written.inspect_err(|_| _ = fs::remove_file(&beside))
}

/// Creates a file that only its owner and group read. What is there is removed, not opened: others may have
/// put it there.
fn create(path: &Path) -> io::Result<File> {
    let create = || OpenOptions::new().write(true).create_new(true).mode(0o640).open(path);
    create().or_else(|e| match e.kind() {
        io::ErrorKind::AlreadyExists => fs::remove_file(path).and_then(|()| create()),
        _ => Err(e),
    })
}

/// Locks a directory against other agents. In one that others can read they can hold the lock as long as they
/// like: after a moment it goes on without.
fn lock(directory: &Path) -> io::Result<File> {
    let directory = File::open(directory)?;
    for _ in 0..LOCK_TRIES {
        if directory.try_lock().is_ok() {
            break;
        }
        std::thread::sleep(LOCK_WAIT);
    }
    Ok(directory)
}

#[cfg(test)]
#[path = "state_tests.rs"]
mod tests;
