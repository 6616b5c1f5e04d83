//! Names of elements with wildcards: `source/sched/*`.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// A pattern over `kind/plugin/element`: `*` stands for any text, slashes too, `?` for one character.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Pattern(String);

/// A text can match no element.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` matches no element: write KIND/PLUGIN/ELEMENT, as in source/sched/* or output/*")]
pub struct BadPattern(String);

impl FromStr for Pattern {
    type Err = BadPattern;
    fn from_str(text: &str) -> Result<Self, BadPattern> {
        let kind = text.split('/').next().unwrap_or_default();
        let possible =
            ["source", "transform", "output"].iter().any(|k| matches(kind.as_bytes(), k.as_bytes()));
        // Without a slash, only a wildcard that reaches over slashes can match.
        let whole = text.contains('/') || kind.contains('*');
        if (possible || kind.contains('*')) && whole {
            Ok(Self(text.to_owned()))
        } else {
            Err(BadPattern(text.to_owned()))
        }
    }
}

impl TryFrom<String> for Pattern {
    type Error = BadPattern;
    fn try_from(text: String) -> Result<Self, BadPattern> {
        text.parse()
    }
}

impl From<Pattern> for String {
    fn from(pattern: Pattern) -> String {
        pattern.0
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Pattern {
    /// Every element.
    pub fn all() -> Self {
        Self("*".into())
    }

    /// Whether it matches `name`, `kind/plugin/element`.
    pub fn matches(&self, name: &str) -> bool {
        matches(self.0.as_bytes(), name.as_bytes())
    }

    /// Its length: of two patterns that match, the longer one is more specific.
    pub(crate) fn weight(&self) -> usize {
        self.0.len()
    }
}

/// Goes back to the last star when it gets stuck, so that it takes no more than length × length steps.
fn matches(pattern: &[u8], name: &[u8]) -> bool {
    let (mut p, mut n, mut retry) = (0, 0, None);
    while n < name.len() {
        match pattern.get(p) {
            Some(b'*') => {
                retry = Some((p, n));
                p += 1;
            }
            Some(&c) if c == b'?' || c == name[n] => (p, n) = (p + 1, n + 1),
            _ => match retry {
                Some((star, from)) => {
                    retry = Some((star, from + 1));
                    (p, n) = (star + 1, from + 1);
                }
                None => return false,
            },
        }
    }
    pattern[p..].iter().all(|&c| c == b'*')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stars_stand_for_any_text_and_the_rest_for_itself() {
        for (pattern, name, is) in [
            ("source/sched/*", "source/sched/cpu", true),
            ("source/sched/*", "source/scheduler/cpu", false),
            ("source/*", "source/gpu/a/b", true),
            ("*", "output/x/y", true),
            ("*/otlp/*", "output/otlp/metrics", true),
            ("output/*/m*s", "output/otlp/metrics", true),
            ("output/*/m*s", "output/otlp/metric", false),
            ("source/rapl/energy", "source/rapl/energy", true),
            ("source/rapl/energy", "source/rapl/energy2", false),
            ("source/gpu/?", "source/gpu/1", true),
            ("source/gpu/?", "source/gpu/12", false),
            ("source/*a*a*a*a*b", "source/aaaaaaaaaaaaaaaaaaaaaaaaaaaa", false),
        ] {
            assert_eq!(pattern.parse::<Pattern>().unwrap().matches(name), is, "{pattern} {name}");
        }
        for bad in ["", "sched", "sink/x/y", "sources/x"] {
            assert!(bad.parse::<Pattern>().is_err(), "{bad}");
        }
    }
}
