//! Passes the path of the kernel programs to the plugin as `WATTRACE_EBPF_OBJECT`. Their compiler is another
//! one, so cargo cannot build them as a dependency: the object is part of the repository, and `cargo xtask`
//! builds it again where its sources changed.

use std::env;
use std::path::{Path, PathBuf};

const OBJECT: &str = "WATTRACE_EBPF_OBJECT";

fn main() {
    println!("cargo::rerun-if-env-changed={OBJECT}");
    let object = env::var_os(OBJECT).map_or_else(
        || Path::new(env!("CARGO_MANIFEST_DIR")).join("../../ebpf/wattrace-ebpf.o"),
        PathBuf::from,
    );
    println!("cargo::rerun-if-changed={}", object.display());
    match object.canonicalize() {
        Ok(object) => println!("cargo::rustc-env={OBJECT}={}", object.display()),
        Err(error) => println!(
            "cargo::error=the eBPF object is not built: run `cargo xtask build-ebpf`, or set {OBJECT} to one \
             ({}: {error})",
            object.display()
        ),
    }
}
