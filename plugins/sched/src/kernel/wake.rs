//! The kernel's word that something fills up: a perf buffer per CPU, in which nothing but its filling
//! matters. perf's buffers can be written even within the scheduler, where the kernel's ring buffer must not
//! be used.

use std::os::fd::{AsFd as _, AsRawFd as _, FromRawFd as _, OwnedFd};

use aya::Ebpf;
use aya::maps::perf::PerfEventArrayBuffer;
use aya::maps::{MapData, PerfEventArray};

use super::{KernelError, refused};

/// The buffers of all CPUs that were online when they were opened.
pub(super) struct Wake {
    buffers: Vec<PerfEventArrayBuffer<MapData>>,
    any: OwnedFd,
    // Programs that use the map can be loaded only while it is there.
    _map: PerfEventArray<MapData>,
    /// Why there are none, if there are none.
    refusal: Option<String>,
}

impl Wake {
    pub(super) fn take(ebpf: &mut Ebpf, cpus: usize) -> Result<Self, KernelError> {
        let map = ebpf
            .take_map("WAKE")
            .ok_or_else(|| refused("find the map WAKE in the eBPF object")("it is missing"))?;
        let mut array = PerfEventArray::try_from(map).map_err(refused("use the map WAKE"))?;
        // SAFETY: the call has no preconditions; its result is checked.
        let any = unsafe { libc::epoll_create1(libc::EPOLL_CLOEXEC) };
        if any < 0 {
            return Err(refused("make an epoll descriptor")(std::io::Error::last_os_error()));
        }
        // SAFETY: the call just gave us this descriptor.
        let any = unsafe { OwnedFd::from_raw_fd(any) };
        let mut buffers = Vec::new();
        let mut refusal = None;
        for cpu in 0..cpus {
            // An offline CPU has none: its pages are then read at ticks only, once it is back.
            match array.open(cpu as u32, Some(1)) {
                Ok(buffer) => buffers.push(buffer),
                Err(e) => refusal = Some(format!("{:#}", refused("open a perf buffer")(e))),
            }
        }
        let refusal = refusal.filter(|_| buffers.is_empty());
        for buffer in &buffers {
            let mut event = libc::epoll_event { events: libc::EPOLLIN as u32, u64: 0 };
            // SAFETY: both descriptors are open, and `event` is valid for the call.
            let added = unsafe {
                libc::epoll_ctl(any.as_raw_fd(), libc::EPOLL_CTL_ADD, buffer.as_fd().as_raw_fd(), &mut event)
            };
            if added < 0 {
                return Err(refused("watch a perf buffer")(std::io::Error::last_os_error()));
            }
        }
        Ok(Self { buffers, any, _map: array, refusal })
    }

    /// Why the kernel cannot say that something fills; `None`: it can.
    pub(super) fn refusal(&self) -> Option<&str> {
        self.refusal.as_deref()
    }

    /// A descriptor that is readable while the kernel's word was not taken.
    pub(super) fn descriptor(&self) -> std::io::Result<OwnedFd> {
        self.any.try_clone()
    }

    /// Takes the kernel's word. Returns whether there was any.
    pub(super) fn take_word(&mut self) -> bool {
        let mut told = false;
        for buffer in self.buffers.iter_mut().filter(|buffer| buffer.readable()) {
            buffer.for_each(|_| told = true);
        }
        told
    }
}
