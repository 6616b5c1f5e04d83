//! Finds mdBook: the one that was built before, the one on the `PATH`, or one that is built now.

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result};

use crate::environment::host_cargo;
use crate::process::{probe, run_quietly, say};
use crate::workspace;

/// The mdBook that is built where there is none.
const VERSION: &str = "0.5.4";

pub(super) fn ensure() -> Result<PathBuf> {
    if let Some(path) = find() {
        return Ok(path);
    }
    say("setup", format_args!("building mdBook {VERSION}"));
    let mut cargo = host_cargo();
    cargo.env_remove("CARGO_TARGET_DIR").env_remove("CARGO_BUILD_TARGET_DIR");
    cargo.args(["install", "--quiet", "--locked", "--debug", "mdbook", "--version", VERSION]);
    cargo.args(["--no-default-features", "--features", "search"]);
    run_quietly(cargo.arg("--root").arg(workspace::tools()))?;
    find().with_context(|| {
        format!("the mdBook that was built in {} does not run", workspace::tools().display())
    })
}

fn find() -> Option<PathBuf> {
    [workspace::tools().join("bin/mdbook"), PathBuf::from("mdbook")]
        .into_iter()
        .find(|path| probe(Command::new(path).arg("--version")).is_some())
}
