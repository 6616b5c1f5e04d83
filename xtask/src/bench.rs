//! `bench`: all benchmarks, or those of a package that is named, as root like the agent itself.

use std::ffi::OsString;

use anyhow::Result;

use crate::ebpf;
use crate::process::{is_root, run as run_command, say};
use crate::test::{as_root, selection};
use crate::test_tools;

/// Runs them; `args` are those of `cargo bench`.
pub(crate) fn run(args: Vec<OsString>) -> Result<()> {
    test_tools::ensure_for_benches()?;
    ebpf::build_for_benches()?;
    say("bench", if is_root() { "benchmarks" } else { "benchmarks, as root through sudo" });
    let mut args = selection(args, "--workspace");
    if !args.iter().any(|arg| arg.to_string_lossy().starts_with("--bench")) {
        // Otherwise cargo also starts each library's unit tests, which have nothing to measure.
        args.insert(0, "--bench=*".into());
    }
    run_command(&mut as_root("bench", &args)?)
}
