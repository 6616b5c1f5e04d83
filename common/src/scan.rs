//! For kernels without type information: a copy of kernel memory in which user space finds where members lie.

/// Bytes copied at once, so that the end of a kernel page costs no more than them.
pub const CHUNK: usize = 64;
/// Chunks copied: more than any `task_struct` so far has.
pub const CHUNKS: usize = 256;

/// The only element of the map `SCAN`.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Scan {
    /// What to copy: a kernel address, or 0 for the `task_struct` of whoever runs the program.
    pub from: u64,
    /// Address of that `task_struct`.
    pub task: u64,
    /// The copy; zeros where nothing could be read.
    pub memory: [[u8; CHUNK]; CHUNKS],
}
