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

/// `text`, cut to `most` characters.
pub(super) fn shortened(text: &str, most: usize) -> String {
    if text.chars().count() <= most {
        return text.to_owned();
    }
    let kept: String = text.chars().take(most.saturating_sub(1)).collect();
    format!("{kept}…")
}

/// `text` in lines of at most `width` characters, each with its end; those after the first begin with
/// `indent`. A command in backquotes stays whole, so that it can be pasted.
pub(super) fn wrapped(text: &str, indent: &str, width: usize) -> String {
    let mut is_quoted = false;
    let is_break = |c: char| {
        is_quoted ^= c == '`';
        c == ' ' && !is_quoted
    };
    let words = text.trim_start().split(is_break).map(|word| (word, word.chars().count()));
    let start = &text[..text.len() - text.trim_start().len()];
    let (mut lines, mut used) = (start.to_owned(), start.chars().count());
    let mut is_first = true;
    for (word, length) in words {
        if !is_first && used + 1 + length > width {
            lines.truncate(lines.trim_end().len());
            lines += "\n";
            lines += indent;
            used = indent.chars().count();
            is_first = true;
        }
        if !is_first {
            lines.push(' ');
            used += 1;
        }
        lines += word;
        used += length;
        is_first = false;
    }
    lines + "\n"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_break_between_words_and_commands_stay_whole() {
        assert_eq!(wrapped("  ok  one two three", "    ", 13), "  ok  one two\n    three\n");
        assert_eq!(wrapped("run `sudo modprobe rapl` now", "  ", 10), "run\n  `sudo modprobe rapl`\n  now\n");
        assert_eq!(wrapped("", "  ", 10), "\n");
        assert_eq!(wrapped("éé éé", "", 5), "éé éé\n", "characters, not bytes");
    }

    #[test]
    fn text_is_cut_by_characters() {
        assert_eq!((shortened("éabc", 4), shortened("éabcd", 4)), ("éabc".into(), "éab…".into()));
    }
}
