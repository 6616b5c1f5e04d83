//! The control socket's file. It is made for its owner alone, taken over from an agent that died, left to one
//! that lives, and removed at the end.

use std::fs::{self, File, Metadata};
use std::io::{self, ErrorKind};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::net::{UnixListener, UnixSocket, UnixStream};

/// Connections that may wait to be accepted.
const BACKLOG: u32 = 16;

/// What `sun_path` holds, less the zero at its end.
const LONGEST_PATH: usize = 107;

/// A socket that listens.
#[derive(Debug)]
pub(super) struct Socket {
    pub(super) listener: UnixListener,
    path: PathBuf,
    file: Option<(u64, u64)>,
}

/// Who holds a path that is taken.
enum Holder {
    Dead,
    Alive,
    NoSocket,
    Unknown(io::Error),
}

impl Socket {
    /// Listens on `path`; its directory is made if it is missing.
    ///
    /// # Errors
    /// Why that cannot be, with the remedy.
    pub(super) async fn listen(path: &Path) -> Result<Self, String> {
        let length = path.as_os_str().as_bytes().len();
        if length > LONGEST_PATH {
            return Err(format!("is {length} bytes long; a socket's path has {LONGEST_PATH} at most"));
        }
        let directory = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
        fs::create_dir_all(directory).map_err(|e| cannot(&format!("make {}", directory.display()), &e))?;
        let _turn = turn(directory).await;
        let socket = match bind(path) {
            Err(e) if e.kind() == ErrorKind::AddrInUse => match holder(path).await {
                Holder::Dead => {
                    fs::remove_file(path).and_then(|()| bind(path)).map_err(|e| cannot("replace it", &e))?
                }
                Holder::Alive => return Err("another agent listens there: give this one another path".into()),
                Holder::NoSocket => {
                    return Err("is there already and is no socket: choose another path".into());
                }
                Holder::Unknown(e) => return Err(cannot("look who listens there", &e)),
            },
            result => result.map_err(|e| cannot("listen", &e))?,
        };
        // Nobody can connect before it listens, so that nobody finds it without these permissions.
        fs::set_permissions(path, fs::Permissions::from_mode(0o600)).map_err(|e| cannot("chmod it", &e))?;
        let listener = socket.listen(BACKLOG).map_err(|e| cannot("listen", &e))?;
        let file = fs::symlink_metadata(path).ok().map(|m| identity(&m));
        Ok(Self { listener, path: path.to_owned(), file })
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        let now = fs::symlink_metadata(&self.path).ok().map(|m| identity(&m));
        if now.is_some() && now == self.file {
            // At worst it is left behind, and the next agent replaces it.
            _ = fs::remove_file(&self.path);
        }
    }
}

fn cannot(what: &str, e: &io::Error) -> String {
    match e.kind() {
        ErrorKind::PermissionDenied => {
            format!("cannot {what}: {e}: run as root, or choose a path in a directory of your own")
        }
        _ => format!("cannot {what}: {e}"),
    }
}

fn identity(file: &Metadata) -> (u64, u64) {
    (file.dev(), file.ino())
}

fn bind(path: &Path) -> io::Result<UnixSocket> {
    let socket = UnixSocket::new_stream()?;
    socket.bind(path)?;
    Ok(socket)
}

/// Agents that start at the same time look and bind one after the other. Whoever else holds the lock on the
/// directory holds nobody up for long: what it guards against is rare.
async fn turn(directory: &Path) -> Option<File> {
    let directory = File::open(directory).ok()?;
    for _ in 0..20 {
        if directory.try_lock().is_ok() {
            return Some(directory);
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    None
}

async fn holder(path: &Path) -> Holder {
    if fs::symlink_metadata(path).is_ok_and(|file| !file.file_type().is_socket()) {
        return Holder::NoSocket;
    }
    match UnixStream::connect(path).await {
        // Alive, with as many waiting as it lets wait.
        Err(e) if e.kind() == ErrorKind::WouldBlock => Holder::Alive,
        Err(e) if e.kind() == ErrorKind::ConnectionRefused => Holder::Dead,
        Err(e) => Holder::Unknown(e),
        Ok(_) => Holder::Alive,
    }
}
