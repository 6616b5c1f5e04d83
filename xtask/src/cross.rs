//! Building the agent for aarch64 on another machine: a C compiler, which also links, Rust's standard library
//! for that architecture, and an emulator that runs the agent to write its manual pages. All of it is
//! Debian's, except that rustup's library is preferred where rustup can fetch it.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use crate::debian::{self, Lists};
use crate::process::{probe, read, say};
use crate::workspace;

/// The target's name.
pub(crate) const TARGET: &str = "aarch64-unknown-linux-gnu";
const PACKAGES: [&str; 3] = ["gcc-aarch64-linux-gnu", "libc6-dev-arm64-cross", "qemu-user-static"];
const GCC: &str = "aarch64-linux-gnu-gcc";
/// What runs its programs here, with the C library that came with the compiler.
const EMULATOR: [&str; 3] = ["qemu-aarch64-static", "-L", "/usr/aarch64-linux-gnu"];
/// Debian's compiler, and the package with its library for other architectures.
const RUSTC: &str = "/usr/bin/rustc";
const LIBRARY: &str = "libstd-rust-web-dev";
/// The suite that has that package.
const SUITE: &str = "bookworm-security";

/// Brings about what the build takes; returns the environment that cargo needs for it.
pub(crate) fn ensure() -> Result<Vec<(&'static str, OsString)>> {
    debian::install(&PACKAGES.map(String::from), "builds and runs programs for aarch64")?;
    let mut environment = vec![("CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_LINKER", OsString::from(GCC))];
    if has_library(Command::new("rustc").args(["--target", TARGET])) {
        return Ok(environment);
    }
    if probe(Command::new("rustup").args(["target", "add", TARGET])).is_some() {
        return Ok(environment);
    }
    let mut sysroot = OsString::from("--sysroot=");
    sysroot.push(debians_library()?);
    environment.push(("RUSTC", RUSTC.into()));
    environment.push(("CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_RUSTFLAGS", sysroot));
    Ok(environment)
}

/// A program for aarch64, run here.
pub(crate) fn emulated(program: &Path) -> Command {
    let [emulator, arguments @ ..] = EMULATOR;
    let mut command = Command::new(emulator);
    command.args(arguments).arg(program);
    command
}

/// Whether a compiler with these arguments finds its standard library.
fn has_library(rustc: &mut Command) -> bool {
    let folder = probe(rustc.args(["--print", "target-libdir"]));
    let files = folder.and_then(|folder| fs::read_dir(folder.trim()).ok());
    files.is_some_and(|files| {
        files.flatten().any(|file| file.file_name().to_string_lossy().starts_with("libstd-"))
    })
}

/// The library of Debian's compiler for aarch64, unpacked as a sysroot of its own: the build scripts and
/// macros that run here are built with the compiler's usual one.
fn debians_library() -> Result<PathBuf> {
    let sysroot = workspace::tools().join("aarch64");
    let is_there =
        || has_library(Command::new(RUSTC).arg("--target").arg(TARGET).arg("--sysroot").arg(&sysroot));
    if is_there() {
        return Ok(sysroot);
    }
    let version = read(Command::new(RUSTC).arg("--version"))
        .context("rustup cannot add the target, and Debian's package rustc-web is not installed")?;
    say("dist", format_args!("fetching the standard library of {} for aarch64", version.trim()));
    let lists = Lists::of_suites(&[SUITE], &sysroot.join("apt"))?.for_architecture("arm64");
    let packages = sysroot.join("packages");
    fs::create_dir_all(&packages).with_context(|| format!("cannot make {}", packages.display()))?;
    lists.download(&format!("{LIBRARY}:arm64"), &packages)?;
    for package in fs::read_dir(&packages)?.flatten() {
        unpack(&package.path(), &sysroot)?;
    }
    is_there().then_some(sysroot).context("Debian's library for aarch64 is not that of its compiler")
}

/// Unpacks what lies in usr as a sysroot has it.
fn unpack(package: &Path, sysroot: &Path) -> Result<()> {
    let whole = sysroot.join("unpacked");
    read(Command::new("dpkg-deb").arg("--extract").arg(package).arg(&whole))?;
    let [from, to] = [whole.join("usr/lib/rustlib").join(TARGET), sysroot.join("lib/rustlib").join(TARGET)];
    fs::create_dir_all(to.parent().unwrap_or(&to))?;
    fs::rename(&from, &to).with_context(|| format!("{} holds no library", package.display()))
}
