//! The ABI between the kernel programs (`ebpf/`) and user space (`plugins/sched`): what lies in the shared
//! maps, byte by byte. Both sides compile this crate; assertions pin the layout.
//!
//! | module | holds |
//! | --- | --- |
//! | [`ledger`] | what ran: per CPU, in pages of entries per thread |
//! | [`log`] | what happened to processes and cgroups: per CPU, a ring of events |
//! | [`counters`] | what hardware counters said, per ledger entry |
//! | [`scan`] | a copy of kernel memory, where the kernel does not tell its layout |
#![no_std]

pub mod counters;
pub mod ledger;
pub mod log;
pub mod scan;

/// Bytes of a task's name, with its terminating zero.
pub const COMM_LEN: usize = 16;
