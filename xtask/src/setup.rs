//! `setup`: looks for what the build and the tests need, and installs what is missing. Looking takes a few
//! processes and neither network nor package manager, so every other command does it first.

use anyhow::Result;

use crate::process::say;
use crate::{test_tools, toolchain, vm};

/// The command itself: the tools of the build, with `test` also those of the tests.
pub(crate) fn run(test: bool) -> Result<()> {
    let (compiler, linker) = toolchain::ensure()?;
    say("setup", format_args!("eBPF compiler: {compiler}"));
    say("setup", format_args!("eBPF linker: {linker}"));
    if test {
        test_tools::ensure()?;
        let python = test_tools::python();
        say("setup", format_args!("tests: stress-ng, {}, {}", test_tools::services(), python.display()));
        // Where they cannot be had, the tests do without other kernels.
        match vm::ensure_tools() {
            Ok(emulator) => say("setup", format_args!("other kernels: {}", emulator.version)),
            Err(error) => say("setup", format_args!("no other kernels: {error:#}")),
        }
    }
    Ok(())
}
