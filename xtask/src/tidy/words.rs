//! The vocabulary of ARCHITECTURE.md has a table of words that are not used, each with the word that is. A
//! `*` at the end of a word stands for any ending. Words are searched in sources, documents, configuration
//! and scripts.

use anyhow::{Context, Result, bail};

use super::{File, Violation};

/// The document and the heading under which the table stands.
const DOCUMENT: &str = "ARCHITECTURE.md";
const HEADING: &str = "### Words that are not used";

/// This file, whose tests need the words.
const EXEMPT: &str = "xtask/src/tidy/words.rs";

const EXTENSIONS: [&str; 6] = ["rs", "md", "toml", "sh", "py", "yml"];

/// A word that is not used.
struct Banned {
    /// Its words in lower case; it may be a phrase.
    words: Vec<String>,
    /// What is written instead.
    instead: String,
}

pub(super) fn check(files: &[File]) -> Result<Vec<Violation>> {
    let document = files.iter().find(|file| file.path.to_str() == Some(DOCUMENT));
    let document = document.with_context(|| format!("{DOCUMENT} is missing"))?;
    let banned = table(&document.text)?;
    let mut violations = Vec::new();
    let searched = files.iter().filter(|file| EXTENSIONS.iter().any(|extension| file.is(extension)));
    for file in searched.filter(|file| file.path.to_str() != Some(EXEMPT)) {
        let mut in_table = false;
        for (number, line) in file.text.lines().enumerate() {
            in_table = line == HEADING || (in_table && !line.starts_with('#'));
            if in_table {
                continue;
            }
            let found = banned.iter().filter(|banned| banned.is_in(line));
            violations.extend(found.map(|banned| file.violation(number + 1, banned.message())));
        }
    }
    Ok(violations)
}

/// The rows of the table: the first column in backquotes, several words separated by commas, and the second.
fn table(document: &str) -> Result<Vec<Banned>> {
    let rows = document.lines().skip_while(|line| *line != HEADING).skip(1);
    let rows = rows.take_while(|line| !line.starts_with('#')).filter(|line| line.starts_with("| `"));
    let mut banned = Vec::new();
    for row in rows {
        let mut columns = row.trim_matches('|').split(" | ").map(str::trim);
        let (Some(words), Some(instead)) = (columns.next(), columns.next()) else { continue };
        for phrase in words.split(',').map(|word| word.trim().trim_matches('`')) {
            let words = phrase.split(' ').map(str::to_lowercase).collect();
            banned.push(Banned { words, instead: instead.to_owned() });
        }
    }
    if banned.is_empty() {
        bail!("{DOCUMENT} has no table under `{HEADING}`");
    }
    Ok(banned)
}

impl Banned {
    /// Whether the line has these words one after the other.
    fn is_in(&self, line: &str) -> bool {
        let lower = line.to_lowercase();
        // In code, a word is a part of a name as well: `when_told`.
        let words: Vec<_> =
            lower.split(|c: char| !c.is_alphabetic()).filter(|word| !word.is_empty()).collect();
        words.windows(self.words.len()).any(|window| {
            window.iter().zip(&self.words).all(|(word, banned)| match banned.strip_suffix('*') {
                Some(stem) => word.starts_with(stem),
                None => word == banned,
            })
        })
    }

    fn message(&self) -> String {
        format!("`{}`: write {}", self.words.join(" "), self.instead)
    }
}

#[cfg(test)]
mod tests {
    use super::super::file;
    use super::*;

    const TABLE: &str = "\
# Architecture
### Words that are not used
| not | but |
| --- | --- |
| `foretell*`, `by turns` | predict, alternately |
## Next
The learner foretells nothing.
";

    #[test]
    fn a_banned_word_is_found_with_its_line_in_text_and_in_names() {
        let code =
            file("a.rs", "// it works by\nfn takes_by_turns() {}\nfn foretelling() {}\nlet turns = by;\n");
        let found = check(&[file("ARCHITECTURE.md", TABLE), code]).unwrap();
        let places: Vec<_> = found.iter().map(|v| (v.file.to_str().unwrap(), v.line)).collect();
        assert_eq!(places, [("ARCHITECTURE.md", 7), ("a.rs", 2), ("a.rs", 3)]);
        assert_eq!(found[1].message, "`by turns`: write predict, alternately");
    }

    #[test]
    fn a_document_without_the_table_is_an_error() {
        assert!(check(&[file("ARCHITECTURE.md", "# Architecture\n")]).is_err());
    }
}
