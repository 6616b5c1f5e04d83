//! `dist`: what people install. The files are staged once, as they lie below `/` ([`tree`]); every format is
//! made of that: packages for Debian and Fedora ([`packages`]), a tarball ([`tarball`]), a container image
//! ([`image`]). The same commit gives the same bytes.
//!
//! What is not generated lies in `packaging/`, `config/systemd` and `config/kubernetes`.

mod image;
mod packages;
mod tarball;
mod tree;

use std::fmt;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result};
use clap::{Args, ValueEnum};

use crate::process::{probe, say};
use crate::{agent, workspace};
use tree::Tree;

/// What to make, of what, and where.
#[derive(Args)]
pub(crate) struct Options {
    /// What to make; all of them if none is named
    #[arg(value_name = "FORMAT")]
    formats: Vec<Format>,
    /// Package this executable instead of building one
    #[arg(long, value_name = "FILE")]
    binary: Option<PathBuf>,
    /// Build for aarch64, on whatever machine
    #[arg(long, conflicts_with = "binary")]
    aarch64: bool,
    /// The revision of the packages: counts those that are made of one version
    #[arg(long, default_value_t = 1)]
    revision: u32,
    /// The directory for the results [default: target/packages]
    #[arg(long, value_name = "DIR")]
    output: Option<PathBuf>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Format {
    /// A package for Debian, Ubuntu and what derives from them
    Deb,
    /// A package for Fedora, RHEL, SUSE and what derives from them
    Rpm,
    /// A tarball to unpack below /usr/local
    Tar,
    /// A container image, as an OCI archive
    Image,
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Format::Deb => "deb",
            Format::Rpm => "rpm",
            Format::Tar => "tar",
            Format::Image => "image",
        })
    }
}

/// What all formats share beside the files.
struct Release {
    version: &'static str,
    revision: u32,
    /// The time of everything in an archive, in seconds since 1970: that of the commit.
    time: u64,
    output: PathBuf,
}

/// Makes them.
pub(crate) fn run(options: Options) -> Result<()> {
    let binary = match options.binary {
        Some(binary) => binary,
        None => agent::build_for_dist(options.aarch64)?,
    };
    let output = options.output.unwrap_or_else(|| workspace::root().join("target/packages"));
    std::fs::create_dir_all(&output).with_context(|| format!("cannot make {}", output.display()))?;
    // Tools get paths, and run elsewhere.
    let output = output.canonicalize().with_context(|| format!("cannot find {}", output.display()))?;
    let tree = Tree::stage(&binary, &output.join("tree"))?;
    let release = Release {
        version: env!("CARGO_PKG_VERSION"),
        revision: options.revision,
        time: time_of_commit(),
        output,
    };
    let all = options.formats.is_empty();
    let formats = if all { Format::value_variants() } else { options.formats.as_slice() };
    for format in formats {
        if all && *format == Format::Image && !tree.machine.is_here() {
            say("dist", "no image: it is made on a machine of its own architecture");
            continue;
        }
        let made = match format {
            Format::Deb | Format::Rpm => packages::make(*format, &tree, &release)?,
            Format::Tar => tarball::make(&tree, &release)?,
            Format::Image => image::make(&tree, &release)?,
        };
        let size = std::fs::metadata(&made).map_or(0, |file| file.len());
        say("dist", format_args!("{} ({:.1} MB)", made.display(), size as f64 / 1e6));
    }
    Ok(())
}

/// The time of the current commit, unless SOURCE_DATE_EPOCH names one; 0 outside a repository.
fn time_of_commit() -> u64 {
    let given = std::env::var("SOURCE_DATE_EPOCH").ok().and_then(|time| time.parse().ok());
    given.unwrap_or_else(|| {
        let mut git = Command::new("git");
        git.current_dir(workspace::root()).args(["log", "-1", "--format=%ct"]);
        probe(&mut git).and_then(|time| time.trim().parse().ok()).unwrap_or_default()
    })
}
