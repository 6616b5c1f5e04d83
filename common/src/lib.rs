//! The ABI between the kernel programs (`ebpf/`) and user space (`plugins/sched`): the layout of the shared
//! maps. Both sides compile this crate, and assertions pin the layout.
//!
//! | module | holds |
//! | --- | --- |
//! | [`ledger`] | CPU time: per CPU, pages with an entry per thread |
//! | [`log`] | events of processes and cgroups: a ring per CPU |
//! | [`counters`] | hardware counters, per ledger entry |
//! | [`process_stats`] | what a process used besides CPU time |
//! | [`scan`] | a copy of kernel memory, for kernels without type information |
#![no_std]

pub mod counters;
pub mod ledger;
pub mod log;
pub mod process_stats;
pub mod scan;

/// Bytes of a task's name, with its terminating zero.
pub const COMM_LEN: usize = 16;

/// A type for which every bit pattern is a valid value (plain old data). Memory that the kernel programs
/// write may be read as such a type.
///
/// # Safety
/// Every bit pattern is a valid value, and the layout is fixed: `repr(C)`, `repr(transparent)`, an integer or
/// an array.
pub unsafe trait Pod {}
