//! Names of domains and sensors, made from what drivers call them.

/// Lower case, with a hyphen in place of everything that is neither a letter nor a digit.
pub fn slug(text: &str) -> String {
    let words = text.split(|c: char| !c.is_ascii_alphanumeric()).filter(|word| !word.is_empty());
    words.collect::<Vec<_>>().join("-").to_ascii_lowercase()
}

/// `text` with its numbers padded with zeros, so that sorting by it puts `hwmon9` before `hwmon10`.
pub fn natural(text: &str) -> String {
    let (mut padded, mut digits) = (String::with_capacity(text.len()), String::new());
    for c in text.chars().chain(std::iter::once('\0')) {
        if c.is_ascii_digit() {
            digits.push(c);
        } else {
            if !digits.is_empty() {
                padded.push_str(&format!("{:0>20}", std::mem::take(&mut digits)));
            }
            padded.push(c);
        }
    }
    padded
}

/// `name`, or the first of `name-1`, `name-2`, … that is not `taken`.
pub fn unique(name: String, mut taken: impl FnMut(&str) -> bool) -> String {
    if !taken(&name) {
        return name;
    }
    (1_u64..).map(|nth| format!("{name}-{nth}")).find(|numbered| !taken(numbered)).unwrap_or(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everything_but_letters_and_digits_becomes_a_hyphen() {
        assert_eq!(slug("Package id 0"), "package-id-0");
        assert_eq!(slug("(VDD_CPU)\u{b4}"), "vdd-cpu");
        assert_eq!(slug("\u{b4}"), "");
    }

    #[test]
    fn numbers_sort_by_their_value() {
        let mut all = ["hwmon10/power1", "hwmon9/power10", "hwmon9/power2", "a", ""];
        all.sort_by_cached_key(|name| natural(name));
        assert_eq!(all, ["", "a", "hwmon9/power2", "hwmon9/power10", "hwmon10/power1"]);
    }

    #[test]
    fn equal_names_are_numbered() {
        let taken = ["a", "a-1", "b-1"];
        let unique = |name: &str| unique(name.to_owned(), |name| taken.contains(&name));
        assert_eq!(["a", "b", "c"].map(unique), ["a-2", "b", "c"]);
    }
}
