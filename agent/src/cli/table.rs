//! Tables for people.

/// Rows whose columns are padded to the widest cell: those in `left` align left, the others right. Each line
/// begins with `indent`.
pub(super) fn aligned<const N: usize>(rows: &[[String; N]], left: &[usize], indent: &str) -> String {
    let width = |c: usize| rows.iter().map(|r| r[c].chars().count()).max().unwrap_or(0);
    let widths: [usize; N] = std::array::from_fn(width);
    let mut text = String::new();
    for row in rows {
        let cells = row.iter().enumerate().map(|(c, cell)| {
            let width = widths[c];
            if left.contains(&c) { format!("{cell:<width$}") } else { format!("{cell:>width$}") }
        });
        text += &format!("{indent}{}\n", cells.collect::<Vec<_>>().join("  ").trim_end());
    }
    text
}

/// `text` without characters that act on a terminal: control characters, and those that change the direction
/// of what follows.
pub(super) fn printable(text: &str) -> String {
    let acts = |c: char| {
        c.is_control()
            || matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
    };
    text.chars().map(|c| if acts(c) { char::REPLACEMENT_CHARACTER } else { c }).collect()
}

/// `text`, cut to `most` characters.
pub(super) fn shortened(text: &str, most: usize) -> String {
    if text.chars().count() <= most {
        return text.to_owned();
    }
    let kept: String = text.chars().take(most.saturating_sub(1)).collect();
    format!("{kept}…")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_from_outside_neither_acts_on_the_terminal_nor_breaks_the_width() {
        assert_eq!(printable("a\u{1b}[2Jb\u{202e}c\u{2067}é"), "a\u{fffd}[2Jb\u{fffd}c\u{fffd}é");
        assert_eq!((shortened("éabc", 4), shortened("éabcd", 4)), ("éabc".into(), "éab…".into()));
    }
}
