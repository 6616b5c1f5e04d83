//! A client's TLS whose PEM files may be replaced while it runs, as certificates with a short life are.
//! Connections that are open go on; the next one has the new certificates. `connect` asks before each
//! connection.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use rustls::ClientConfig;
use tracing::{info, warn};

use crate::tls::{ClientTls, TlsError, Trust};

/// See the module.
#[derive(Debug)]
pub struct ReloadingTls {
    tls: ClientTls,
    protocols: Vec<Vec<u8>>,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    config: Arc<ClientConfig>,
    /// The files as they were when they were read last, usable or not.
    read: Vec<Version>,
}

/// What changes when a file is replaced or written: of which file system, which file, its length, and when it
/// was modified. `None`: it cannot be found.
type Version = Option<(u64, u64, u64, i64, i64)>;

impl ReloadingTls {
    /// A configuration that offers `protocols` (ALPN), none if it is empty.
    ///
    /// # Errors
    /// A file that cannot be used; a system without roots.
    pub fn new(tls: ClientTls, protocols: &[&[u8]]) -> Result<Self, TlsError> {
        // Before the files: what changes in between is read again.
        let read = versions(&tls);
        let config = tls.config(protocols)?;
        let protocols = protocols.iter().map(|protocol| protocol.to_vec()).collect();
        Ok(Self { tls, protocols, state: Mutex::new(State { config, read }) })
    }

    /// The present configuration. It reads files if they have changed: not to be called on a worker of an
    /// async runtime. Files that cannot be used, as when only one of two is replaced yet, are logged once,
    /// and the configuration stays as it was.
    pub fn current(&self) -> Arc<ClientConfig> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let now = versions(&self.tls);
        if state.read != now {
            state.read = now;
            let protocols: Vec<_> = self.protocols.iter().map(Vec::as_slice).collect();
            match self.tls.config(&protocols) {
                Ok(config) => {
                    info!("the TLS certificates have changed: new connections use them");
                    state.config = config;
                }
                Err(e) => {
                    warn!("the TLS certificates have changed but cannot be used, the old ones stay: {e}")
                }
            }
        }
        state.config.clone()
    }
}

fn versions(tls: &ClientTls) -> Vec<Version> {
    let authority = match &tls.trust {
        Trust::Authority(path) => Some(path),
        Trust::System | Trust::Anyone => None,
    };
    let own = tls.identity.iter().flat_map(|identity| [&identity.certificate, &identity.key]);
    authority.into_iter().chain(own).map(PathBuf::as_path).map(version).collect()
}

fn version(path: &Path) -> Version {
    let file = fs::metadata(path).ok()?;
    Some((file.dev(), file.ino(), file.len(), file.mtime(), file.mtime_nsec()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::Authority;

    #[test]
    fn a_configuration_is_made_again_when_a_file_has_changed_and_kept_while_it_cannot_be_used() {
        let directory = tempfile::tempdir().unwrap();
        let (first, second) = (Authority::new(), Authority::new());
        let path = first.write(directory.path(), "authority.pem");
        let identity = first.issue(directory.path(), "own", "agent");
        let tls = ClientTls { trust: Trust::Authority(path.clone()), identity: Some(identity.clone()) };
        let reloading = ReloadingTls::new(tls, &[b"h2"]).unwrap();
        let is_same = |a: &Arc<ClientConfig>, b: &Arc<ClientConfig>| Arc::ptr_eq(a, b);

        let one = reloading.current();
        assert!(is_same(&one, &reloading.current()), "read once");
        // Replaced by a rename, as a secret of Kubernetes is.
        fs::write(directory.path().join("new.pem"), second.pem()).unwrap();
        fs::rename(directory.path().join("new.pem"), &path).unwrap();
        let two = reloading.current();
        assert!(!is_same(&one, &two) && two.alpn_protocols == [b"h2"]);
        // Only one of the two files is there yet: the certificate's key is missing.
        let key = fs::read(&identity.key).unwrap();
        fs::remove_file(&identity.key).unwrap();
        assert!(is_same(&two, &reloading.current()), "the old ones stay");
        assert!(is_same(&two, &reloading.current()));
        fs::write(&identity.key, key).unwrap();
        assert!(!is_same(&two, &reloading.current()));
    }
}
