//! What stays resident: memory that was freed, and code that has run.

/// Keeps glibc from raising the size above which a block has pages of its own, as it does when the first
/// large one is freed. Blocks below that size stay with the thread that had them.
pub(crate) fn return_large_blocks() {
    #[cfg(target_env = "gnu")]
    // SAFETY: it has no preconditions.
    unsafe {
        libc::mallopt(libc::M_MMAP_THRESHOLD, 128 * 1024)
    };
}

/// Unmaps the program's code and constants, of which starting up touches far more than what follows. What is
/// used again is mapped again from the page cache: once, some hundred faults of a microsecond each.
pub(crate) fn unmap_startup_code() {
    unsafe extern "C" {
        // Defined by the linker: the first byte of the image, and the first one after its code.
        static __executable_start: u8;
        static etext: u8;
    }
    let (start, end) = (&raw const __executable_start as usize, &raw const etext as usize);
    // SAFETY: what lies between the two is mapped from the file and never written, so the file has all of it.
    // Relocated constants and data come after it.
    unsafe { libc::madvise(start as *mut libc::c_void, end.saturating_sub(start), libc::MADV_DONTNEED) };
}
