//! The memory of an array map, mapped into this process: reading an element is a load, not a system call.

use std::marker::PhantomData;
use std::os::fd::{AsFd as _, AsRawFd as _};

use aya::Ebpf;
use aya::maps::{Map, MapData};
use wattrace_common::Pod;

use super::error::{KernelError, failed, not_found};

/// The elements of an array map.
#[derive(Debug)]
pub(super) struct Mapped<T> {
    start: *mut u8,
    bytes: usize,
    len: usize,
    _elements: PhantomData<T>,
    // Programs refer to the map by its descriptor while they are loaded.
    _map: MapData,
}

// SAFETY: the mapping is shared memory, which any thread may read. Elements that the kernel may be writing
// are read volatile.
unsafe impl<T: Pod> Send for Mapped<T> {}

impl<T: Pod> Mapped<T> {
    /// Takes the map `name`, which has `len` elements of `T`, from the object.
    pub(super) fn take(ebpf: &mut Ebpf, name: &str, len: usize) -> Result<Self, KernelError> {
        let step = || format!("map the memory of {name}");
        let Some(Map::Array(map)) = ebpf.take_map(name) else {
            return Err(not_found(step(), "the eBPF object has no such array"));
        };
        let bytes = len * size_of::<T>();
        let (access, fd) = (libc::PROT_READ | libc::PROT_WRITE, map.fd().as_fd().as_raw_fd());
        // SAFETY: a new mapping of an open descriptor; the result is checked.
        let start = unsafe { libc::mmap(std::ptr::null_mut(), bytes, access, libc::MAP_SHARED, fd, 0) };
        if start == libc::MAP_FAILED {
            return Err(failed(step())(std::io::Error::last_os_error()));
        }
        Ok(Self { start: start.cast(), bytes, len, _elements: PhantomData, _map: map })
    }

    /// The number of elements.
    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// Element `index`, which must be less than the length. The kernel may be writing it.
    pub(super) fn at(&self, index: usize) -> *mut T {
        assert!(index < self.len, "element {index} of a map of {}", self.len);
        // SAFETY: within the mapping, as just checked.
        unsafe { self.start.add(index * size_of::<T>()).cast() }
    }

    /// `count` elements from `first` on.
    ///
    /// # Safety
    /// The kernel must not write them while the result lives.
    pub(super) unsafe fn slice(&self, first: usize, count: usize) -> &[T] {
        assert!(first + count <= self.len, "elements to {} of a map of {}", first + count, self.len);
        if count == 0 {
            return &[];
        }
        // SAFETY: within the mapping, and any bytes are a `T`. The caller guarantees that they do not change.
        unsafe { std::slice::from_raw_parts(self.at(first), count) }
    }
}

impl<T> Drop for Mapped<T> {
    fn drop(&mut self) {
        // SAFETY: this is the mapping made in `take`, and no pointer into it outlives a borrow of `self`.
        unsafe { libc::munmap(self.start.cast(), self.bytes) };
    }
}
