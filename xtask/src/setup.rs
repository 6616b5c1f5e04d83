//! `setup`: looks for what the build and the tests need, and installs what is missing. Looking takes a few
//! processes and neither network nor package manager, so every other command does it first.

use anyhow::Result;

use crate::process::say;
use crate::steps::{Step, do_all};
use crate::{cross, test_tools, toolchain, vm};

/// The command itself: the tools of the build, with `test` also those of the tests, with `aarch64` also what
/// builds and tests for that architecture.
pub(crate) fn run(test: bool, aarch64: bool) -> Result<()> {
    let mut steps = Vec::new();
    if !toolchain::is_here() {
        steps.push(Step::new("the compiler of the kernel programs", 150, || toolchain::ensure().map(drop)));
    }
    if test {
        steps.extend(test_tools::steps());
    }
    do_all(steps)?;
    let (compiler, linker) = toolchain::ensure()?;
    say("setup", format_args!("eBPF compiler: {compiler}"));
    say("setup", format_args!("eBPF linker: {linker}"));
    if test {
        let python = test_tools::python();
        say("setup", format_args!("tests: stress-ng, {}, {}", test_tools::services(), python.display()));
        // Where they cannot be had, the tests do without other kernels.
        match vm::ensure_tools(vm::Architecture::HERE) {
            Ok(emulator) => say("setup", format_args!("other kernels: {}", emulator.version)),
            Err(error) => say("setup", format_args!("no other kernels: {error:#}")),
        }
    }
    if aarch64 {
        cross::ensure()?;
        let emulator = vm::ensure_tools(vm::Architecture::Arm64)?;
        say("setup", format_args!("aarch64: {}, {}", cross::TARGET, emulator.version));
    }
    Ok(())
}
