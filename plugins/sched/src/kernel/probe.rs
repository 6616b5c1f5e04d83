//! Whether this kernel can do what accounting needs most, tried with a program of two instructions rather
//! than concluded from a version: distributions port features back. `requirements.rs` reports the result.

use wattrace_bpf::{Instruction, Program};

/// `r0 = 0; exit`
const RETURN_0: [Instruction; 2] = [Instruction::new(0xb7, 0), Instruction::new(0x95, 0)];

/// Whether a raw tracepoint program can be run on a CPU of our choice, as closing a ledger does (Linux 5.10).
/// `None`: the kernel does not let us load a program.
pub(crate) fn runs_programs_on_a_cpu() -> Option<bool> {
    match Program::load(&RETURN_0).ok()?.run_on_cpu(0) {
        Ok(_) => Some(true),
        // CPU 0 is offline.
        Err(e) => Some(e.raw_os_error() == Some(libc::ENXIO)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kernel_of_5_10_or_later_runs_programs_on_a_cpu() {
        match runs_programs_on_a_cpu() {
            None => eprintln!("skipped: no permission to load programs"),
            Some(runs) => assert!(runs, "this test needs Linux 5.10 or later"),
        }
    }
}
