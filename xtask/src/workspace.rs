//! Where things are: the workspace and what xtask keeps in its `target` directory.

use std::path::{Path, PathBuf};

/// The workspace's root.
pub(crate) fn root() -> &'static Path {
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR"));
    manifest.parent().unwrap_or(manifest)
}

/// Programs that were built for the build.
pub(crate) fn tools() -> PathBuf {
    root().join("target/tools")
}

/// The Python environment of the tests.
pub(crate) fn venv() -> PathBuf {
    root().join("target/venv")
}

/// Kernels to boot, and what their virtual machines leave.
pub(crate) fn vm() -> PathBuf {
    root().join("target/vm")
}

/// The target directory of the kernel programs.
pub(crate) fn ebpf_target() -> PathBuf {
    root().join("target/ebpf")
}

/// The kernel programs as `plugins/sched` embeds them; its build script names the same path.
pub(crate) fn ebpf_object() -> PathBuf {
    root().join("ebpf/wattrace-ebpf.o")
}

/// The checksums of what they were built from.
pub(crate) fn ebpf_checksums() -> PathBuf {
    root().join("ebpf/wattrace-ebpf.sha256")
}

/// The programs that the benchmarks of `plugins/sched` compare with; the benchmarks name the same path.
pub(crate) fn ebpf_bench_object() -> PathBuf {
    ebpf_target().join("wattrace-ebpf-bench.o")
}
