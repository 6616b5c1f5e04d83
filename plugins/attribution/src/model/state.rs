//! The state file, which keeps what was learnt of each domain across restarts, by the domain's name and
//! origin.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use tracing::{debug, warn};
use wattrace_api::{Domain, files};

use super::learner::Learner;

const SCHEMA: &str = "wattrace.attribution/2";

/// The state file, if one is configured, and what it holds of domains without an account.
#[derive(Debug)]
pub(crate) struct StateFile {
    path: Option<PathBuf>,
    learnt: BTreeMap<String, Learner>,
    /// The log already has the warning that the file cannot be written.
    warned: bool,
}

#[derive(Serialize, Deserialize)]
struct Contents<'a> {
    schema: String,
    #[serde(borrow)]
    domains: BTreeMap<std::borrow::Cow<'a, str>, Learner>,
}

impl StateFile {
    /// Reads `path`, if the file exists. An unreadable one is kept until it is replaced by the next write.
    pub(crate) fn open(path: Option<&Path>) -> Self {
        let learnt = path.map(read).unwrap_or_default();
        Self { path: path.map(Path::to_path_buf), learnt, warned: false }
    }

    /// Takes what is known of `domain`, for its account.
    pub(crate) fn take(&mut self, domain: &Domain) -> Learner {
        self.learnt.remove(&key(domain)).unwrap_or_default()
    }

    /// Keeps what was learnt of `domain`, whose meter has ended and may return.
    pub(crate) fn keep(&mut self, domain: &Domain, learner: Learner) {
        self.learnt.insert(key(domain), learner);
    }

    /// Replaces the file: what is known of `domains`, and what is kept of others.
    pub(crate) fn write<'a>(&mut self, domains: impl Iterator<Item = (&'a Domain, &'a Learner)>) {
        let Some(path) = &self.path else { return };
        let mut all: BTreeMap<_, _> =
            self.learnt.iter().map(|(k, l)| (k.as_str().into(), l.clone())).collect();
        all.extend(domains.map(|(domain, learner)| (key(domain).into(), learner.clone())));
        match write(path, &Contents { schema: SCHEMA.to_owned(), domains: all }) {
            Ok(()) => debug!("wrote what was learnt to {}", path.display()),
            Err(e) if !std::mem::replace(&mut self.warned, true) => {
                warn!(
                    "plugins.attribution.state: cannot write {} ({e}); what is learnt is lost at the end; \
                     make its directory writable, or name another file",
                    path.display()
                );
            }
            Err(_) => {}
        }
    }
}

fn key(domain: &Domain) -> String {
    format!("{} {}", domain.name, domain.origin.as_str())
}

/// A longer file is not one of these.
const MAX_SIZE: u64 = 16 << 20;

fn read(path: &Path) -> BTreeMap<String, Learner> {
    let text = match files::read_text(path, MAX_SIZE) {
        Ok(text) => text,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return BTreeMap::new(),
        Err(e) => {
            warn!("plugins.attribution.state: cannot read {} ({e}); learning from the start", path.display());
            return BTreeMap::new();
        }
    };
    match serde_json::from_str::<Contents<'_>>(&text) {
        Ok(file) if file.schema == SCHEMA => {
            file.domains.into_iter().map(|(k, l)| (k.into_owned(), l)).collect()
        }
        Ok(file) => {
            warn!("{} is of schema {}, not {SCHEMA}; learning from the start", path.display(), file.schema);
            BTreeMap::new()
        }
        Err(e) => {
            warn!("{} cannot be parsed ({e}); learning from the start", path.display());
            BTreeMap::new()
        }
    }
}

/// Writes another file and renames it, so that a reader sees either the old or the new contents.
fn write(path: &Path, file: &Contents<'_>) -> io::Result<()> {
    if let Some(directory) = path.parent() {
        fs::create_dir_all(directory)?;
    }
    let beside = path.with_extension("new");
    let mut new = fs::File::create(&beside)?;
    serde_json::to_writer(&new, file)?;
    new.write_all(b"\n")?;
    fs::rename(&beside, path)
}
