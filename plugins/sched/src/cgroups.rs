//! The paths of cgroup v2 ids: logged by the kernel programs when a cgroup is created, otherwise looked up in
//! the cgroup file system.

use std::fs;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::path::Path;
use std::sync::Arc;

use rustc_hash::FxHashMap;
use wattrace_api::privilege::for_kernel_file;

/// Paths by id. Each is looked up once.
#[derive(Default)]
pub(crate) struct Cgroups {
    mount: Option<(String, OwnedFd)>,
    paths: FxHashMap<u64, Option<Arc<str>>>,
}

/// Cgroups come and go. When this many are known, all are forgotten.
const MAX_PATHS: usize = 8192;

impl Cgroups {
    pub(crate) fn new() -> Self {
        let mounts = fs::read_to_string("/proc/mounts").unwrap_or_default();
        let point = mounts.lines().find_map(|line| {
            let mut fields = line.split(' ').skip(1);
            let (point, kind) = (fields.next()?, fields.next()?);
            (kind == "cgroup2").then(|| point.to_string())
        });
        let open = |point: String| {
            let dir = fs::File::open(&point).ok()?;
            Some((point, dir.into()))
        };
        Self { mount: point.and_then(open), paths: FxHashMap::default() }
    }

    /// A cgroup was created. Its path stays known after the cgroup is removed.
    pub(crate) fn created(&mut self, id: u64, path: &str) {
        if !path.is_empty() {
            self.forget_if_full();
            self.paths.insert(id, Some(path.into()));
        }
    }

    fn forget_if_full(&mut self) {
        if self.paths.len() >= MAX_PATHS {
            self.paths.clear();
        }
    }

    /// The path of cgroup `id` below the cgroup v2 mount; `None` if it is removed or may not be looked up.
    pub(crate) fn path(&mut self, id: u64) -> Option<Arc<str>> {
        self.forget_if_full();
        let mount = self.mount.as_ref();
        let look_up = || {
            let (point, dir) = mount?;
            let path = path_of_handle(dir, id)?;
            let below = path.strip_prefix(point.as_str()).unwrap_or(&path);
            Some(if below.is_empty() { "/" } else { below }.into())
        };
        self.paths.entry(id).or_insert_with(look_up).clone()
    }
}

/// A cgroup's id is its file handle on cgroupfs (type `FILEID_KERNFS`).
fn path_of_handle(mount: &OwnedFd, id: u64) -> Option<String> {
    #[repr(C)]
    struct Handle {
        bytes: u32,
        kind: i32,
        id: [u8; 8],
    }
    const FILEID_KERNFS: i32 = 0xfe;
    let mut handle = Handle { bytes: 8, kind: FILEID_KERNFS, id: id.to_ne_bytes() };
    // SAFETY: `handle` has the layout of `struct file_handle` with eight bytes of handle, and outlives the
    // call.
    let open = || unsafe {
        libc::open_by_handle_at(mount.as_raw_fd(), (&raw mut handle).cast(), libc::O_PATH | libc::O_CLOEXEC)
    };
    // Wherever it is mounted, a handle leads to a cgroup.
    let fd = for_kernel_file(Path::new("/sys/fs/cgroup"), open);
    if fd < 0 {
        return None;
    }
    // SAFETY: the call has just returned this descriptor.
    let dir = unsafe { OwnedFd::from_raw_fd(fd) };
    let path = fs::read_link(format!("/proc/self/fd/{}", dir.as_raw_fd())).ok()?;
    Some(path.to_string_lossy().into_owned())
}
