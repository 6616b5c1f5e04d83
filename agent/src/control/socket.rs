//! The file of the control socket: only its owner may connect. A socket that a dead agent left behind is
//! replaced, one that an agent listens on is left alone, and ours is removed at the end.

use std::fs::{self, File, Metadata};
use std::io::{self, ErrorKind};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::net::{UnixListener, UnixSocket, UnixStream};

/// Maximum number of connections that wait to be accepted.
const BACKLOG: u32 = 16;

/// Size of `sun_path` without its terminating zero.
const MAX_PATH: usize = 107;

/// A listening socket. Dropping it removes its file.
#[derive(Debug)]
pub(super) struct Socket {
    pub(super) listener: UnixListener,
    path: PathBuf,
    /// Device and inode of the file.
    file: Option<(u64, u64)>,
}

/// What exists at a path that is in use.
enum Existing {
    /// A socket that nothing listens on.
    Stale,
    /// A socket that an agent listens on.
    InUse,
    NotASocket,
    Unknown(io::Error),
}

impl Socket {
    /// Listens on `path`. Creates its directory if it is missing.
    ///
    /// # Errors
    /// The cause, with the remedy.
    pub(super) async fn listen(path: &Path) -> Result<Self, String> {
        let length = path.as_os_str().as_bytes().len();
        if length > MAX_PATH {
            return Err(format!("is {length} bytes long; the path of a socket has at most {MAX_PATH}"));
        }
        let directory = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
        fs::create_dir_all(directory).map_err(|e| cannot(&format!("make {}", directory.display()), &e))?;
        let _lock = lock(directory).await;
        let socket = match bind(path) {
            Err(e) if e.kind() == ErrorKind::AddrInUse => match existing(path).await {
                Existing::Stale => {
                    fs::remove_file(path).and_then(|()| bind(path)).map_err(|e| cannot("replace it", &e))?
                }
                Existing::InUse => {
                    return Err("another agent listens there: choose another path for this one".into());
                }
                Existing::NotASocket => {
                    return Err("exists and is no socket: choose another path".into());
                }
                Existing::Unknown(e) => return Err(cannot("find out whether an agent listens there", &e)),
            },
            result => result.map_err(|e| cannot("listen", &e))?,
        };
        // Before listen(2) nobody can connect, so nobody connects without these permissions.
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
            // If this fails, the next agent replaces the file.
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

/// Locks the directory, so that agents that start at the same time check and bind one after the other. After
/// a second it goes on without the lock, since another program may hold one on the same directory.
async fn lock(directory: &Path) -> Option<File> {
    let directory = File::open(directory).ok()?;
    for _ in 0..20 {
        if directory.try_lock().is_ok() {
            return Some(directory);
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    None
}

async fn existing(path: &Path) -> Existing {
    if fs::symlink_metadata(path).is_ok_and(|file| !file.file_type().is_socket()) {
        return Existing::NotASocket;
    }
    match UnixStream::connect(path).await {
        // Its backlog is full.
        Err(e) if e.kind() == ErrorKind::WouldBlock => Existing::InUse,
        Err(e) if e.kind() == ErrorKind::ConnectionRefused => Existing::Stale,
        Err(e) => Existing::Unknown(e),
        Ok(_) => Existing::InUse,
    }
}
