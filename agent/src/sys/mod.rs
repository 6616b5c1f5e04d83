//! The system calls of the runner, each behind a safe interface: the agent's unsafe code is here.
//!
//! | module | holds |
//! | --- | --- |
//! | [`timer`] | ticks from timerfds |
//! | [`eventfd`] | waking a thread that waits for descriptors |
//! | [`poll`] | waiting until one of several descriptors is readable |
//! | [`heap`] | what stays resident: freed memory, code that has run |
//! | [`priority`], [`limits`] | real-time priority; the limit on open files |
//! | [`namespace`] | the pid of a process in the initial namespace |

pub(crate) mod eventfd;
pub(crate) mod heap;
pub(crate) mod limits;
pub(crate) mod namespace;
pub(crate) mod poll;
pub(crate) mod priority;
pub(crate) mod timer;
