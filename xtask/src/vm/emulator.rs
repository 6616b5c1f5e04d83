//! The emulator: QEMU as installed, or Debian's packages of it unpacked beside everything else, where
//! installing them would remove something.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use super::architecture::Architecture;
use crate::process::{probe, say};
use crate::{debian, workspace};

/// Full emulation, with all virtual CPUs in one thread. With a thread each, QEMU before 8.1 may run a stale
/// translation of code that the kernel has just patched, as it does whenever a tracepoint gets its first
/// program: the kernel then dies of an `int3` that is no longer there.
pub(crate) const TCG: &str = "tcg,thread=single";

/// Where the emulator is.
pub(crate) struct Emulator {
    program: &'static str,
    /// The folder that stands in for `/`, where the packages were unpacked.
    root: Option<PathBuf>,
    /// Its name and version.
    pub(crate) version: String,
}

impl Emulator {
    /// Finds that of an architecture, or installs or unpacks it now.
    pub(crate) fn ensure(architecture: Architecture) -> Result<Self> {
        let (program, package) = architecture.emulator();
        let unpacked = workspace::tools().join("qemu");
        let find = || Self::at(program, None).or_else(|| Self::at(program, Some(&unpacked)));
        if let Some(found) = find() {
            return Ok(found);
        }
        if let Err(error) = debian::install(&[package.to_owned()], "virtual machines for the tests") {
            say(
                "setup",
                format_args!("{package} cannot be installed beside what is here; unpacking it ({error})"),
            );
            debian::unpack(package, &unpacked)?;
        }
        find().with_context(|| format!("{program} does not start"))
    }

    fn at(program: &'static str, root: Option<&Path>) -> Option<Self> {
        let mut found = Self { program, root: root.map(Path::to_path_buf), version: String::new() };
        let (program, environment) = found.program();
        let printed = probe(Command::new(program).envs(environment).arg("--version"))?;
        printed.lines().next()?.clone_into(&mut found.version);
        Some(found)
    }

    /// The program, and what must be in its environment.
    pub(crate) fn program(&self) -> (PathBuf, Vec<(&'static str, OsString)>) {
        let Some(root) = &self.root else { return (self.program.into(), Vec::new()) };
        let mut libraries = OsString::new();
        for folder in ["usr/lib/x86_64-linux-gnu", "lib/x86_64-linux-gnu"] {
            libraries.push(root.join(folder));
            libraries.push(":");
        }
        let modules = ("QEMU_MODULE_DIR", root.join("usr/lib/x86_64-linux-gnu/qemu").into());
        (root.join("usr/bin").join(self.program), vec![("LD_LIBRARY_PATH", libraries), modules])
    }

    /// Where it finds its firmware, as arguments.
    pub(crate) fn firmware(&self) -> Vec<PathBuf> {
        let folders =
            self.root.iter().flat_map(|root| ["qemu", "seabios"].map(|f| root.join("usr/share").join(f)));
        folders.flat_map(|folder| ["-L".into(), folder]).collect()
    }
}
