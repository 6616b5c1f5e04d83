//! An array map's memory, mapped: reading an element is a load, not a system call.

use std::marker::PhantomData;
use std::os::fd::{AsFd as _, AsRawFd as _};

use aya::Ebpf;
use aya::maps::{Map, MapData};

use super::{KernelError, refused};

/// The elements of an array map.
#[derive(Debug)]
pub(super) struct Mapped<T> {
    start: *mut u8,
    bytes: usize,
    len: usize,
    _elements: PhantomData<T>,
    // Keeps the map's descriptor, as other holders of the map expect.
    _map: MapData,
}

// SAFETY: the mapping is shared memory that any thread may read; what may be written meanwhile is read
// volatile.
unsafe impl<T> Send for Mapped<T> {}

impl<T> Mapped<T> {
    /// Takes the map `name`, which has `len` elements of `T`, from the object.
    pub(super) fn take(ebpf: &mut Ebpf, name: &str, len: usize) -> Result<Self, KernelError> {
        let Some(Map::Array(map)) = ebpf.take_map(name) else {
            return Err(refused(format!("find the map {name} in the eBPF object"))(
                "it is missing or no array",
            ));
        };
        let bytes = len * size_of::<T>();
        let (readable, fd) = (libc::PROT_READ | libc::PROT_WRITE, map.fd().as_fd().as_raw_fd());
        // SAFETY: a fresh mapping of a descriptor that is open; the result is checked.
        let start = unsafe { libc::mmap(std::ptr::null_mut(), bytes, readable, libc::MAP_SHARED, fd, 0) };
        if start == libc::MAP_FAILED {
            return Err(refused(format!("map the memory of {name}"))(std::io::Error::last_os_error()));
        }
        Ok(Self { start: start.cast(), bytes, len, _elements: PhantomData, _map: map })
    }

    /// Elements.
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
    /// While the result lives, the kernel must not write them; any bytes must be a `T`.
    pub(super) unsafe fn slice(&self, first: usize, count: usize) -> &[T] {
        assert!(first + count <= self.len, "elements to {} of a map of {}", first + count, self.len);
        if count == 0 {
            return &[];
        }
        // SAFETY: within the mapping; the rest is the caller's promise.
        unsafe { std::slice::from_raw_parts(self.at(first), count) }
    }
}

impl<T> Drop for Mapped<T> {
    fn drop(&mut self) {
        // SAFETY: this is the mapping made in `take`, and nobody holds a pointer into it beyond a borrow of
        // `self`.
        unsafe { libc::munmap(self.start.cast(), self.bytes) };
    }
}
