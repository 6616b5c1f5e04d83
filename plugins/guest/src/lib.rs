//! A virtual machine is fed its share by its host: two plugins, one for each side, and the message between
//! them.
//!
//! | plugin | runs in | is | and |
//! | --- | --- | --- | --- |
//! | `guest-share` | the host | an output | writes each machine's energy to a file of its own, and serves it on a socket |
//! | `host-share` | the guest | a source | reads that, and gives it to the guest's own pipeline to split |
//!
//! ```text
//! host:  attribution, groups ─▶ guest-share ─▶ DIR/web/share.json ─▶ (9p, virtiofs) ─▶ host-share ─▶ attribution  :guest
//! ```
//!
//! | file | holds |
//! | --- | --- |
//! | `message.rs` | what is said: cumulative microjoules by domain, and as of when |
//! | `share.rs` | `guest-share` and its keys |
//! | `share/books.rs` | whose energy is which machine's |
//! | `share/store.rs` | the machines' directories |
//! | `share/serve.rs` | the machines' sockets |
//! | `host.rs` | `host-share`, its keys and its source |
//! | `host/fetch.rs` | how it is read: from a file or a socket |
//! | `host/reader.rs` | from one message to the next: energy, restarts, staleness |
//!
//! What is said is cumulative and kept across the host agent's restarts, so that a message missed costs
//! nothing. What is not known (energy while the host's agent was away) is nobody's, and counted as an
//! anomaly.

mod host;
mod message;
mod share;

pub use host::{HostShare, HostShareConfig};
pub use share::{GuestShare, GuestShareConfig, ProcessRule};

/// Entries for the fuzzer.
#[doc(hidden)]
pub mod fuzzing {
    /// What a host may write, or anything.
    pub fn message(data: &[u8]) {
        if let Ok(text) = std::str::from_utf8(data)
            && let Ok(share) = crate::message::Share::parse(text)
        {
            let again = crate::message::Share::parse(&share.to_line());
            assert_eq!(again.as_ref(), Ok(&share), "what is written is what was read");
            assert!(crate::message::directory_name(&share.machine).is_none_or(|name| !name.contains('/')));
        }
    }
}
