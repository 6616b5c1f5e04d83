//! What is no text, or need not be.

pub use wattrace_bmc::fuzzing::redfish;
pub use wattrace_exec::fuzzing::output as exec;
pub use wattrace_groups::fuzzing::json;
pub use wattrace_guest::fuzzing::message;
pub use wattrace_otlp_client::fuzzing::{answer, headers, retry_after, status};
pub use wattrace_otlp_receiver::fuzzing::request;
pub use wattrace_rapl::fuzzing::readings;
pub use wattrace_sched::fuzzing::{arguments, btf, proc};
pub use wattrace_traces::fuzzing::environment;

/// A BMC's reply over IPMI DCMI.
pub fn dcmi(bytes: &[u8]) {
    // Without a use of it, the compiler would leave out the reading.
    _ = std::hint::black_box(wattrace_bmc::fuzzing::parse(bytes));
}

/// A server's answer.
pub fn response(bytes: &[u8]) {
    _ = wattrace_groups::fuzzing::response(bytes);
}
