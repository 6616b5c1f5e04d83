//! The tools that build the kernel programs: a compiler (`compiler.rs`) and a linker of the same LLVM
//! (`linker.rs`).

use anyhow::Result;

use crate::compiler::{self, Compiler};
use crate::linker::{self, Linker};

/// Whether both are here.
pub(crate) fn is_here() -> bool {
    compiler::find().is_some_and(|compiler| linker::find(compiler.llvm).is_some())
}

/// Both, installed now if they are missing.
pub(crate) fn ensure() -> Result<(Compiler, Linker)> {
    let compiler = compiler::ensure()?;
    let linker = linker::ensure(compiler.llvm)?;
    Ok((compiler, linker))
}
