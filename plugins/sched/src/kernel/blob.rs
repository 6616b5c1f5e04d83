//! The kernel's type information in memory: mapped, which kernels from 6.16 on can do, or else read, which
//! takes a system call a page and its size of our own memory.

use std::fs::File;
use std::io::{self, Read as _};
use std::ops::Deref;
use std::os::fd::AsRawFd as _;
use std::path::Path;
use std::ptr::NonNull;

/// A file's content.
pub(super) enum Blob {
    Mapped(Mapping),
    Read(Vec<u8>),
}

/// Memory that is unmapped when this is dropped.
pub(super) struct Mapping {
    start: NonNull<u8>,
    len: usize,
}

impl Blob {
    /// The content of a file that does not change.
    pub(super) fn of(path: impl AsRef<Path>) -> io::Result<Self> {
        let mut file = File::open(path)?;
        let len = usize::try_from(file.metadata()?.len()).unwrap_or_default();
        if let Some(mapping) = Mapping::of(&file, len) {
            return Ok(Self::Mapped(mapping));
        }
        let mut content = Vec::with_capacity(len);
        file.read_to_end(&mut content)?;
        Ok(Self::Read(content))
    }
}

impl Deref for Blob {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match self {
            // SAFETY: mapped for reading until it is dropped, and nobody writes there.
            Self::Mapped(mapping) => unsafe {
                std::slice::from_raw_parts(mapping.start.as_ptr(), mapping.len)
            },
            Self::Read(content) => content,
        }
    }
}

impl Mapping {
    /// `None`: the kernel cannot map it.
    fn of(file: &File, len: usize) -> Option<Self> {
        let (read, private) = (libc::PROT_READ, libc::MAP_PRIVATE);
        // SAFETY: a new mapping. It is as long as the file, which the kernel does not shorten.
        let start = unsafe { libc::mmap(std::ptr::null_mut(), len, read, private, file.as_raw_fd(), 0) };
        if start == libc::MAP_FAILED {
            return None;
        }
        NonNull::new(start.cast()).map(|start| Self { start, len })
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: mapped in `of`, and nothing borrows from it any more.
        unsafe { libc::munmap(self.start.as_ptr().cast(), self.len) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_mapped_is_read() {
        // Files of /proc cannot, and have no size.
        let Ok(blob) = Blob::of("/proc/version") else { panic!("not read") };
        assert!(matches!(blob, Blob::Read(_)));
        assert_eq!(*blob, *std::fs::read("/proc/version").unwrap());
    }

    #[test]
    fn the_kernels_types_are_the_same_either_way() {
        const PATH: &str = "/sys/kernel/btf/vmlinux";
        let Ok(read) = std::fs::read(PATH) else { return eprintln!("skipped: this kernel has no BTF") };
        assert!(*Blob::of(PATH).unwrap() == *read);
    }
}
