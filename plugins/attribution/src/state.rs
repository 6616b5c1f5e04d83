//! What was learnt, kept across restarts in a file: readings of each domain, by its name and origin.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use tracing::{debug, warn};
use wattrace_api::Domain;

use crate::learner::Learner;

const SCHEMA: &str = "wattrace.attribution/2";

/// The file, if there is to be one.
#[derive(Debug)]
pub(crate) struct State {
    path: Option<PathBuf>,
    learnt: BTreeMap<String, Learner>,
    /// Whether it was said that the file cannot be written.
    warned: bool,
}

#[derive(Serialize, Deserialize)]
struct File<'a> {
    schema: String,
    #[serde(borrow)]
    domains: BTreeMap<std::borrow::Cow<'a, str>, Learner>,
}

impl State {
    /// Reads `path`, if there is such a file. One that makes no sense is left alone until it is written anew.
    pub(crate) fn open(path: Option<&Path>) -> Self {
        let learnt = path.map(read).unwrap_or_default();
        Self { path: path.map(Path::to_path_buf), learnt, warned: false }
    }

    /// What is known of `domain`.
    pub(crate) fn take(&mut self, domain: &Domain) -> Learner {
        self.learnt.remove(&key(domain)).unwrap_or_default()
    }

    /// The meter of `domain` has ended; it may come back.
    pub(crate) fn keep(&mut self, domain: &Domain, learner: Learner) {
        self.learnt.insert(key(domain), learner);
    }

    /// Writes the file anew: what is known of `domains`, and what was read of others.
    pub(crate) fn write<'a>(&mut self, domains: impl Iterator<Item = (&'a Domain, &'a Learner)>) {
        let Some(path) = &self.path else { return };
        let mut all: BTreeMap<_, _> =
            self.learnt.iter().map(|(k, l)| (k.as_str().into(), l.clone())).collect();
        all.extend(domains.map(|(domain, learner)| (key(domain).into(), learner.clone())));
        match write(path, &File { schema: SCHEMA.to_owned(), domains: all }) {
            Ok(()) => debug!("kept what was learnt in {}", path.display()),
            Err(e) if !std::mem::replace(&mut self.warned, true) => {
                warn!(
                    "plugins.attribution.state: cannot write {} ({e}); what is learnt of static power is forgotten at the end",
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

fn read(path: &Path) -> BTreeMap<String, Learner> {
    let text = match fs::read_to_string(path) {
        Ok(text) => text,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return BTreeMap::new(),
        Err(e) => {
            warn!("plugins.attribution.state: cannot read {} ({e}); learning anew", path.display());
            return BTreeMap::new();
        }
    };
    match serde_json::from_str::<File<'_>>(&text) {
        Ok(file) if file.schema == SCHEMA => {
            file.domains.into_iter().map(|(k, l)| (k.into_owned(), l)).collect()
        }
        Ok(file) => {
            warn!("{} is of schema {}, not {SCHEMA}; learning anew", path.display(), file.schema);
            BTreeMap::new()
        }
        Err(e) => {
            warn!("{} makes no sense ({e}); learning anew", path.display());
            BTreeMap::new()
        }
    }
}

/// Writes beside the file and renames: whoever reads it finds the old or the new one, whole.
fn write(path: &Path, file: &File<'_>) -> io::Result<()> {
    if let Some(directory) = path.parent() {
        fs::create_dir_all(directory)?;
    }
    let beside = path.with_extension("new");
    let mut new = fs::File::create(&beside)?;
    serde_json::to_writer(&new, file)?;
    new.write_all(b"\n")?;
    fs::rename(&beside, path)
}
