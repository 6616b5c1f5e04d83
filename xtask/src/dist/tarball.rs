//! A tarball for machines without packages: unpacked into /usr/local, it is an installation.

use std::path::PathBuf;
use std::process::Command;

use anyhow::Result;

use super::Release;
use super::tree::{Tree, run_into};

/// Makes the tarball; returns its path.
pub(super) fn make(tree: &Tree, release: &Release) -> Result<PathBuf> {
    let name = format!("wattrace-{}-{}-linux", release.version, tree.machine.name);
    let file = release.output.join(format!("{name}.tar.gz"));
    let mut tar = tar(release);
    // What lies in usr there lies in the tarball's own directory here; the configuration is a template.
    tar.arg(format!("--transform=s,^usr,{name},")).arg(format!("--transform=s,^etc/wattrace,{name}/etc,"));
    tar.args(["--use-compress-program=gzip -9 --no-name", "--create", "--file=-"]);
    tar.arg("--directory").arg(&tree.root).args(["usr", "etc/wattrace"]);
    run_into(&mut tar, &file)?;
    Ok(file)
}

/// GNU tar, with owners, times and an order that depend on nothing but the commit.
pub(super) fn tar(release: &Release) -> Command {
    let mut tar = Command::new("tar");
    tar.args(["--sort=name", "--owner=0", "--group=0", "--numeric-owner"]);
    tar.arg(format!("--mtime=@{}", release.time));
    tar
}
