//! The compiler of the kernel programs: a rustc that comes with the sources of `core`, since no `core` is
//! shipped built for eBPF. Debian's own serves, and so does a nightly of rustup's. What links its output is
//! in `linker.rs`.

use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Result, bail};

use crate::debian;
use crate::process::{probe, run_quietly, say};

/// The releases of LLVM that a bpf-linker can be built for; see [`crate::linker::VERSION`].
pub(crate) const LLVM: RangeInclusive<u32> = 21..=23;
/// The first rustc with an LLVM of [`LLVM`].
const OLDEST: (u32, u32) = (1, 91);
/// The nightly that is installed where there is no compiler. Newer ones, from 1.98 on, ask for a newer aya.
const NIGHTLY: &str = "nightly-2026-05-20";
const PACKAGES: [&str; 3] = ["rustc-web", "cargo-web", "rust-web-src"];

/// A compiler that builds the kernel programs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Compiler {
    /// Its rustc.
    pub(crate) rustc: PathBuf,
    /// The cargo that goes with it.
    pub(crate) cargo: PathBuf,
    /// The major version of its LLVM.
    pub(crate) llvm: u32,
    release: String,
}

impl std::fmt::Display for Compiler {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {} (LLVM {})", self.rustc.display(), self.release, self.llvm)
    }
}

impl Compiler {
    /// Its version, wherever it is.
    pub(crate) fn version(&self) -> String {
        format!("rustc {} (LLVM {})", self.release, self.llvm)
    }
}

/// A compiler that is here, or gets here now.
pub(crate) fn ensure() -> Result<Compiler> {
    if let Some(compiler) = find() {
        return Ok(compiler);
    }
    for way in ways(debian::here(), probe(Command::new("rustup").arg("--version")).is_some()) {
        match way.go() {
            Ok(()) => match find() {
                Some(compiler) => return Ok(compiler),
                None => say("setup", "what was installed does not build eBPF"),
            },
            Err(error) => say("setup", format_args!("{error:#}")),
        }
    }
    bail!(
        "no rustc that builds eBPF: it needs the sources of core, and LLVM {} to {}. By hand, one of\n  \
         sudo apt-get install {}\n  \
         rustup toolchain install {NIGHTLY} --profile minimal --component rust-src",
        LLVM.start(),
        LLVM.end(),
        PACKAGES.join(" "),
    )
}

/// The first compiler here that fits.
pub(crate) fn find() -> Option<Compiler> {
    examine(Path::new("/usr/bin/rustc")).or_else(|| {
        // Not `rustup which`: asked for a toolchain that isn't there, it downloads it.
        let list = probe(Command::new("rustup").args(["toolchain", "list", "--verbose"]))?;
        nightlies_of(&list).iter().find_map(|toolchain| examine(&toolchain.join("bin/rustc")))
    })
}

/// The folders of the nightlies in what `rustup toolchain list --verbose` prints, best first: [`NIGHTLY`],
/// then the current one. A line is the toolchain's name, with or without remarks in brackets, and its folder.
fn nightlies_of(list: &str) -> Vec<PathBuf> {
    let folder = |name: &str| {
        let is_it = |line: &&str| line.strip_prefix(name).is_some_and(|rest| !rest.starts_with("-2"));
        let line = list.lines().find(is_it)?;
        line.find('/').map(|start| PathBuf::from(&line[start..]))
    };
    [NIGHTLY, "nightly"].into_iter().filter_map(folder).collect()
}

/// The compiler of which `rustc` is part, if it fits.
fn examine(rustc: &Path) -> Option<Compiler> {
    let cargo = rustc.with_file_name("cargo");
    let sysroot = probe(Command::new(rustc).args(["--print", "sysroot"]))?;
    let sources = Path::new(sysroot.trim()).join("lib/rustlib/src/rust/library/Cargo.lock");
    if !cargo.exists() || !sources.exists() {
        return None;
    }
    let (release, llvm) = versions_of(&probe(Command::new(rustc).arg("-vV"))?)?;
    LLVM.contains(&llvm).then(|| Compiler { rustc: rustc.to_owned(), cargo, llvm, release })
}

/// The release and the LLVM's major version in what `rustc -vV` prints.
fn versions_of(verbose: &str) -> Option<(String, u32)> {
    let field = |name| verbose.lines().find_map(|line| line.strip_prefix(name));
    let llvm = field("LLVM version: ")?.split('.').next()?.parse().ok()?;
    Some((field("release: ")?.to_owned(), llvm))
}

/// A way to get a compiler.
#[derive(Debug, PartialEq, Eq)]
enum Way {
    Debian,
    Nightly,
}

/// The ways open to this machine, best first.
fn ways(apt: bool, rustup: bool) -> Vec<Way> {
    [(apt, Way::Debian), (rustup, Way::Nightly)]
        .into_iter()
        .filter_map(|(open, way)| open.then_some(way))
        .collect()
}

impl Way {
    fn go(&self) -> Result<()> {
        match self {
            Way::Debian => {
                if debian::Lists::system().candidate(PACKAGES[0], new_enough).is_none() {
                    bail!("this machine's package lists hold no recent {}", PACKAGES[0]);
                }
                debian::install(&PACKAGES.map(String::from), "the eBPF compiler")
            }
            Way::Nightly => {
                say("setup", format_args!("installing rustup's {NIGHTLY} with rust-src (the eBPF compiler)"));
                let mut rustup = Command::new("rustup");
                rustup.args(["toolchain", "install", NIGHTLY, "--profile", "minimal"]);
                run_quietly(rustup.args(["--component", "rust-src", "--no-self-update"]))
            }
        }
    }
}

/// Whether a Debian version of rustc, like `1.96.0+dfsg1-1`, builds eBPF.
fn new_enough(version: &str) -> bool {
    let mut numbers = version.split('.').map(|number| number.parse().ok());
    match (numbers.next().flatten(), numbers.next().flatten()) {
        (Some(major), Some(minor)) => (major, minor) >= OLDEST,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_versions_of_a_rustc_are_read() {
        let verbose = "rustc 1.96.0 (ac68faa20 2026-05-25)\nhost: x86_64-unknown-linux-gnu\nrelease: 1.96.0\n\
                       LLVM version: 22.1.8\n";
        assert_eq!(versions_of(verbose), Some(("1.96.0".to_owned(), 22)));
        assert_eq!(versions_of("release: 1.96.0\n"), None);
    }

    #[test]
    fn the_nightly_this_was_written_for_comes_before_the_current_one() {
        let list = "stable-x86_64-unknown-linux-gnu (active, default) /r/stable-x86_64-unknown-linux-gnu\n\
                    nightly-2025-01-01-x86_64-unknown-linux-gnu /r/old\n\
                    nightly-x86_64-unknown-linux-gnu (override)\t/my r/nightly\n";
        assert_eq!(nightlies_of(list), [Path::new("/my r/nightly")]);
        let list = format!("{list}{NIGHTLY}-x86_64-unknown-linux-gnu /r/dated\n");
        assert_eq!(nightlies_of(&list), [Path::new("/r/dated"), Path::new("/my r/nightly")]);
        assert_eq!(nightlies_of("no installed toolchains\n"), [] as [&Path; 0]);
    }

    #[test]
    fn debians_compiler_comes_first_and_rustups_is_the_other_way() {
        assert_eq!(ways(true, true), [Way::Debian, Way::Nightly]);
        assert_eq!(ways(false, true), [Way::Nightly]);
        assert_eq!(ways(true, false), [Way::Debian]);
        assert_eq!(ways(false, false), []);
    }

    #[test]
    fn an_old_debian_differs_from_a_recent_one() {
        assert!(new_enough("1.96.0+dfsg1-1~deb12u2"));
        assert!(new_enough("1.91.1+dfsg1-1"));
        assert!(new_enough("2.0.0-1"));
        assert!(!new_enough("1.85.0+dfsg3-1~deb12u3"));
        assert!(!new_enough("1.63.0"));
        assert!(!new_enough("unknown"));
    }
}
