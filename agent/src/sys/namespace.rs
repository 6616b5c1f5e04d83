//! The PID namespace of this process. The kernel programs know processes by their pids in the initial one; in
//! any other (a container's), a program of three instructions reports which pid its caller has there.

use std::fs;
use std::io;
use std::os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd};

/// The initial PID namespace, a constant of the kernel (`PROC_PID_INIT_INO`).
const INITIAL: &str = "pid:[4026531836]";

/// Whether pids mean something else here than for the kernel programs.
pub(crate) fn pids_are_private() -> bool {
    // Without /proc nothing is known, and the initial namespace is the usual one.
    fs::read_link("/proc/self/ns/pid").is_ok_and(|link| link.as_os_str() != INITIAL)
}

const BPF_PROG_LOAD: libc::c_long = 5;
const BPF_PROG_TEST_RUN: libc::c_long = 10;
const BPF_PROG_TYPE_RAW_TRACEPOINT: u32 = 17;

/// The part of `union bpf_attr` for `BPF_PROG_LOAD` that is used.
#[repr(C)]
struct Load {
    program_type: u32,
    instruction_count: u32,
    instructions: u64,
    license: u64,
    log: [u32; 4],
    kernel_version: u32,
    flags: u32,
}

/// The same for `BPF_PROG_TEST_RUN`.
#[repr(C)]
#[derive(Default)]
struct TestRun {
    program: u32,
    result: u32,
    sizes: [u32; 2],
    data: [u64; 2],
    repeat_and_duration: [u32; 2],
    context_sizes: [u32; 2],
    contexts: [u64; 2],
    flags: u32,
    cpu: u32,
}

/// `r0 = bpf_get_current_pid_tgid(); r0 >>= 32; exit`, as opcode, registers, offset, constant.
const INSTRUCTIONS: [(u8, u8, i16, i32); 3] = [(0x85, 0, 0, 14), (0x77, 0, 0, 32), (0x95, 0, 0, 0)];

/// A loaded program that returns the pid of the process that runs it.
pub(crate) struct PidProgram(OwnedFd);

impl PidProgram {
    /// Loads it.
    ///
    /// # Errors
    /// Those of `bpf(2)`.
    pub(crate) fn load() -> io::Result<Self> {
        let mut code = [0_u8; 8 * INSTRUCTIONS.len()];
        for (bytes, (opcode, registers, offset, constant)) in code.chunks_exact_mut(8).zip(INSTRUCTIONS) {
            bytes[0] = opcode;
            bytes[1] = registers;
            bytes[2..4].copy_from_slice(&offset.to_ne_bytes());
            bytes[4..].copy_from_slice(&constant.to_ne_bytes());
        }
        let license = c"GPL";
        let mut attributes = Load {
            program_type: BPF_PROG_TYPE_RAW_TRACEPOINT,
            instruction_count: INSTRUCTIONS.len() as u32,
            instructions: code.as_ptr() as u64,
            license: license.as_ptr() as u64,
            log: [0; 4],
            kernel_version: 0,
            flags: 0,
        };
        // SAFETY: the pointers in the attributes lead to memory that outlives the call.
        let program = unsafe { bpf(BPF_PROG_LOAD, &mut attributes) }?;
        // SAFETY: the call has just returned this descriptor.
        Ok(Self(unsafe { OwnedFd::from_raw_fd(program as i32) }))
    }

    /// The pid of the calling process in the initial namespace. Makes one system call and allocates nothing.
    ///
    /// # Errors
    /// Those of `bpf(2)`.
    pub(crate) fn pid_of_caller(&self) -> io::Result<u32> {
        let mut run = TestRun { program: self.0.as_raw_fd() as u32, ..TestRun::default() };
        // SAFETY: the attributes hold no pointers.
        unsafe { bpf(BPF_PROG_TEST_RUN, &mut run) }?;
        Ok(run.result)
    }
}

/// `bpf(2)`.
///
/// # Safety
/// `attributes` is the beginning of a valid `union bpf_attr` for `command`.
unsafe fn bpf<T>(command: libc::c_long, attributes: &mut T) -> io::Result<libc::c_long> {
    // SAFETY: the caller's promise; the size says how much of the union is there.
    let result =
        unsafe { libc::syscall(libc::SYS_bpf, command, std::ptr::from_mut(attributes), size_of::<T>()) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_program_returns_the_pid_of_the_initial_namespace() {
        if !rustix::process::geteuid().is_root() || pids_are_private() {
            return eprintln!("skipped: it needs root, in the initial PID namespace");
        }
        let program = PidProgram::load().unwrap();
        assert_eq!(program.pid_of_caller().unwrap(), std::process::id());
    }
}
