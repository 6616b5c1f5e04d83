//! eBPF programs of a few instructions that are loaded to be run by hand, once: to find out what the kernel
//! can do, or what it knows of the caller. They need no compiler, no maps and no type information. The
//! programs of the accounting are loaded by aya (`plugins/sched/src/kernel/load.rs`).

use std::io;
use std::os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd};

const BPF_PROG_LOAD: libc::c_int = 5;
const BPF_PROG_TEST_RUN: libc::c_int = 10;
const BPF_PROG_TYPE_RAW_TRACEPOINT: u32 = 17;
const BPF_F_TEST_RUN_ON_CPU: u32 = 1;

/// An instruction as the kernel reads it (`struct bpf_insn`).
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Instruction {
    /// What it does.
    pub opcode: u8,
    /// The destination in the low half, the source in the high one.
    pub registers: u8,
    /// For jumps and memory.
    pub offset: i16,
    /// The constant, or the number of a helper.
    pub constant: i32,
}

impl Instruction {
    /// One that works on r0 alone, or on nothing.
    pub const fn new(opcode: u8, constant: i32) -> Self {
        Self { opcode, registers: 0, offset: 0, constant }
    }
}

/// The part of `union bpf_attr` for `BPF_PROG_LOAD` that is used.
#[repr(C)]
#[derive(Default)]
struct Load {
    kind: u32,
    instruction_count: u32,
    instructions: u64,
    license: u64,
    log: [u64; 3],
}

/// The same for `BPF_PROG_TEST_RUN`.
#[repr(C)]
#[derive(Default)]
struct TestRun {
    program: u32,
    result: u32,
    data_sizes: [u32; 2],
    data: [u64; 2],
    repeat: u32,
    duration: u32,
    context_size_in: u32,
    context_size_out: u32,
    context: [u64; 2],
    flags: u32,
    cpu: u32,
}

/// A loaded raw tracepoint program, attached to nothing.
#[derive(Debug)]
pub struct Program(OwnedFd);

impl Program {
    /// Loads it.
    ///
    /// # Errors
    /// Those of `bpf(2)`: no permission, or the verifier refuses it.
    pub fn load(instructions: &[Instruction]) -> io::Result<Self> {
        let mut load = Load {
            kind: BPF_PROG_TYPE_RAW_TRACEPOINT,
            instruction_count: instructions.len() as u32,
            instructions: instructions.as_ptr() as u64,
            license: c"GPL".as_ptr() as u64,
            ..Load::default()
        };
        // SAFETY: the attributes have the layout of the kernel's, and what they point to outlives the call.
        let descriptor = unsafe { bpf(BPF_PROG_LOAD, &mut load) }?;
        // SAFETY: the call has just returned this descriptor.
        Ok(Self(unsafe { OwnedFd::from_raw_fd(descriptor) }))
    }

    /// Runs it on this CPU, in the calling process, and returns what it returns. Makes one system call and
    /// allocates nothing, so a child may call it between fork and exec.
    ///
    /// # Errors
    /// Those of `bpf(2)`.
    pub fn run(&self) -> io::Result<u32> {
        self.test_run(TestRun::default())
    }

    /// Runs it on that CPU (Linux 5.10).
    ///
    /// # Errors
    /// Those of `bpf(2)`: `ENXIO` if the CPU is offline.
    pub fn run_on_cpu(&self, cpu: u32) -> io::Result<u32> {
        self.test_run(TestRun { flags: BPF_F_TEST_RUN_ON_CPU, cpu, ..TestRun::default() })
    }

    fn test_run(&self, run: TestRun) -> io::Result<u32> {
        let mut run = TestRun { program: self.0.as_raw_fd() as u32, ..run };
        // SAFETY: the attributes have the layout of the kernel's, and hold no pointers.
        unsafe { bpf(BPF_PROG_TEST_RUN, &mut run) }?;
        Ok(run.result)
    }
}

/// `bpf(2)`, which may write to the attributes.
///
/// # Safety
/// `attributes` is the beginning of a valid `union bpf_attr` for `command`.
unsafe fn bpf<T>(command: libc::c_int, attributes: &mut T) -> io::Result<libc::c_int> {
    // SAFETY: the caller's promise; the size says how much of the union is there.
    let done =
        unsafe { libc::syscall(libc::SYS_bpf, command, std::ptr::from_mut(attributes), size_of::<T>()) };
    if done < 0 { Err(io::Error::last_os_error()) } else { Ok(done as libc::c_int) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_layouts_are_the_kernels() {
        assert_eq!((size_of::<Load>(), size_of::<TestRun>()), (48, 72));
        assert_eq!(size_of::<Instruction>(), 8);
        assert_eq!(std::mem::offset_of!(TestRun, context_size_in), 40);
        assert_eq!(std::mem::offset_of!(TestRun, flags), 64);
        assert_eq!(std::mem::offset_of!(Load, license), 16);
    }
}
