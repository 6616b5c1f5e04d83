//! `setup`: looks for what the build needs and installs what is missing. Looking takes a few processes and neither
//! network nor package manager, so every other command does it first.

use anyhow::Result;

use crate::compiler::{self, Compiler};
use crate::linker::{self, Linker};
use crate::process::say;
use crate::test_tools;

/// The command itself: the tools of the build, with `test` also those of the tests.
pub(crate) fn run(test: bool) -> Result<()> {
    let (compiler, linker) = ensure()?;
    say("setup", format_args!("eBPF compiler: {compiler}"));
    say("setup", format_args!("eBPF linker: {linker}"));
    if test {
        test_tools::ensure()?;
        say("setup", format_args!("tests: stress-ng, {}", test_tools::python().display()));
    }
    Ok(())
}

/// What builds the kernel programs, installed now if need be.
pub(crate) fn ensure() -> Result<(Compiler, Linker)> {
    let compiler = compiler::ensure()?;
    let linker = linker::ensure(compiler.llvm)?;
    Ok((compiler, linker))
}
