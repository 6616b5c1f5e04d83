//! A kernel's type information, for fuzzers.

use std::hint::black_box;

use super::btf::Btf;
use super::offsets::Offsets;

/// Type information, in which is looked for what the kernel programs read, and for a member that is nowhere.
pub fn btf(blob: &[u8]) {
    _ = black_box(Offsets::from_btf(blob));
    if let Ok(btf) = Btf::parse(blob) {
        _ = black_box(btf.offsets(&[("task_struct", "nowhere")]));
    }
}
