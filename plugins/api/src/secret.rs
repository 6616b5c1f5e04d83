//! Text that is shown nowhere: a password or a token in a plugin's configuration.

use std::fmt;

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// What is shown instead of a secret.
pub const HIDDEN: &str = "…";

/// Text that is shown nowhere: neither in logs nor when the configuration is written out, where it becomes
/// [`HIDDEN`]. That in turn is no secret that a configuration may contain.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Secret(pub String);

impl Secret {
    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    fn shown(&self) -> &'static str {
        if self.0.is_empty() { "" } else { HIDDEN }
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_empty() { "none" } else { HIDDEN })
    }
}

impl Serialize for Secret {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.shown())
    }
}

impl<'de> Deserialize<'de> for Secret {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        if text == HIDDEN {
            return Err(D::Error::custom(
                "this stands for a secret that `wattrace config show` does not show: put the secret here",
            ));
        }
        Ok(Self(text))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, Serialize, Deserialize)]
    struct Config {
        token: Secret,
        none: Secret,
    }

    #[test]
    fn it_is_shown_neither_in_logs_nor_in_a_configuration_that_is_written_out() {
        let config: Config = toml::from_str("token = 'hush'\nnone = ''").unwrap();
        assert_eq!((config.token.0.as_str(), config.none.is_empty()), ("hush", true));
        assert_eq!(format!("{config:?}"), "Config { token: …, none: none }");
        let written = toml::to_string(&config).unwrap();
        assert_eq!(written, "token = \"…\"\nnone = \"\"\n");
        let error = toml::from_str::<Config>(&written).unwrap_err();
        assert!(error.message().contains("put the secret here"), "{error}");
    }
}
