//! The paths of cgroup v2 ids, which kernel programs give: looked up in the cgroup file system.

use std::fs;
use std::io;
use std::os::fd::{AsFd as _, AsRawFd as _, BorrowedFd, FromRawFd as _, OwnedFd};
use std::path::Path;

use wattrace_api::privilege::for_kernel_file;

use crate::Hierarchy;

/// What looks up the paths.
#[derive(Debug)]
pub struct CgroupIds {
    mount: String,
    root: OwnedFd,
}

impl CgroupIds {
    /// For the mounted hierarchy.
    ///
    /// # Errors
    /// There is none, or it cannot be opened.
    pub fn find() -> io::Result<Self> {
        let mount = Hierarchy::find()?.mount;
        let root = fs::File::open(&mount)?.into();
        Ok(Self { mount: mount.to_string_lossy().into_owned(), root })
    }

    /// The directory of the hierarchy's root, open to read.
    pub fn root(&self) -> BorrowedFd<'_> {
        self.root.as_fd()
    }

    /// The path of cgroup `id` below the mount, which begins with a slash; `None` if it is removed or may not
    /// be looked up.
    pub fn path(&self, id: u64) -> Option<String> {
        let dir = self.open(id)?;
        let path = fs::read_link(format!("/proc/self/fd/{}", dir.as_raw_fd())).ok()?;
        let path = path.to_string_lossy();
        let below = path.strip_prefix(self.mount.as_str()).unwrap_or(&path);
        Some(if below.is_empty() { "/" } else { below }.to_owned())
    }

    /// Whether cgroup `id` is there and may be looked up.
    pub fn exists(&self, id: u64) -> bool {
        self.open(id).is_some()
    }

    /// A cgroup's id is its file handle on cgroupfs (type `FILEID_KERNFS`).
    fn open(&self, id: u64) -> Option<OwnedFd> {
        #[repr(C)]
        struct Handle {
            bytes: u32,
            kind: i32,
            id: [u8; 8],
        }
        const FILEID_KERNFS: i32 = 0xfe;
        let mut handle = Handle { bytes: 8, kind: FILEID_KERNFS, id: id.to_ne_bytes() };
        let (mount, flags) = (self.root.as_raw_fd(), libc::O_PATH | libc::O_CLOEXEC);
        // SAFETY: `handle` has the layout of `struct file_handle` with eight bytes of handle, and outlives
        // the call.
        let open = || unsafe { libc::open_by_handle_at(mount, (&raw mut handle).cast(), flags) };
        // Wherever it is mounted, a handle leads to a cgroup.
        let descriptor = for_kernel_file(Path::new("/sys/fs/cgroup"), open);
        // SAFETY: the call has just returned this descriptor.
        (descriptor >= 0).then(|| unsafe { OwnedFd::from_raw_fd(descriptor) })
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt as _;

    use super::*;
    use crate::ScopedCgroup;

    #[test]
    fn a_cgroup_is_found_by_its_id_until_it_is_removed() {
        let name = format!("wattrace-test-ids-{}", std::process::id());
        let (Ok(ids), Ok(scoped)) = (CgroupIds::find(), ScopedCgroup::create(&name)) else {
            return eprintln!("skipped: there is no cgroup v2, or none may be created");
        };
        // The id of a cgroup is the number of its directory.
        let id = fs::metadata(scoped.cgroup().dir()).unwrap().ino();
        let Some(path) = ids.path(id) else {
            return eprintln!("skipped: no permission to open files by their handles");
        };
        assert!(path.starts_with('/') && path.ends_with(&format!("/{name}")), "{path}");
        assert!(ids.exists(id));
        drop(scoped);
        assert_eq!((ids.path(id), ids.exists(id)), (None, false));
    }
}
