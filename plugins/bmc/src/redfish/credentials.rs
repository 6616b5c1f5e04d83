//! The account that reads: its name, and its password from a file. `client.rs` sends them.

use std::fs;
use std::os::unix::fs::MetadataExt;

use wattrace_api::files::read_text;
use wattrace_api::{Error, Secret};

use crate::config::BmcConfig;

/// More bytes than any BMC's password has.
const LONGEST_PASSWORD: u64 = 4096;

/// Name and password.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Credentials {
    pub(super) name: String,
    pub(super) password: Secret,
}

impl Credentials {
    /// Reads the password file. `None`: no user name is configured.
    pub(crate) fn read(config: &BmcConfig) -> Result<Option<Self>, Error> {
        if config.username.is_empty() {
            return Ok(None);
        }
        let path = &config.password_file;
        let bad =
            |e: std::io::Error| Error::gone(format!("plugins.bmc.password_file: {}: {e}", path.display()));
        let password = read_text(path, LONGEST_PASSWORD).map_err(bad)?;
        let password = Secret(password.trim_end_matches(['\r', '\n']).to_owned());
        if fs::metadata(path).map_err(bad)?.mode() & 0o077 != 0 {
            let path = path.display();
            tracing::warn!("plugins.bmc.password_file: others can read it; `sudo chmod 600 {path}`");
        }
        Ok(Some(Self { name: config.username.clone(), password }))
    }

    /// The header of basic authentication.
    pub(super) fn basic(&self) -> String {
        format!("Basic {}", base64(format!("{}:{}", self.name, self.password.0).as_bytes()))
    }
}

fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for three in bytes.chunks(3) {
        let bits =
            three.iter().fold(0_u32, |bits, &byte| bits << 8 | u32::from(byte)) << (8 * (3 - three.len()));
        for digit in 0..4 {
            let six = (bits >> (18 - 6 * digit)) as usize & 63;
            text.push(if digit > three.len() { '=' } else { DIGITS[six] as char });
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_follows_rfc_4648() {
        for (plain, coded) in [
            ("", ""),
            ("f", "Zg=="),
            ("fo", "Zm8="),
            ("foo", "Zm9v"),
            ("foob", "Zm9vYg=="),
            ("Aladdin:open sesame", "QWxhZGRpbjpvcGVuIHNlc2FtZQ=="),
        ] {
            assert_eq!(base64(plain.as_bytes()), coded);
        }
    }
}
