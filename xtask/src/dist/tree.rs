//! The files of an installation below one directory, as they lie below `/`: the agent, its unit, the
//! configuration, manual pages, completions and documents.

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

use crate::process::{read, run_quietly, say};
use crate::{cross, workspace};

/// Files that are copied as they are: from the repository, to the tree.
const FILES: [(&str, &str); 7] = [
    ("config/systemd/wattrace.service", "usr/lib/systemd/system/wattrace.service"),
    ("packaging/wattrace.toml", "etc/wattrace/wattrace.toml"),
    ("config/wattrace.toml", "usr/share/doc/wattrace/wattrace.toml"),
    ("packaging/copyright", "usr/share/doc/wattrace/copyright"),
    ("LICENSE-MIT", "usr/share/doc/wattrace/LICENSE-MIT"),
    ("LICENSE-APACHE", "usr/share/doc/wattrace/LICENSE-APACHE"),
    ("README.md", "usr/share/doc/wattrace/README.md"),
];

/// Where shells look for completions.
const COMPLETIONS: [(&str, &str); 3] = [
    ("bash", "usr/share/bash-completion/completions/wattrace"),
    ("zsh", "usr/share/zsh/site-functions/_wattrace"),
    ("fish", "usr/share/fish/vendor_completions.d/wattrace.fish"),
];

/// The staged files.
pub(super) struct Tree {
    pub(super) root: PathBuf,
    pub(super) machine: Machine,
    /// The oldest GNU C library that has what the agent calls, as `2.34`.
    pub(super) glibc: String,
}

/// A processor architecture, by its name in packages for Debian (and Go and OCI) and elsewhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Machine {
    pub(super) debian: &'static str,
    pub(super) name: &'static str,
}

impl Tree {
    /// Stages `binary` and all that belongs to it below `root`, which is emptied first.
    pub(super) fn stage(binary: &Path, root: &Path) -> Result<Self> {
        if root.exists() {
            fs::remove_dir_all(root).with_context(|| format!("cannot empty {}", root.display()))?;
        }
        let agent = root.join("usr/bin/wattrace");
        install(binary, &agent, 0o755)?;
        // Symbols are for debuggers, and two thirds of a debug build.
        let not_built = || format!("{} is no agent for Linux that can be packaged", binary.display());
        let machine = machine_of(&bytes_of(&agent)?).with_context(not_built)?;
        run_quietly(machine.command("strip").arg("--strip-all").arg(&agent))?;
        let content = bytes_of(&agent)?;
        let glibc = glibc_of(&content).with_context(not_built)?;
        for (from, to) in FILES {
            install(&workspace::root().join(from), &root.join(to), 0o644)?;
        }
        let manual = root.join("usr/share/man/man1");
        read(machine.run(&agent).arg("man").arg(&manual))?;
        for page in fs::read_dir(&manual)?.collect::<Result<Vec<_>, _>>()? {
            fs::set_permissions(page.path(), fs::Permissions::from_mode(0o644))?;
            run_quietly(Command::new("gzip").args(["-9", "--no-name"]).arg(page.path()))?;
        }
        for (shell, to) in COMPLETIONS {
            let script = read(machine.run(&agent).args(["completions", shell]))?;
            write(&root.join(to), script.as_bytes())?;
        }
        let size = content.len() as f64 / 1e6;
        say("dist", format_args!("the agent for {} has {size:.1} MB", machine.name));
        Ok(Self { root: root.to_owned(), machine, glibc })
    }
}

impl Machine {
    /// Whether programs for it run here without an emulator.
    pub(super) fn is_here(self) -> bool {
        self.name == std::env::consts::ARCH
    }

    /// A tool of the compiler for it.
    fn command(self, tool: &str) -> Command {
        if self.is_here() {
            Command::new(tool)
        } else {
            Command::new(format!("{}-linux-gnu-{tool}", self.name))
        }
    }

    /// A program for it.
    fn run(self, program: &Path) -> Command {
        if self.is_here() { Command::new(program) } else { cross::emulated(program) }
    }
}

fn bytes_of(file: &Path) -> Result<Vec<u8>> {
    fs::read(file).with_context(|| format!("cannot read {}", file.display()))
}

/// Copies a file, and makes the directories above it.
pub(super) fn install(from: &Path, to: &Path, mode: u32) -> Result<()> {
    let copy = || {
        fs::create_dir_all(to.parent().unwrap_or(to))?;
        fs::copy(from, to)?;
        fs::set_permissions(to, fs::Permissions::from_mode(mode))
    };
    copy().with_context(|| format!("cannot copy {} to {}", from.display(), to.display()))
}

/// Writes a file, and makes the directories above it.
pub(super) fn write(to: &Path, content: &[u8]) -> Result<()> {
    let write = || {
        fs::create_dir_all(to.parent().unwrap_or(to))?;
        fs::File::create(to)?.write_all(content)?;
        fs::set_permissions(to, fs::Permissions::from_mode(0o644))
    };
    write().with_context(|| format!("cannot write {}", to.display()))
}

/// The architecture in the header of an ELF file.
fn machine_of(elf: &[u8]) -> Result<Machine> {
    let header = elf.get(..20).filter(|header| header.starts_with(b"\x7fELF")).context("not an ELF file")?;
    match u16::from_le_bytes([header[18], header[19]]) {
        62 => Ok(Machine { debian: "amd64", name: "x86_64" }),
        183 => Ok(Machine { debian: "arm64", name: "aarch64" }),
        other => bail!("ELF machine {other} is neither x86-64 nor aarch64"),
    }
}

/// The newest version of glibc's symbols that an ELF file names.
fn glibc_of(elf: &[u8]) -> Result<String> {
    const PREFIX: &[u8] = b"GLIBC_2.";
    let minors = elf.windows(PREFIX.len()).enumerate().filter(|(_, window)| *window == PREFIX);
    let minors = minors.filter_map(|(at, _)| {
        let rest = &elf[at + PREFIX.len()..];
        let end = rest.iter().position(|byte| !byte.is_ascii_digit())?;
        str::from_utf8(&rest[..end]).ok()?.parse::<u32>().ok()
    });
    let newest = minors.max().context("it is not linked with the GNU C library")?;
    Ok(format!("2.{newest}"))
}

/// Runs a program, with its output to a file.
pub(super) fn run_into(command: &mut Command, file: &Path) -> Result<()> {
    let out = fs::File::create(file).with_context(|| format!("cannot write {}", file.display()))?;
    crate::process::run(command.stdout(Stdio::from(out)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_architecture_is_that_of_the_header() {
        let mut elf = b"\x7fELF\x02\x01\x01".to_vec();
        elf.resize(20, 0);
        elf[18] = 62;
        assert_eq!(machine_of(&elf).unwrap().debian, "amd64");
        elf[18] = 183;
        assert_eq!(machine_of(&elf).unwrap().name, "aarch64");
        elf[18] = 8;
        assert!(machine_of(&elf).unwrap_err().to_string().contains("machine 8"));
        assert!(machine_of(b"#!/bin/sh").unwrap_err().to_string().contains("not an ELF"));
    }

    #[test]
    fn the_newest_version_of_the_c_library_counts() {
        let names = b"\0GLIBC_2.2.5\0GLIBC_2.34\0GLIBC_2.9\0GLIBC_PRIVATE\0GCC_3.0\0";
        assert_eq!(glibc_of(names).unwrap(), "2.34");
        assert!(glibc_of(b"\0GCC_3.0\0").is_err());
    }
}
