//! Colours. Only the sixteen that a terminal's own scheme defines, and the terminal's own foreground and
//! background, so that text is readable whatever that scheme is.

use ratatui::style::{Color, Modifier, Style};

/// For which terminal colours are chosen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Theme {
    /// A dark background.
    #[default]
    Dark,
    /// A light background.
    Light,
    /// No colours: bold, dim and reversed text alone.
    Plain,
}

impl Theme {
    /// What the environment says: `NO_COLOR`, a terminal without colours, and the background that some
    /// terminals give in `COLORFGBG` (`15;0`).
    pub fn of_environment(variable: impl Fn(&str) -> Option<String>) -> Self {
        if variable("NO_COLOR").is_some_and(|value| !value.is_empty())
            || variable("TERM").is_some_and(|term| term == "dumb" || term.ends_with("-m") || term == "vt100")
        {
            return Theme::Plain;
        }
        let colours = variable("COLORFGBG").unwrap_or_default();
        let background = colours.rsplit(';').next().and_then(|number| number.parse::<u8>().ok());
        match background {
            Some(7 | 9..) => Theme::Light,
            _ => Theme::Dark,
        }
    }

    /// The next one.
    pub(crate) fn next(self) -> Self {
        match self {
            Theme::Dark => Theme::Light,
            Theme::Light => Theme::Plain,
            Theme::Plain => Theme::Dark,
        }
    }

    pub(crate) fn name(self) -> &'static str {
        match self {
            Theme::Dark => "dark",
            Theme::Light => "light",
            Theme::Plain => "no colours",
        }
    }

    fn coloured(self, dark: Color, light: Color) -> Style {
        match self {
            Theme::Dark => Style::new().fg(dark),
            Theme::Light => Style::new().fg(light),
            Theme::Plain => Style::new(),
        }
    }

    /// Names of things.
    pub(crate) fn title(self) -> Style {
        self.coloured(Color::Cyan, Color::Blue).add_modifier(Modifier::BOLD)
    }

    /// Power.
    pub(crate) fn power(self) -> Style {
        self.coloured(Color::Yellow, Color::Magenta)
    }

    /// Bars.
    pub(crate) fn bar(self) -> Style {
        self.coloured(Color::Green, Color::Blue)
    }

    /// What is less important.
    pub(crate) fn quiet(self) -> Style {
        match self {
            Theme::Plain => Style::new().add_modifier(Modifier::DIM),
            _ => self.coloured(Color::DarkGray, Color::DarkGray),
        }
    }

    /// What needs attention.
    pub(crate) fn warning(self) -> Style {
        self.coloured(Color::Red, Color::Red).add_modifier(Modifier::BOLD)
    }

    /// The names of columns.
    pub(crate) fn heading(self) -> Style {
        Style::new().add_modifier(Modifier::BOLD | Modifier::UNDERLINED)
    }

    /// The row that is selected.
    pub(crate) fn selected(self) -> Style {
        Style::new().add_modifier(Modifier::REVERSED)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_environment_decides() {
        let of = |set: &[(&str, &str)]| {
            Theme::of_environment(|name| {
                set.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned())
            })
        };
        assert_eq!(of(&[("TERM", "xterm-256color")]), Theme::Dark);
        assert_eq!(of(&[("COLORFGBG", "0;15")]), Theme::Light);
        assert_eq!(of(&[("COLORFGBG", "15;default;0")]), Theme::Dark);
        assert_eq!(of(&[("COLORFGBG", "0;15"), ("NO_COLOR", "1")]), Theme::Plain);
        assert_eq!(of(&[("NO_COLOR", "")]), Theme::Dark, "empty means nothing");
        assert_eq!(of(&[("TERM", "dumb")]), Theme::Plain);
    }
}
