//! Parses lists of CPUs as the kernel writes them: `0-3,8`.

/// No machine has a CPU with this number. A list comes from a file, and a file may contain anything.
const TOO_MANY: u32 = 1 << 16;

/// The numbers of a list such as `0-3,8`, ascending; an empty list (an empty line) has none. `None`: it is
/// not a list of CPUs.
pub fn parse_list(text: &str) -> Option<Vec<u32>> {
    let (text, mut cpus) = (text.trim(), Vec::new());
    if text.is_empty() {
        return Some(cpus);
    }
    for range in text.split(',') {
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        let (first, last) = (first.parse::<u32>().ok()?, last.parse::<u32>().ok()?);
        // The kernel writes them in ascending order. In any other order a list could have any length.
        if first > last || last >= TOO_MANY || cpus.last().is_some_and(|&before| first <= before) {
            return None;
        }
        cpus.extend(first..=last);
    }
    Some(cpus)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_are_read_as_the_kernel_writes_them() {
        assert_eq!(parse_list("0-3,8\n"), Some(vec![0, 1, 2, 3, 8]));
        assert_eq!(parse_list("0,28\n"), Some(vec![0, 28]));
        assert_eq!(parse_list("5"), Some(vec![5]));
        assert_eq!(parse_list("0-65535").map(|cpus| cpus.len()), Some(65_536));
        assert_eq!((parse_list("\n"), parse_list("")), (Some(vec![]), Some(vec![])));
    }

    #[test]
    fn malformed_lists_are_refused() {
        let repeated = "0-65535,".repeat(100);
        for text in [
            "x",
            "0;1",
            "-1",
            "1-",
            "-",
            ",",
            "0,",
            ",0",
            "0,,1",
            "0-1-2",
            "0 1",
            "3-0",
            "0-3,3",
            "4,0-3",
            "65536",
            "0-65536",
            "0-99999999",
            "0-4294967296",
            "0-60000,0-60000",
            &repeated,
        ] {
            assert_eq!(parse_list(text), None, "{text}");
        }
    }
}
