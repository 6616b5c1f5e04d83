//! Text that is shown nowhere: a password or a token in a plugin's configuration.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Text that is not shown in logs. `wattrace config show` hides it too if its key is or ends with `token`,
/// `password` or `secret`.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Secret(pub String);

impl Secret {
    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_empty() { "none" } else { "…" })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_not_shown() {
        assert_eq!(format!("{:?} {:?}", Secret("hush".into()), Secret::default()), "… none");
    }
}
