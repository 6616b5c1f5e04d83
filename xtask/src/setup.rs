//! `setup`: looks for what the build needs and installs what is missing. Looking takes a few processes and
//! neither network nor package manager, so every other command does it first.

use anyhow::Result;

use crate::compiler::{self, Compiler};
use crate::linker::{self, Linker};
use crate::process::say;
use crate::{test_tools, vm};

/// The command itself: the tools of the build, with `test` also those of the tests.
pub(crate) fn run(test: bool) -> Result<()> {
    let (compiler, linker) = ensure()?;
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

/// What builds the kernel programs, installed now if need be.
pub(crate) fn ensure() -> Result<(Compiler, Linker)> {
    let compiler = compiler::ensure()?;
    let linker = linker::ensure(compiler.llvm)?;
    Ok((compiler, linker))
}
