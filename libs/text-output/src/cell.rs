//! Text in a cell of a table that a spreadsheet may open. Names come from outside, and a spreadsheet computes
//! a cell that begins with `=`, `+`, `-` or `@`; a terminal obeys control characters.

use std::borrow::Cow;
use std::fmt::Write as _;

use wattrace_api::text::escaped;

/// Characters at the start of a cell that make a spreadsheet compute it, with their wide forms.
pub const FORMULA: [char; 8] = ['=', '+', '-', '@', '＝', '＋', '－', '＠'];

/// Text as a cell that no spreadsheet takes for a formula: what begins like one has a `'` before it, and
/// control characters and invisible ones are written as `\u{1b}`. Quotes are the writer's business.
pub fn cell(text: &str) -> Cow<'_, str> {
    let text = escaped(text, push_code);
    if text.starts_with(FORMULA) { format!("'{text}").into() } else { text }
}

/// Appends the code of `c`, as `\u{1b}`.
pub fn push_code(c: char, text: &mut String) {
    // Writing to a String cannot fail.
    let _ = write!(text, "\\u{{{:x}}}", u32::from(c));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_no_formula_and_no_escape_sequence() {
        let cells = ["cc", "=1+2", "-x", "＠x", "a\u{1b}[2J\n"].map(cell);
        assert_eq!(cells, ["cc", "'=1+2", "'-x", "'＠x", "a\\u{1b}[2J\\u{a}"]);
    }
}
