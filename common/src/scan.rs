//! A copy of kernel memory, in which user space finds structure offsets on kernels without type information.

use crate::Pod;

/// Bytes copied at once. A chunk that reaches into an unmapped page is lost as a whole.
pub const CHUNK: usize = 64;
/// Chunks copied: together larger than the `task_struct` of any kernel so far.
pub const CHUNKS: usize = 256;

/// The only element of the map `SCAN`.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Scan {
    /// The kernel address to copy from, or 0 for the `task_struct` of the thread that runs the program.
    pub from: u64,
    /// Address of that `task_struct`.
    pub task: u64,
    /// The copy. Chunks that could not be read are zeros.
    pub memory: [[u8; CHUNK]; CHUNKS],
}

// SAFETY: integers, in the layout of C.
unsafe impl Pod for Scan {}
