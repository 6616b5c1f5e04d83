//! eBPF programs of a few instructions, which need no compiler and no type information. Some are run by hand,
//! once, to find out what the kernel can do or what it knows of the caller; others count a cgroup's packets
//! (`plugins/context/src/network`). The programs of the accounting are loaded by aya
//! (`plugins/sched/src/kernel/load.rs`). `table.rs` has the memory that a program counts in.

mod table;

use std::io;
use std::os::fd::{AsRawFd as _, BorrowedFd, FromRawFd as _, OwnedFd};

pub use table::Table;

const BPF_PROG_LOAD: libc::c_int = 5;
const BPF_PROG_TEST_RUN: libc::c_int = 10;
const BPF_LINK_CREATE: libc::c_int = 28;
const BPF_PROG_TYPE_CGROUP_SKB: u32 = 8;
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

/// Which packets of a cgroup a program sees.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// Those that its sockets receive.
    Ingress,
    /// Those that its sockets send.
    Egress,
}

impl Direction {
    /// `enum bpf_attach_type`.
    fn attach_type(self) -> u32 {
        match self {
            Direction::Ingress => 0,
            Direction::Egress => 1,
        }
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
    name: [u8; 16],
    device: u32,
    attach_type: u32,
}

/// The same for `BPF_LINK_CREATE`.
#[repr(C)]
#[derive(Default)]
struct LinkCreate {
    program: u32,
    target: u32,
    attach_type: u32,
    flags: u32,
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

/// A loaded program, attached to nothing.
#[derive(Debug)]
pub struct Program(OwnedFd);

/// A program that is attached to a cgroup. Dropping this detaches it.
#[derive(Debug)]
pub struct Link {
    _descriptor: OwnedFd,
}

impl Program {
    /// Loads a raw tracepoint program, to be run by hand.
    ///
    /// # Errors
    /// Those of `bpf(2)`: no permission, or the verifier refuses it.
    pub fn load(instructions: &[Instruction]) -> io::Result<Self> {
        Self::load_as(BPF_PROG_TYPE_RAW_TRACEPOINT, 0, instructions)
    }

    /// Loads a program that sees the packets of a cgroup's sockets (`struct __sk_buff` in r1), from the
    /// network layer's header on. It returns 1 to let a packet pass.
    ///
    /// # Errors
    /// As for [`Program::load`].
    pub fn of_packets(direction: Direction, instructions: &[Instruction]) -> io::Result<Self> {
        Self::load_as(BPF_PROG_TYPE_CGROUP_SKB, direction.attach_type(), instructions)
    }

    fn load_as(kind: u32, attach_type: u32, instructions: &[Instruction]) -> io::Result<Self> {
        let mut load = Load {
            kind,
            attach_type,
            instruction_count: instructions.len() as u32,
            instructions: instructions.as_ptr() as u64,
            license: c"GPL".as_ptr() as u64,
            ..Load::default()
        };
        lift_memlock_limit();
        // SAFETY: the attributes have the layout of the kernel's, and what they point to outlives the call.
        let descriptor = unsafe { bpf(BPF_PROG_LOAD, &mut load) }?;
        // SAFETY: the call has just returned this descriptor.
        Ok(Self(unsafe { OwnedFd::from_raw_fd(descriptor) }))
    }

    /// Attaches it to the cgroup v2 whose directory is `cgroup`, and to all cgroups in it, beside programs
    /// that are attached there already (Linux 5.7).
    ///
    /// # Errors
    /// Those of `bpf(2)`: no permission, or somebody allows no others beside theirs.
    pub fn attach(&self, cgroup: BorrowedFd<'_>, direction: Direction) -> io::Result<Link> {
        let (program, target) = (self.0.as_raw_fd() as u32, cgroup.as_raw_fd() as u32);
        let mut link = LinkCreate { program, target, attach_type: direction.attach_type(), flags: 0 };
        // SAFETY: the attributes have the layout of the kernel's, and hold no pointers.
        let descriptor = unsafe { bpf(BPF_LINK_CREATE, &mut link) }?;
        // SAFETY: the call has just returned this descriptor.
        Ok(Link { _descriptor: unsafe { OwnedFd::from_raw_fd(descriptor) } })
    }

    /// What one run of it costs, ns: the mean over `repeat` runs with a packet of `packet`'s bytes, whose
    /// first are an Ethernet header.
    ///
    /// # Errors
    /// Those of `bpf(2)`.
    pub fn cost(&self, packet: &[u8], repeat: u32) -> io::Result<u32> {
        let mut run = TestRun {
            program: self.0.as_raw_fd() as u32,
            data_sizes: [packet.len() as u32, 0],
            data: [packet.as_ptr() as u64, 0],
            repeat,
            ..TestRun::default()
        };
        // SAFETY: the attributes have the layout of the kernel's; the packet outlives the call, and nothing
        // is written to it.
        unsafe { bpf(BPF_PROG_TEST_RUN, &mut run) }?;
        Ok(run.duration)
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

/// Kernels before 5.11 count programs and maps against RLIMIT_MEMLOCK, those of all processes of the user: at
/// the limit they refuse each as if a permission were missing. All that is loaded here calls this first.
pub fn lift_memlock_limit() {
    let limit = libc::rlimit { rlim_cur: libc::RLIM_INFINITY, rlim_max: libc::RLIM_INFINITY };
    // SAFETY: `limit` is valid for the call. If it fails, loading will report what is wrong.
    unsafe { libc::setrlimit(libc::RLIMIT_MEMLOCK, &limit) };
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
        assert_eq!((size_of::<Load>(), size_of::<TestRun>(), size_of::<LinkCreate>()), (72, 72, 16));
        assert_eq!(std::mem::offset_of!(Load, attach_type), 68);
        assert_eq!(size_of::<Instruction>(), 8);
        assert_eq!(std::mem::offset_of!(TestRun, context_size_in), 40);
        assert_eq!(std::mem::offset_of!(TestRun, flags), 64);
        assert_eq!(std::mem::offset_of!(Load, license), 16);
    }
}
