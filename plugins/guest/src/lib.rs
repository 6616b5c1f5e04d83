//! Passes a virtual machine's energy from its host's agent to its own agent: two plugins, one for each side,
//! and the message between them.
//!
//! | plugin | runs in | is |
//! | --- | --- | --- |
//! | `guest-share` | the host | an output: each machine's energy, in a file and on a socket |
//! | `host-share` | the guest | a source: a meter of the guest's own pipeline |
//!
//! ```text
//! host:   attribution, groups ─▶ guest-share ─▶ DIR/web/share.json
//!                                                      │ (9p, virtiofs)
//! guest:                                               └─▶ host-share ─▶ attribution
//! ```
//!
//! | file | holds |
//! | --- | --- |
//! | `message.rs` | the message: cumulative microjoules by domain, and as of when |
//! | `share.rs` | `guest-share` and its keys |
//! | `share/machines.rs`, `share/machine.rs` | the energy of each machine |
//! | `share/store.rs` | the machines' files |
//! | `share/serve.rs` | the machines' sockets |
//! | `host.rs` | `host-share`, its keys and its source |
//! | `host/fetch.rs` | reads the message from a file or a socket |
//! | `host/reader.rs` | compares messages: energy, restarts, staleness |
//!
//! The counters are cumulative and continue when the host's agent restarts, so a missed message loses
//! nothing. The energy used while the host's agent was not running is unknown: it is left out, and counted as
//! an anomaly.

mod host;
mod message;
mod share;

pub use host::{HostShare, HostShareConfig};
pub use share::{GuestShare, GuestShareConfig, ProcessRule};

/// Entries for the fuzzer.
#[doc(hidden)]
pub mod fuzzing {
    /// Parses a message.
    pub fn message(data: &[u8]) {
        if let Ok(text) = std::str::from_utf8(data)
            && let Ok(share) = crate::message::Share::parse(text)
        {
            let again = crate::message::Share::parse(&share.to_line());
            assert_eq!(again.as_ref(), Ok(&share), "the message survives writing and reading");
            assert!(crate::message::directory_name(&share.machine).is_none_or(|name| !name.contains('/')));
        }
    }
}
