//! Whether this kernel can do what accounting needs most, tried with programs of a few instructions rather
//! than concluded from a version: distributions port features back, and a lockdown shows only where
//! securityfs is mounted. `requirements.rs` reports the results.

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

/// The numbers of two helpers.
const PROBE_READ_KERNEL: i32 = 113;
const GET_CURRENT_TASK_BTF: i32 = 158;

/// Calls the helper that reads the kernel's memory, to copy 8 bytes from address 0 to the stack.
const READ_MEMORY: [Instruction; 7] = [
    Instruction { registers: 0xa1, ..Instruction::new(0xbf, 0) }, // r1 = r10
    Instruction { registers: 0x01, ..Instruction::new(0x07, -8) }, // r1 += -8
    Instruction { registers: 0x02, ..Instruction::new(0xb7, 8) }, // r2 = 8
    Instruction { registers: 0x03, ..Instruction::new(0xb7, 0) }, // r3 = 0
    Instruction::new(0x85, PROBE_READ_KERNEL),
    Instruction::new(0xb7, 0),
    Instruction::new(0x95, 0),
];

/// Reads the beginning of the current task by its type.
const READ_TASK: [Instruction; 4] = [
    Instruction::new(0x85, GET_CURRENT_TASK_BTF),
    Instruction { registers: 0x00, ..Instruction::new(0x61, 0) }, // r0 = *(u32 *)(r0 + 0)
    Instruction::new(0xb7, 0),
    Instruction::new(0x95, 0),
];

/// What programs may read of the kernel's memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KernelMemory {
    /// All of it, by helpers.
    All,
    /// Members of objects whose types are known (Linux 5.11): `lockdown=confidentiality` forbids the helpers.
    Typed,
    /// Nothing.
    Nothing,
}

/// What programs may read of the kernel's memory; `None`: the kernel does not let us load a program.
pub(crate) fn readable_kernel_memory() -> Option<KernelMemory> {
    Program::load(&RETURN_0).ok()?;
    Some(match (Program::load(&READ_MEMORY), Program::load(&READ_TASK)) {
        (Ok(_), _) => KernelMemory::All,
        (Err(_), Ok(_)) => KernelMemory::Typed,
        (Err(_), Err(_)) => KernelMemory::Nothing,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kernel_memory_is_readable_as_the_lockdown_says() {
        let locked = std::fs::read_to_string("/sys/kernel/security/lockdown").unwrap_or_default();
        match readable_kernel_memory() {
            None => eprintln!("skipped: no permission to load programs"),
            Some(memory) => {
                let expected = match locked.contains("[confidentiality]") {
                    true => KernelMemory::Typed,
                    false => KernelMemory::All,
                };
                assert_eq!(memory, expected, "{locked}");
            }
        }
    }

    #[test]
    fn a_kernel_of_5_10_or_later_runs_programs_on_a_cpu() {
        match runs_programs_on_a_cpu() {
            None => eprintln!("skipped: no permission to load programs"),
            Some(runs) => assert!(runs, "this test needs Linux 5.10 or later"),
        }
    }
}
