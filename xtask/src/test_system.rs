//! A Debian that systemd boots in a container, for the tests of packages (xtask/tests/debian_package.rs): an
//! archive of its files, made by mmdebstrap.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result};

use crate::process::{as_root, run_quietly, say};
use crate::{debian, workspace};

/// The oldest release that the packages are made for.
const SUITE: &str = "bookworm";
const PACKAGES: &str = "systemd,systemd-sysv,init-system-helpers";

/// The archive.
pub(crate) fn archive() -> PathBuf {
    workspace::vm().join("debian.tar")
}

/// Makes the archive.
pub(crate) fn make() -> Result<()> {
    let archive = archive();
    debian::install(&["mmdebstrap".to_owned()], "a Debian for the tests of packages")?;
    fs::create_dir_all(workspace::vm()).context("cannot make target/vm")?;
    say("setup", format_args!("fetching Debian {SUITE} for the tests of packages"));
    // An archive that is there is complete.
    let unfinished = archive.with_extension("tar.new");
    let mut make: Command = as_root("mmdebstrap");
    make.args(["--quiet", "--variant=minbase", "--format=tar"]).arg(format!("--include={PACKAGES}"));
    make.arg(SUITE).arg(&unfinished).arg("http://deb.debian.org/debian");
    run_quietly(&mut make)?;
    fs::rename(&unfinished, &archive).with_context(|| format!("cannot write {}", archive.display()))
}
