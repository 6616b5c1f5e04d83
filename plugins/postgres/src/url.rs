//! The database's URL, which is shown without the password in it.

use std::fmt;

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use wattrace_api::secret::HIDDEN;

/// `postgresql://USER:PASSWORD@HOST:PORT/DATABASE?KEY=VALUE`. It is printed and written out with
/// [`HIDDEN`] in the place of the password.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct DatabaseUrl(pub String);

impl DatabaseUrl {
    /// It, without what may be a password.
    pub(crate) fn shown(&self) -> String {
        let url = &self.0;
        let start = url.find("://").map_or(0, |at| at + 3);
        let end = url[start..].find(['/', '?']).map_or(url.len(), |at| start + at);
        // The last @ ends it, though a password should have none.
        let (user, place) = match url[start..end].rsplit_once('@') {
            Some((credentials, place)) => match credentials.split_once(':') {
                Some((user, _)) => (format!("{user}:{HIDDEN}@"), place),
                None => (format!("{credentials}@"), place),
            },
            None => (String::new(), &url[start..end]),
        };
        let (path, query) = match url[end..].split_once('?') {
            Some((path, query)) => (path, format!("?{}", without_password(query))),
            None => (&url[end..], String::new()),
        };
        format!("{}{user}{place}{path}{query}", &url[..start])
    }
}

fn without_password(query: &str) -> String {
    let hidden = |pair: &str| match pair.split_once('=') {
        Some((key, _)) if key.contains("password") => format!("{key}={HIDDEN}"),
        _ => pair.to_owned(),
    };
    query.split('&').map(hidden).collect::<Vec<_>>().join("&")
}

impl fmt::Debug for DatabaseUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.shown())
    }
}

impl Serialize for DatabaseUrl {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.shown())
    }
}

impl<'de> Deserialize<'de> for DatabaseUrl {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        if text.contains(HIDDEN) {
            return Err(D::Error::custom(format!(
                "`{HIDDEN}` stands for a password that `wattrace config show` does not show: put it there"
            )));
        }
        Ok(Self(text))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_password_is_hidden_wherever_it_stands() {
        for (url, shown) in [
            ("postgresql://me:hush@h:1/db", "postgresql://me:…@h:1/db"),
            ("postgresql://me:hu@sh@h/db?a=b", "postgresql://me:…@h/db?a=b"),
            ("postgresql://me@h/db", "postgresql://me@h/db"),
            ("postgresql:///db?host=/run/x&password=hush", "postgresql:///db?host=/run/x&password=…"),
            ("", ""),
        ] {
            let url = DatabaseUrl(url.to_owned());
            assert_eq!((url.shown(), format!("{url:?}")), (shown.to_owned(), shown.to_owned()));
        }
    }

    #[test]
    fn what_is_shown_is_no_url_to_configure() {
        #[derive(Debug, Serialize, Deserialize)]
        struct Config {
            url: DatabaseUrl,
        }
        let config: Config = toml::from_str("url = 'postgresql://me:hush@h'").unwrap();
        let written = toml::to_string(&config).unwrap();
        assert!(!written.contains("hush"), "{written}");
        assert!(toml::from_str::<Config>(&written).unwrap_err().message().contains("put it there"));
    }
}
