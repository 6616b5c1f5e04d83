//! Whether this kernel can do what accounting needs most, tried with a program of two instructions rather
//! than concluded from a version: distributions port features back. `requirements.rs` reports the result.

use std::io;
use std::os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd};

const BPF_PROG_LOAD: libc::c_int = 5;
const BPF_PROG_TEST_RUN: libc::c_int = 10;
const BPF_PROG_TYPE_RAW_TRACEPOINT: u32 = 17;
const BPF_F_TEST_RUN_ON_CPU: u32 = 1;

/// The kernel's attributes of `BPF_PROG_LOAD`, as far as they are used.
#[repr(C)]
#[derive(Default)]
struct Load {
    kind: u32,
    instruction_count: u32,
    instructions: u64,
    license: u64,
    log: [u64; 3],
}

/// The kernel's attributes of `BPF_PROG_TEST_RUN`.
#[repr(C)]
#[derive(Default)]
struct TestRun {
    program: u32,
    result_and_data: [u32; 3],
    data: [u64; 2],
    repeat: u32,
    duration: u32,
    context_size_in: u32,
    context_size_out: u32,
    context: [u64; 2],
    flags: u32,
    cpu: u32,
}

/// Whether a raw tracepoint program can be run on a CPU of our choice, as closing a ledger does (Linux 5.10).
/// `None`: the kernel does not let us load a program.
pub(crate) fn runs_programs_on_a_cpu() -> Option<bool> {
    let program = load_empty_program().ok()?;
    let run =
        TestRun { program: program.as_raw_fd() as u32, flags: BPF_F_TEST_RUN_ON_CPU, ..Default::default() };
    match bpf(BPF_PROG_TEST_RUN, &run) {
        Ok(_) => Some(true),
        // CPU 0 is offline.
        Err(e) => Some(e.raw_os_error() == Some(libc::ENXIO)),
    }
}

/// `return 0`
fn load_empty_program() -> io::Result<OwnedFd> {
    const INSTRUCTIONS: [u64; 2] = [0xb7, 0x95];
    let load = Load {
        kind: BPF_PROG_TYPE_RAW_TRACEPOINT,
        instruction_count: INSTRUCTIONS.len() as u32,
        instructions: INSTRUCTIONS.as_ptr() as u64,
        license: c"GPL".as_ptr() as u64,
        ..Default::default()
    };
    let descriptor = bpf(BPF_PROG_LOAD, &load)?;
    // SAFETY: the call has just returned this descriptor.
    Ok(unsafe { OwnedFd::from_raw_fd(descriptor) })
}

fn bpf<T>(command: libc::c_int, attributes: &T) -> io::Result<libc::c_int> {
    // SAFETY: `attributes` has the layout of the kernel's for this command, and what it points to outlives
    // the call.
    let done =
        unsafe { libc::syscall(libc::SYS_bpf, command, std::ptr::from_ref(attributes), size_of::<T>()) };
    if done < 0 { Err(io::Error::last_os_error()) } else { Ok(done as libc::c_int) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_layouts_are_the_kernels() {
        assert_eq!((size_of::<Load>(), size_of::<TestRun>()), (48, 72));
        assert_eq!(std::mem::offset_of!(TestRun, context_size_in), 40);
        assert_eq!(std::mem::offset_of!(TestRun, flags), 64);
        assert_eq!(std::mem::offset_of!(Load, license), 16);
    }

    #[test]
    fn a_kernel_of_5_10_or_later_runs_programs_on_a_cpu() {
        match runs_programs_on_a_cpu() {
            None => eprintln!("skipped: no permission to load programs"),
            Some(runs) => assert!(runs, "this test needs Linux 5.10 or later"),
        }
    }
}
