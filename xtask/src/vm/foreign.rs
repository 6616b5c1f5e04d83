//! The programs and libraries in a machine of another architecture than this one's: Debian's packages of
//! them, unpacked and not installed.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use super::architecture::Architecture;
use super::archive::Entry;
use super::kernels::lists_of_userland;
use crate::process::{run_quietly, say};
use crate::workspace;

/// What has the programs that tests call, and what they and Rust's programs are linked with.
const PACKAGES: [&str; 5] = ["busybox-static", "coreutils", "dash", "libc6", "libgcc-s1"];
const LOADER: &str = "/lib/ld-linux-aarch64.so.1";
const LIBRARIES: [&str; 3] = ["libc.so.6", "libm.so.6", "libgcc_s.so.1"];

/// Those that are `called` by tests, and the libraries, fetched now if need be.
pub(super) fn programs(architecture: Architecture, called: &[&str]) -> Result<Vec<Entry>> {
    let root = ensure(architecture)?;
    let folder = Path::new("/lib/aarch64-linux-gnu");
    let names = called.iter().chain([&LOADER]).map(PathBuf::from);
    names
        .chain(LIBRARIES.map(|library| folder.join(library)))
        .map(|name| Entry::read(&root.join(name.strip_prefix("/")?), &name))
        .collect()
}

/// Where the packages are unpacked.
fn ensure(architecture: Architecture) -> Result<PathBuf> {
    let root = workspace::vm().join(architecture.name());
    if root.exists() {
        return Ok(root);
    }
    say("vm", format_args!("downloading {} for {}", PACKAGES.join(", "), architecture.name()));
    let lists = lists_of_userland(architecture)?;
    // What is there under the final name is complete.
    let unfinished = root.with_extension("new");
    let packages = unfinished.join("packages");
    if unfinished.exists() {
        fs::remove_dir_all(&unfinished)?;
    }
    fs::create_dir_all(&packages).with_context(|| format!("cannot make {}", packages.display()))?;
    for package in PACKAGES {
        lists.download(&format!("{package}:{}", architecture.name()), &packages)?;
    }
    for package in fs::read_dir(&packages)? {
        run_quietly(Command::new("dpkg-deb").arg("--extract").arg(package?.path()).arg(&unfinished))?;
    }
    fs::remove_dir_all(&packages)?;
    fs::rename(&unfinished, &root).with_context(|| format!("cannot make {}", root.display()))?;
    Ok(root)
}
