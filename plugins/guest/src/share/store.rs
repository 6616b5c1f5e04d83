//! The machines' files. Each is replaced atomically, so that a reader never sees half a message.

use std::fs::{self, File};
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};

use tracing::{debug, warn};
use wattrace_api::{Error, files};

use super::machine::Message;
use crate::message::{FILE, MAX_LENGTH, SOCKET, Share, directory_name};

/// The machines' directories below one directory.
pub(super) struct Store {
    root: PathBuf,
}

impl Store {
    pub(super) fn new(root: &Path) -> Self {
        Self { root: root.to_owned() }
    }

    /// The messages of earlier runs, by directory: the counters continue from them. A file that cannot be
    /// read is logged, and its counters start from zero.
    pub(super) fn read_all(&self) -> Vec<(String, Share)> {
        let entries = match fs::read_dir(&self.root) {
            Ok(entries) => entries,
            Err(e) => {
                debug!(
                    "plugins.guest-share.directory: {}: {e}; starts without machines",
                    self.root.display()
                );
                return Vec::new();
            }
        };
        let mut all = Vec::new();
        for directory in entries.flatten().map(|entry| entry.path()) {
            let path = directory.join(FILE);
            let Ok(text) = files::read_text(&path, MAX_LENGTH) else { continue };
            let name = directory.file_name().and_then(|name| name.to_str()).unwrap_or_default();
            match Share::parse(&text) {
                Ok(share) if directory_name(&share.machine).as_deref() == Some(name) => {
                    all.push((name.to_owned(), share));
                }
                Ok(share) => warn!(
                    "{}: is about {}, which has another directory; ignored",
                    path.display(),
                    share.machine
                ),
                Err(e) => warn!("{}: {e}; this machine's counters start from zero", path.display()),
            }
        }
        all
    }

    /// Replaces a machine's file. The machine may be able to write in its directory, so a link in the place
    /// of the new file is removed, and not followed.
    pub(super) fn write(&self, directory: &str, message: &Message) -> Result<(), Error> {
        let directory = self.root.join(directory);
        let (new, path) = (directory.join(".share.json.new"), directory.join(FILE));
        fs::create_dir_all(&directory)
            .and_then(|()| match fs::remove_file(&new) {
                Err(e) if e.kind() != ErrorKind::NotFound => Err(e),
                _ => File::create_new(&new),
            })
            .and_then(|mut file| file.write_all(message.share.to_line().as_bytes()))
            .and_then(|()| fs::rename(&new, &path))
            .map_err(|e| {
                Error::retry(format!(
                    "plugins.guest-share.directory: {}: {e}; may this user write there?",
                    path.display()
                ))
            })
    }

    /// The path of a machine's socket.
    pub(super) fn socket(&self, directory: &str) -> PathBuf {
        self.root.join(directory).join(SOCKET)
    }

    /// Removes a machine's file, and its directory if that is empty then.
    pub(super) fn remove(&self, directory: &str) {
        let directory = self.root.join(directory);
        for result in [fs::remove_file(directory.join(FILE)), fs::remove_dir(&directory)] {
            if let Err(e) = result {
                debug!("{}: {e}", directory.display());
            }
        }
    }
}
