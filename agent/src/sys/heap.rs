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

#[cfg(test)]
mod tests {
    use super::*;

    /// The mapping of the code that runs: its range, and how much of it is resident, kB.
    fn code() -> (std::ops::Range<usize>, u64) {
        let here = code as *const () as usize;
        let maps = std::fs::read_to_string("/proc/self/smaps").unwrap();
        let mut lines = maps.lines();
        let range = lines
            .by_ref()
            .find_map(|line| {
                let (start, end) = line.split(' ').next()?.split_once('-')?;
                let parse = |address| usize::from_str_radix(address, 16).ok();
                Some(parse(start)?..parse(end)?).filter(|range| range.contains(&here))
            })
            .unwrap();
        let resident = lines.find_map(|line| line.strip_prefix("Rss:")).unwrap();
        (range, resident.trim().trim_end_matches(" kB").parse().unwrap())
    }

    #[test]
    fn code_that_is_unmapped_is_not_resident_and_runs_again() {
        let (range, _) = code();
        for address in range.clone().step_by(4096) {
            // SAFETY: the mapping is readable, and stays.
            unsafe { (address as *const u8).read_volatile() };
        }
        let (_, before) = code();
        assert!(before > range.len() as u64 / 2048, "{before} of {} kB were read", range.len() / 1024);
        unmap_startup_code();
        let (_, after) = code();
        assert!(after < before / 2, "{after} of {before} kB are left");
    }
}
