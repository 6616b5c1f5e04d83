//! Wakes the reader when a page or a ring fills up: a perf buffer per CPU, of which only the filling matters,
//! in an epoll set. perf buffers can be written even within the scheduler, where the kernel's ring buffer
//! must not be used.

use std::io;
use std::os::fd::{AsFd, AsRawFd as _, BorrowedFd, FromRawFd as _, OwnedFd};

use aya::Ebpf;
use aya::maps::perf::PerfEventArrayBuffer;
use aya::maps::{MapData, PerfEventArray};

use super::error::{KernelError, failed, not_found};

/// The perf buffers of all CPUs that were online when they were opened.
pub(super) struct Wakeup {
    buffers: Vec<PerfEventArrayBuffer<MapData>>,
    epoll: OwnedFd,
    // Programs that use the map can be loaded only while it exists.
    _map: PerfEventArray<MapData>,
    /// Why there are no buffers, if there are none.
    error: Option<KernelError>,
}

impl Wakeup {
    pub(super) fn take(ebpf: &mut Ebpf, cpus: usize) -> Result<Self, KernelError> {
        let step = "watch for pages and rings that fill up";
        let map = ebpf.take_map("WAKE").ok_or_else(|| not_found(step, "the eBPF object has no map WAKE"))?;
        let mut map = PerfEventArray::try_from(map).map_err(failed(step))?;
        let epoll = new_epoll().map_err(failed("create an epoll descriptor"))?;
        let (mut buffers, mut error) = (Vec::new(), None);
        for cpu in 0..cpus {
            // An offline CPU has none. Once it is online, its pages are read at ticks only.
            match map.open(cpu as u32, Some(1)) {
                Ok(buffer) => buffers.push(buffer),
                Err(e) => error = Some(failed("open a perf buffer")(e)),
            }
        }
        let error = error.filter(|_| buffers.is_empty());
        let wakeup = Self { buffers, epoll, _map: map, error };
        for buffer in &wakeup.buffers {
            wakeup.add(buffer.as_fd()).map_err(failed(step))?;
        }
        Ok(wakeup)
    }

    /// Why the kernel cannot wake the reader; `None`: it can.
    pub(super) fn error(&self) -> Option<&KernelError> {
        self.error.as_ref()
    }

    /// Adds a descriptor whose readiness wakes the reader too.
    pub(super) fn add(&self, descriptor: BorrowedFd<'_>) -> io::Result<()> {
        let mut event = libc::epoll_event { events: libc::EPOLLIN as u32, u64: 0 };
        let (epoll, descriptor) = (self.epoll.as_raw_fd(), descriptor.as_raw_fd());
        // SAFETY: both descriptors are open, and `event` is valid for the call.
        match unsafe { libc::epoll_ctl(epoll, libc::EPOLL_CTL_ADD, descriptor, &mut event) } {
            0 => Ok(()),
            _ => Err(io::Error::last_os_error()),
        }
    }

    /// A descriptor that is readable while [`Wakeup::take_pending`] or an added descriptor has something.
    pub(super) fn descriptor(&self) -> BorrowedFd<'_> {
        self.epoll.as_fd()
    }

    /// Empties the buffers. Returns whether something fills up.
    pub(super) fn take_pending(&mut self) -> bool {
        let mut any = false;
        for buffer in self.buffers.iter_mut().filter(|buffer| buffer.readable()) {
            buffer.for_each(|_| any = true);
        }
        any
    }
}

fn new_epoll() -> io::Result<OwnedFd> {
    // SAFETY: the call has no preconditions; its result is checked.
    let fd = unsafe { libc::epoll_create1(libc::EPOLL_CLOEXEC) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the call has just returned this descriptor.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}
