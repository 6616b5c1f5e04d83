//! `eval`: how well energy is attributed, beside others' formulas, on the simulator: `agent/benches/eval`. It
//! needs neither root nor the kernel programs.

use std::ffi::OsString;
use std::path::PathBuf;

use anyhow::{Context, Result};

use crate::environment::host_cargo;
use crate::process::{run as run_command, say};
use crate::workspace;

/// Runs it; `scenarios` are parts of names, none: all. With the file of a `trace`, that is replayed instead.
/// What it finds is printed, and written to docs/evaluation.md if so wished.
pub(crate) fn run(write_docs: bool, trace: Option<PathBuf>, scenarios: Vec<OsString>) -> Result<()> {
    say("eval", "attribution on the simulator, beside others' formulas");
    let mut cargo = host_cargo();
    cargo.args(["bench", "--package", "wattrace", "--bench", "eval"]);
    // The agent itself takes no part, and building the kernel programs would need a compiler of their own.
    // Built apart, since cargo would put an agent of one plugin in the place of the one that people run.
    cargo.args(["--no-default-features", "--features", "attribution"]);
    cargo.arg("--target-dir").arg(workspace::root().join("target/eval")).arg("--");
    if let Some(trace) = trace {
        // Benchmarks run in their package's directory.
        let path = trace.canonicalize().with_context(|| format!("cannot read {}", trace.display()))?;
        cargo.arg(format!("--trace={}", path.display()));
    }
    cargo.args(scenarios).args(write_docs.then_some("--write-docs"));
    run_command(&mut cargo)
}
