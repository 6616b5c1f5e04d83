//! The system calls of the runner, each behind a safe interface: the agent's unsafe code is here.
//!
//! | module | holds |
//! | --- | --- |
//! | [`timer`] | ticks from timerfds |
//! | [`eventfd`] | waking a thread that waits for descriptors |
//! | [`poll`] | waiting until one of several descriptors is readable |
//! | [`priority`] | real-time priority |

pub(crate) mod eventfd;
pub(crate) mod poll;
pub(crate) mod priority;
pub(crate) mod timer;
