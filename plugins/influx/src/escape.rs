//! How line protocol writes the texts of a line. `lines` writes the rest.
//!
//! A backslash keeps a separator from being one. What a backslash means before other characters depends on
//! the server: to InfluxDB it is itself, to VictoriaMetrics two of them are one. So a backslash is doubled
//! only where it would otherwise escape what follows, and names with backslashes inside (systemd's
//! `a\x2db.slice`) arrive as they are everywhere. There is no way to write a line feed that all servers read;
//! as Telegraf does, it becomes the two characters `\n`.

/// What separates the parts of a line: in the name of a measurement, and in keys and values of tags.
const OF_MEASUREMENT: &[char] = &[',', ' '];
const OF_TAG: &[char] = &[',', ' ', '='];
/// What is written with a backslash before it, somewhere.
const ESCAPED: &[char] = &[',', ' ', '=', '\\', '\n', '\r', '\t'];

/// Adds the name of a measurement.
pub(crate) fn measurement(line: &mut String, name: &str) {
    // A line that begins with # is a comment.
    if name.starts_with('#') {
        line.push('_');
    }
    text(line, name, OF_MEASUREMENT);
}

/// Adds a tag, after a comma. An empty value is the same as none.
pub(crate) fn tag(line: &mut String, key: &str, value: &str) {
    if key.is_empty() || value.is_empty() {
        return;
    }
    line.push(',');
    text(line, key, OF_TAG);
    line.push('=');
    text(line, value, OF_TAG);
}

fn text(line: &mut String, text: &str, separators: &[char]) {
    let mut rest = text.chars().peekable();
    while let Some(c) = rest.next() {
        match c {
            '\\' => {
                let next = rest.peek();
                let escapes = next.is_none_or(|next| ESCAPED.contains(next));
                line.push_str(if escapes { r"\\" } else { r"\" });
                // At the end it would escape the separator that follows, whatever is before it.
                if next.is_none() {
                    line.push_str(r"\ ");
                }
            }
            '\n' => line.push_str(r"\n"),
            '\r' => line.push_str(r"\r"),
            '\t' => line.push_str(r"\t"),
            c if separators.contains(&c) => line.extend(['\\', c]),
            // No server takes the rest of the control characters well.
            c if c.is_control() => line.push('\u{fffd}'),
            c => line.push(c),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn escaped(value: &str) -> String {
        let mut line = String::new();
        text(&mut line, value, OF_TAG);
        line
    }

    /// Cuts `line` at each `separator` that is not escaped, by VictoriaMetrics' rule (an even number of
    /// backslashes before it) or by InfluxDB's (none right before it).
    fn cut(line: &str, separator: char, by_parity: bool) -> Vec<String> {
        let (mut parts, mut backslashes) = (vec![String::new()], 0);
        for c in line.chars() {
            let is_escaped = if by_parity { backslashes % 2 == 1 } else { backslashes > 0 };
            backslashes = if c == '\\' { backslashes + 1 } else { 0 };
            if c == separator && !is_escaped {
                parts.push(String::new());
            } else {
                parts.last_mut().unwrap().push(c);
            }
        }
        parts
    }

    /// A tag's text as a server reads it: VictoriaMetrics takes `\\` for a backslash, InfluxDB does not.
    fn unescaped(text: &str, doubles: bool) -> String {
        let (mut out, mut rest) = (String::new(), text.chars().peekable());
        while let Some(c) = rest.next() {
            let is_escape = rest.peek().is_some_and(|n| OF_TAG.contains(n) || (doubles && *n == '\\'));
            if c == '\\' && is_escape { out.extend(rest.next()) } else { out.push(c) }
        }
        out
    }

    #[test]
    fn separators_are_escaped_and_line_feeds_written_in_two_characters() {
        assert_eq!(escaped("a b,c=d"), r"a\ b\,c\=d");
        assert_eq!(escaped("say \"hi\"\n🦀\t"), r#"say\ "hi"\n🦀\t"#);
        assert_eq!(escaped(r"system-a\x2db.slice"), r"system-a\x2db.slice");
        assert_eq!(escaped(r"\, \"), r"\\\,\ \\\ ");
        assert_eq!(escaped("a\u{1b}b"), "a\u{fffd}b");
        let mut line = String::new();
        measurement(&mut line, "#a b=c");
        tag(&mut line, "k=1", "v");
        tag(&mut line, "empty", "");
        assert_eq!(line, r"_#a\ b=c,k\=1=v");
    }

    proptest! {
        #[test]
        fn every_text_stays_within_its_tag(values in prop::collection::vec(r#"[ab,= \\"🦀\n]{1,6}"#, 1..4)) {
            let mut line = "m".to_owned();
            values.iter().for_each(|value| tag(&mut line, "k", value));
            line.push_str(" value=1 1");
            prop_assert!(!line.contains('\n'));
            for by_parity in [false, true] {
                let parts = cut(&line, ' ', by_parity);
                prop_assert_eq!(parts.len(), 3, "{}", line);
                let tags = cut(&parts[0], ',', by_parity);
                prop_assert_eq!(tags.len(), values.len() + 1, "{}", line);
                for (tag, value) in tags[1..].iter().zip(&values) {
                    let pair = cut(tag, '=', by_parity);
                    prop_assert_eq!(pair.len(), 2, "{}", line);
                    // Servers with InfluxDB's rule see some backslashes twice.
                    let written = value.replace('\n', r"\n");
                    let is_plain = !written.replace(r"\n", "").contains('\\');
                    if by_parity || is_plain {
                        let read = unescaped(&pair[1], by_parity);
                        let end = if value.ends_with('\\') { " " } else { "" };
                        prop_assert_eq!(read, format!("{written}{end}"));
                    }
                }
            }
        }
    }
}
