//! Globs, translated to regular expressions. [`crate::pattern`] selects series by them.

use regex_lite::Regex;

/// A compiled glob, which matches the whole text.
///
/// `?` is one character, `*` any number of them (`/` and `.` included), `[ab]` one of several, `[a-z]` one of
/// a range, `[!ab]` any other, `{this,that}` alternatives; `\` escapes these characters.
#[derive(Clone, Debug)]
pub struct Glob(Regex);

/// Why a glob is invalid.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum GlobError {
    /// A `[` without its `]`.
    #[error("`{0}`: a [ has no ]")]
    UnclosedClass(String),
    /// A `{` without its `}`, or the reverse.
    #[error("`{0}`: {{ and }} do not match")]
    UnbalancedAlternatives(String),
    /// A `\` at the end.
    #[error("`{0}`: nothing follows the \\ at the end")]
    DanglingEscape(String),
    /// A range whose end is before its start, or too large a glob.
    #[error("`{0}`: {1}")]
    Invalid(String, String),
}

impl Glob {
    /// Compiles `text`.
    ///
    /// # Errors
    /// If it is no glob.
    pub fn new(text: &str) -> Result<Self, GlobError> {
        let regex = format!("^(?s:{})$", translate(text)?);
        let compiled = Regex::new(&regex).map_err(|e| GlobError::Invalid(text.to_owned(), e.to_string()));
        compiled.map(Self)
    }

    /// Whether it matches the whole of `text`.
    pub fn is_match(&self, text: &str) -> bool {
        self.0.is_match(text)
    }
}

/// The glob as a regular expression.
fn translate(text: &str) -> Result<String, GlobError> {
    let (mut regex, mut open) = (String::new(), 0_u32);
    let mut rest = text.chars();
    while let Some(c) = rest.next() {
        match c {
            '?' => regex.push('.'),
            '*' => regex.push_str(".*"),
            '[' => class(&mut rest, &mut regex).ok_or_else(|| GlobError::UnclosedClass(text.to_owned()))?,
            '{' => {
                open += 1;
                regex.push_str("(?:");
            }
            '}' => {
                let outer = open.checked_sub(1);
                open = outer.ok_or_else(|| GlobError::UnbalancedAlternatives(text.to_owned()))?;
                regex.push(')');
            }
            ',' if open > 0 => regex.push('|'),
            '\\' => {
                let escaped = rest.next().ok_or_else(|| GlobError::DanglingEscape(text.to_owned()))?;
                literal(escaped, &mut regex);
            }
            _ => literal(c, &mut regex),
        }
    }
    if open > 0 { Err(GlobError::UnbalancedAlternatives(text.to_owned())) } else { Ok(regex) }
}

/// Translates a class up to its `]`, which is a member where it comes first. `None` if there is none.
fn class(rest: &mut std::str::Chars<'_>, regex: &mut String) -> Option<()> {
    regex.push('[');
    if rest.as_str().starts_with(['!', '^']) {
        rest.next();
        regex.push('^');
    }
    let mut is_first = true;
    loop {
        match rest.next()? {
            ']' if !is_first => {
                regex.push(']');
                return Some(());
            }
            // Between two members it makes a range. At an end it would be one for a regular expression, too.
            '-' if !is_first && !rest.as_str().starts_with(']') => regex.push('-'),
            '\\' => literal(rest.next()?, regex),
            c => literal(c, regex),
        }
        is_first = false;
    }
}

fn literal(c: char, regex: &mut String) {
    regex.push_str(&regex_lite::escape(c.encode_utf8(&mut [0; 4])));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(glob: &str, matching: &[&str], others: &[&str]) {
        let compiled = Glob::new(glob).unwrap();
        matching.iter().for_each(|text| assert!(compiled.is_match(text), "{glob} matches {text}"));
        others.iter().for_each(|text| assert!(!compiled.is_match(text), "{glob} does not match {text}"));
    }

    #[test]
    fn the_whole_text_must_match() {
        check("hw.energy", &["hw.energy"], &["hw.energy.x", "xhw.energy", "hwxenergy", ""]);
        check("", &[""], &["a", "\n"]);
        check("a+(b)|c$^", &["a+(b)|c$^"], &["aab", "c"]);
        check("<a> b#c", &["<a> b#c"], &["a b#c"]);
    }

    #[test]
    fn stars_and_question_marks_match_any_character() {
        check("hw.*", &["hw.", "hw.a/b.c", "hw.a\nb", "hw.µ"], &["hw", "hwx"]);
        check("a?c", &["abc", "a/c", "aµc"], &["ac", "abbc"]);
        check("**/x*", &["/x", "a/b/xy"], &["x"]);
    }

    #[test]
    fn classes_are_sets_ranges_and_their_complements() {
        check("[ab]1", &["a1", "b1"], &["c1", "1", "ab1"]);
        check("[a-c0-9]", &["b", "5"], &["d", "-"]);
        check("[!a-c]", &["d", "-"], &["b", ""]);
        check("[^a]", &["b"], &["a"]);
        check("[]a]", &["]", "a"], &["b"]);
        check("[-a]", &["-", "a"], &["b"]);
        check("[a-]", &["-", "a"], &["b"]);
        check("[<>]", &["<", ">"], &["", "a"]);
        check(r"[\]&&~^[]", &["]", "&", "~", "^", "["], &["\\", "a"]);
    }

    #[test]
    fn alternatives_nest() {
        check(
            "{hw,wattrace.{a,b}}.energy",
            &["hw.energy", "wattrace.b.energy"],
            &["wattrace.energy", "b.energy"],
        );
        check("a,b", &["a,b"], &["a", "b"]);
    }

    #[test]
    fn a_backslash_makes_anything_literal() {
        check(r"\*\?\[\{\}\\\a", &[r"*?[{}\a"], &["x?[{}\\a"]);
        check(r"{a\,b,c}", &["a,b", "c"], &["a", "b,c"]);
    }

    #[test]
    fn what_is_no_glob_is_refused_with_its_text() {
        for (text, part) in [
            ("[z", "no ]"),
            ("[!]", "no ]"),
            ("{a", "do not match"),
            ("a}", "do not match"),
            ("a\\", "at the end"),
        ] {
            let message = Glob::new(text).unwrap_err().to_string();
            assert!(message.contains(part) && message.contains(&format!("`{text}`")), "{message}");
        }
        assert!(matches!(Glob::new("[z-a]"), Err(GlobError::Invalid(..))));
    }
}
