//! How the C library keeps memory that was freed.

/// Keeps glibc from raising the size above which a block has pages of its own, as it does when the first
/// large one is freed. Blocks below that size stay with the thread that had them.
pub(crate) fn return_large_blocks() {
    #[cfg(target_env = "gnu")]
    // SAFETY: it has no preconditions.
    unsafe {
        libc::mallopt(libc::M_MMAP_THRESHOLD, 128 * 1024)
    };
}
