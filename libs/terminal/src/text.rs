//! Numbers and names, fitted to a width.

use unicode_width::{UnicodeWidthChar as _, UnicodeWidthStr as _};

/// Power in watts, in at most six characters.
pub(crate) fn watts(watts: f64) -> String {
    match watts {
        w if w < 0.005 => "0.00".to_owned(),
        w if w < 9.995 => format!("{w:.2}"),
        w if w < 9_999.5 => format!("{w:.1}"),
        w => format!("{:.1}k", w / 1e3),
    }
}

/// Energy in joules, in at most six characters: `12.3k` is 12.3 kJ.
pub(crate) fn joules(joules: f64) -> String {
    match joules {
        j if j < 0.005 => "0.00".to_owned(),
        j if j < 9.995 => format!("{j:.2}"),
        j if j < 999.95 => format!("{j:.1}"),
        j if j < 999_950.0 => scaled(j / 1e3, 'k'),
        j if j < 999_950_000.0 => scaled(j / 1e6, 'M'),
        j => scaled(j / 1e9, 'G'),
    }
}

fn scaled(value: f64, prefix: char) -> String {
    if value < 9.995 { format!("{value:.2}{prefix}") } else { format!("{value:.1}{prefix}") }
}

/// Energy with its unit: `12.3 kJ`.
pub(crate) fn energy(value: f64) -> String {
    let mut text = joules(value);
    match text.pop() {
        Some(prefix) if prefix.is_alphabetic() => format!("{text} {prefix}J"),
        Some(digit) => format!("{text}{digit} J"),
        None => text,
    }
}

/// A share in percent: 1 is 100 %.
pub(crate) fn percent(share: f64) -> String {
    match share * 100.0 {
        p if p < 0.05 => "0.0".to_owned(),
        p if p < 999.95 => format!("{p:.1}"),
        p => format!("{p:.0}"),
    }
}

/// Memory: `512M`, `1.2G`.
pub(crate) fn bytes(bytes: f64) -> String {
    match bytes / 1024.0 {
        k if k < 1000.0 => format!("{k:.0}K"),
        k if k < 1000.0 * 1024.0 => format!("{:.0}M", k / 1024.0),
        k => format!("{:.1}G", k / 1024.0 / 1024.0),
    }
}

/// Time: `5s`, `3m20s`, `2h05m`, `3d04h`.
pub(crate) fn duration(seconds: u64) -> String {
    match seconds {
        s if s < 60 => format!("{s}s"),
        s if s < 3600 => format!("{}m{:02}s", s / 60, s % 60),
        s if s < 86_400 => format!("{}h{:02}m", s / 3600, s / 60 % 60),
        s => format!("{}d{:02}h", s / 86_400, s / 3600 % 24),
    }
}

/// `14:00:05`: the time of day.
pub(crate) fn clock(unix_nano: u64, utc_offset: i64) -> String {
    let seconds = unix_nano.saturating_add_signed(utc_offset) / 1_000_000_000 % 86_400;
    format!("{:02}:{:02}:{:02}", seconds / 3600, seconds / 60 % 60, seconds % 60)
}

/// `text`, cut to `width` columns; the last one says so.
pub(crate) fn cut(text: &str, width: usize) -> String {
    if text.width() <= width {
        return text.to_owned();
    }
    let (mut kept, mut used) = (String::new(), 0);
    for c in text.chars() {
        let wide = c.width().unwrap_or(0);
        if used + wide + 1 > width {
            break;
        }
        kept.push(c);
        used += wide;
    }
    if width > 0 { kept + "…" } else { kept }
}

/// `text` in exactly `width` columns, to the left.
pub(crate) fn left(text: &str, width: usize) -> String {
    let text = cut(text, width);
    let room = width.saturating_sub(text.width());
    text + &" ".repeat(room)
}

/// `text` in exactly `width` columns, to the right.
pub(crate) fn right(text: &str, width: usize) -> String {
    let text = cut(text, width);
    " ".repeat(width.saturating_sub(text.width())) + &text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_fit_their_columns() {
        for (value, power, amount) in [
            (0.0, "0.00", "0.00"),
            (0.004, "0.00", "0.00"),
            (9.994, "9.99", "9.99"),
            (9.996, "10.0", "10.0"),
            (123.456, "123.5", "123.5"),
            (1234.5, "1234.5", "1.23k"),
            (99_999.0, "100.0k", "100.0k"),
            (1.5e7, "15000.0k", "15.0M"),
        ] {
            assert_eq!((watts(value), joules(value)), (power.to_owned(), amount.to_owned()));
        }
        assert_eq!((energy(12_345.0), energy(5.0)), ("12.3 kJ".to_owned(), "5.00 J".to_owned()));
        assert_eq!(
            (percent(1.903), percent(64.0), percent(0.0)),
            ("190.3".into(), "6400".into(), "0.0".into())
        );
        assert_eq!((bytes(4096.0), bytes(1.3e9)), ("4K".into(), "1.2G".into()));
        assert_eq!(
            (duration(5), duration(200), duration(7500)),
            ("5s".into(), "3m20s".into(), "2h05m".into())
        );
    }

    #[test]
    fn text_is_cut_by_columns_and_wide_characters_take_two() {
        assert_eq!((cut("abc", 3), cut("abcd", 3)), ("abc".to_owned(), "ab…".to_owned()));
        assert_eq!((left("日本語", 5), right("日本", 5)), ("日本…".to_owned(), " 日本".to_owned()));
        assert_eq!((cut("abc", 0), left("a", 3)), (String::new(), "a  ".to_owned()));
    }
}
