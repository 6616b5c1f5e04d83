//! No line of a source file or a document is wider than 110 columns. Tables of documents are exempt, since a
//! row cannot be wrapped, and so are lines without a space to wrap at.

use super::{File, Violation};

/// The limit, in characters.
const COLUMNS: usize = 110;

pub(super) fn check(files: &[File]) -> Vec<Violation> {
    let checked = files.iter().filter(|file| file.is("rs") || file.is("md"));
    let mut violations = Vec::new();
    for file in checked.filter(|file| !file.path.starts_with("LICENSE")) {
        for (number, line) in file.text.lines().enumerate() {
            let columns = line.chars().count();
            if columns > COLUMNS && !is_exempt(line) {
                violations
                    .push(file.violation(number + 1, format!("{columns} columns: wrap it at {COLUMNS}")));
            }
        }
    }
    violations
}

fn is_exempt(line: &str) -> bool {
    let text = line.trim_start().trim_start_matches('/').trim_start_matches('!').trim_start();
    text.starts_with('|') || !text.trim_start_matches(['-', '*', '[', '"', ' ']).contains(' ')
}

#[cfg(test)]
mod tests {
    use super::super::file;
    use super::*;

    #[test]
    fn a_wide_line_is_found_and_a_table_or_an_address_is_not() {
        let wide = "word ".repeat(30);
        let text = format!("short\n{wide}\n| {wide} |\n//! | {wide} |\n<https://{}>\n", "a".repeat(200));
        let found = check(&[file("a.md", &text), file("b.rs", &wide), file("c.toml", &wide)]);
        let places: Vec<_> = found.iter().map(|v| (v.file.to_str().unwrap(), v.line)).collect();
        assert_eq!(places, [("a.md", 2), ("b.rs", 1)]);
    }
}
