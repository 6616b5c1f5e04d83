//! Everything that reads what others wrote, as functions of bytes, each of which must return, whatever it is
//! given, soon and without a panic. `fuzz/fuzz_targets` hands them to libFuzzer, `tests/corpora.rs` the bytes
//! that are kept in `fuzz/corpus`.
//!
//! | module | what is read |
//! | --- | --- |
//! | [`trees`] | trees of small files: sysfs |
//! | [`texts`] | single files and answers that are text |
//! | [`bytes`] | everything that is no text |
//! | [`files`] | files that an earlier run has left |
//! | [`tree`] | how bytes become a tree |

pub mod bytes;
pub mod files;
pub mod texts;
pub mod tree;
pub mod trees;

/// A target.
pub type Target = fn(&[u8]);

/// All of them, by name. Each has a file in `fuzz/fuzz_targets` and a directory in `fuzz/corpus` of its name.
pub const TARGETS: [(&str, Target); 32] = [
    ("battery_tree", trees::battery),
    ("bmc_dcmi", bytes::dcmi),
    ("bmc_redfish", bytes::redfish),
    ("carbon_rate", texts::rate),
    ("context_tree", trees::context),
    ("cray_counter", texts::counter),
    ("drm_fdinfo", texts::fdinfo),
    ("drm_tree", trees::drm),
    ("estimate_cpuinfo", texts::cpuinfo),
    ("estimate_profile", texts::profile),
    ("exec_output", bytes::exec),
    ("formula", texts::formula),
    ("groups_cgroup", texts::cgroup),
    ("groups_json", bytes::json),
    ("groups_response", bytes::response),
    ("guest_message", bytes::message),
    ("hwmon_names", texts::names),
    ("hwmon_tree", trees::hwmon),
    ("ingest_numbers", texts::numbers),
    ("otlp_answer", bytes::answer),
    ("otlp_headers", bytes::headers),
    ("otlp_request", bytes::request),
    ("otlp_retry_after", bytes::retry_after),
    ("otlp_status", bytes::status),
    ("rapl_readings", bytes::readings),
    ("rapl_text", texts::rapl),
    ("sched_arguments", bytes::arguments),
    ("sched_btf", bytes::btf),
    ("sched_proc", bytes::proc),
    ("sched_topology", trees::topology),
    ("spool_file", files::spool),
    ("traces_environment", bytes::environment),
];
