//! The parser of the kernel's type information, for fuzzers.

use std::hint::black_box;

use super::btf::Btf;
use super::offsets::Offsets;

/// Looks up what the kernel programs read, and a member that does not exist.
pub fn btf(blob: &[u8]) {
    if let Ok(btf) = Btf::parse(blob) {
        _ = black_box(Offsets::from_btf(&btf));
        _ = black_box(btf.outline(&["btf_trace_", "bpf_iter_task"]));
        _ = black_box(btf.structs(["task_struct"]).offsets(&[("task_struct", "nowhere")]));
    }
}
