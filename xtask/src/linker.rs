//! bpf-linker, which links what the compiler emits as LLVM bitcode. LLVM reads the bitcode of its older
//! releases and of none newer, so it must have at least the LLVM of the compiler; built here it has the same.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::compiler::LLVM;
use crate::debian;
use crate::environment::host_cargo;
use crate::process::{probe, run_quietly, say};
use crate::workspace;

/// The bpf-linker that is built where there is none.
pub(crate) const VERSION: &str = "0.13.0";

/// A bpf-linker that is here.
#[derive(Debug)]
pub(crate) struct Linker {
    /// Its path, or its name where it is on the `PATH`.
    pub(crate) path: PathBuf,
    llvm: u32,
}

impl std::fmt::Display for Linker {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} (LLVM {})", self.path.display(), self.llvm)
    }
}

/// A bpf-linker for a compiler with this LLVM: the one built before, the one on the `PATH`, or one built now.
pub(crate) fn ensure(llvm: u32) -> Result<Linker> {
    if let Some(linker) = find(llvm) {
        return Ok(linker);
    }
    let prefix = llvm_prefix(llvm)?;
    say("setup", format_args!("building bpf-linker {VERSION} with the LLVM {llvm} in {}", prefix.display()));
    let mut cargo = host_cargo();
    // Left alone, cargo has the build tree in a temporary folder and removes it.
    cargo.env_remove("CARGO_TARGET_DIR").env_remove("CARGO_BUILD_TARGET_DIR").env("LLVM_PREFIX", &prefix);
    cargo.args(["install", "--quiet", "--locked", "--force", "bpf-linker", "--version", VERSION, "--root"]);
    cargo.arg(workspace::tools()).args(["--no-default-features", "--features", &feature(llvm)?]);
    run_quietly(&mut cargo)?;
    find(llvm).with_context(|| {
        format!("the bpf-linker that was built in {} does not run", workspace::tools().display())
    })
}

/// A linker of this LLVM or a later one, if there is one.
pub(crate) fn find(llvm: u32) -> Option<Linker> {
    [workspace::tools().join("bin/bpf-linker"), PathBuf::from("bpf-linker")].into_iter().find_map(|path| {
        let mut ask = Command::new(&path);
        let version = probe(ask.args(["--llvm-args=--version", "--output", "/dev/null", "/dev/null"]))?;
        let linker = Linker { llvm: llvm_of(&version)?, path };
        (linker.llvm >= llvm).then_some(linker)
    })
}

/// The major version in what LLVM's own `--version` prints.
fn llvm_of(version: &str) -> Option<u32> {
    let (_, number) = version.split_once("LLVM version ")?;
    number.split('.').next()?.trim().parse().ok()
}

/// bpf-linker's cargo feature for an LLVM.
fn feature(llvm: u32) -> Result<String> {
    if !LLVM.contains(&llvm) {
        bail!("bpf-linker {VERSION} can be built for LLVM {} to {}, not {llvm}", LLVM.start(), LLVM.end());
    }
    Ok(format!("llvm-{llvm}"))
}

/// Where that LLVM's development files are, installed now if need be.
fn llvm_prefix(llvm: u32) -> Result<PathBuf> {
    if let Some(prefix) = find_llvm(llvm) {
        return Ok(prefix);
    }
    let package = format!("llvm-{llvm}-dev");
    if debian::here() && debian::Lists::system().candidate(&package, |_| true).is_some() {
        debian::install(&[package], "to build the eBPF linker")?;
    }
    find_llvm(llvm).with_context(|| {
        format!(
            "no LLVM {llvm} to build bpf-linker with. By hand, one of\n  \
             install LLVM {llvm}'s development files (https://apt.llvm.org has them as llvm-{llvm}-dev)\n  \
             cargo binstall bpf-linker   (a prebuilt one; its LLVM must be {llvm} or later)"
        )
    })
}

fn find_llvm(llvm: u32) -> Option<PathBuf> {
    let installed = [
        format!("/usr/lib/llvm-{llvm}/bin/llvm-config"),
        format!("/usr/lib64/llvm{llvm}/bin/llvm-config"),
        format!("llvm-config-{llvm}"),
        "llvm-config".to_owned(),
    ];
    let named = std::env::var_os("LLVM_PREFIX").map(|prefix| Path::new(&prefix).join("bin/llvm-config"));
    named.into_iter().chain(installed.map(PathBuf::from)).find_map(|config| {
        let answer = |question| probe(Command::new(&config).arg(question));
        let major: u32 = answer("--version")?.split('.').next()?.parse().ok()?;
        // It can be there without the library: they are two of Debian's packages.
        let library = Path::new(answer("--libdir")?.trim()).join("libLLVM.so");
        let prefix = PathBuf::from(answer("--prefix")?.trim());
        (major == llvm && library.exists()).then_some(prefix)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_llvm_of_a_linker_is_read() {
        assert_eq!(llvm_of("Debian LLVM version 22.1.8\n  Optimized build.\n"), Some(22));
        assert_eq!(
            llvm_of("LLVM (http://llvm.org/):\n  LLVM version 21.1.0-rust-1.92.0-nightly\n"),
            Some(21)
        );
        assert_eq!(llvm_of("bpf-linker 0.13.0\n"), None);
    }

    #[test]
    fn each_llvm_has_its_feature() {
        assert_eq!(feature(21).unwrap(), "llvm-21");
        assert_eq!(feature(22).unwrap(), "llvm-22");
        assert!(feature(20).unwrap_err().to_string().contains("LLVM 21 to 23, not 20"));
    }
}
