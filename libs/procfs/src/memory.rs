//! Parses `/proc/PID/smaps_rollup`, the sums over the mappings of a process. `lib.rs` reads the file. The
//! kernel walks all pages of the process to make it: some milliseconds per gigabyte.

use crate::status_field;

/// The memory of a process, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Memory {
    /// What is in RAM, each page in full.
    pub rss: u64,
    /// The same, each page divided by the number of processes that map it.
    pub pss: u64,
    /// What is swapped out, divided in the same way.
    pub swap: u64,
}

impl Memory {
    /// Parses the file's text.
    pub fn parse(text: &str) -> Option<Self> {
        let bytes =
            |name| status_field(text, name)?.strip_suffix(" kB")?.parse::<u64>().ok()?.checked_mul(1024);
        Some(Self { rss: bytes("Rss")?, pss: bytes("Pss")?, swap: bytes("SwapPss")? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_are_found_by_their_whole_names() {
        let text = "5626-7ffe ---p 00000000 00:00 0    [rollup]\nRss:    1620 kB\nPss:     199 kB\n\
                    Pss_Dirty: 112 kB\nSwap:      8 kB\nSwapPss:       4 kB\nLocked:  0 kB\n";
        let expected = Memory { rss: 1620 * 1024, pss: 199 * 1024, swap: 4096 };
        assert_eq!(Memory::parse(text), Some(expected));
        for (from, to) in [("Pss: ", "Other: "), (" kB", ""), ("199", "x"), ("199", "99999999999999999999")] {
            assert_eq!(Memory::parse(&text.replace(from, to)), None, "{to:?} for {from:?}");
        }
        assert_eq!(Memory::parse(""), None);
    }
}
