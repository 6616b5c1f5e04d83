//! Values whose name says that they are secret: options, variables, fields of connection strings, of URLs'
//! queries, of headers and of JSON.

/// In the name of a secret, without its punctuation and in small letters: `DB_PASSWORD`, `--api-key`,
/// `aws_secret_access_key`, `AccountKey` (connection strings of Azure), `X-Amz-Credential`.
const CONTAINED: [&str; 19] = [
    "passw",
    "passphrase",
    "passcode",
    "secret",
    "credential",
    "apikey",
    "accesskey",
    "accountkey",
    "sharedkey",
    "storagekey",
    "subscriptionkey",
    "masterkey",
    "signingkey",
    "encryptionkey",
    "privatekey",
    "presharedkey",
    "authkey",
    "authtoken",
    "authorization",
];

/// At its end: `GITHUB_TOKEN`, `-storepass`, `MYSQL_PWD` and `Pwd`, `--creds` (skopeo), `X-Amz-Signature`.
const FINAL: [&str; 10] =
    ["token", "pass", "pwd", "passwd", "creds", "jwt", "signature", "cookie", "sessionid", "psk"];

/// Its last word: `--auth`, `&sig=` (shared access signatures of Azure), `npm publish --otp`.
const FINAL_WORD: [&str; 5] = ["auth", "sig", "otp", "pw", "bearer"];

/// At the end of what is no secret, although the rest of the name says so: `--password-file`, `--token-type`.
const HARMLESS: [&str; 22] = [
    "file",
    "path",
    "dir",
    "directory",
    "type",
    "method",
    "mode",
    "url",
    "uri",
    "endpoint",
    "ttl",
    "timeout",
    "length",
    "version",
    "format",
    "limit",
    "name",
    "prompt",
    "bypass",
    "compass",
    "singlepass",
    "multipass",
];

/// Names after which a colon needs no blank: `-HAuthorization:Bearer …`.
const CERTAIN: [&str; 4] = ["password", "passwd", "cookie", "authorization"];

/// What separates words within an argument, which may be a shell script, a URL with a query or JSON.
const SEPARATORS: &[char] = &[' ', '\t', '\n', '\r', '"', '\'', '`', '&', '?', ';', ',', '{', '(', '='];

/// Whether `name` makes `value` a secret.
pub(super) fn is_secret(name: &str, value: &str) -> bool {
    // The working directory.
    if matches!(name, "PWD" | "OLDPWD") && value.starts_with('/') {
        return false;
    }
    let lower = name.to_ascii_lowercase();
    let plain: String = lower.chars().filter(char::is_ascii_alphanumeric).collect();
    // Passes of an encoder are counted.
    let is_count = plain.ends_with("pass") && value.len() <= 2 && value.bytes().all(|b| b.is_ascii_digit());
    if is_count && !value.is_empty() || HARMLESS.iter().any(|end| plain.ends_with(end)) {
        return false;
    }
    let last_word = lower.rsplit(|c: char| !c.is_ascii_alphanumeric()).find(|word| !word.is_empty());
    CONTAINED.iter().any(|part| plain.contains(part))
        || FINAL.iter().any(|end| plain.ends_with(end))
        || last_word.is_some_and(|word| FINAL_WORD.contains(&word))
}

/// The start in `argument` of the first value whose name makes it a secret: `token=x`, `"token": "x"`.
pub(super) fn secret_in(argument: &str) -> Option<usize> {
    argument.match_indices(['=', ':']).find_map(|(at, sign)| {
        let (before, after) = (&argument[..at], &argument[at + 1..]);
        let name = before.trim_end_matches(['"', '\'']).rsplit(SEPARATORS).next().unwrap_or_default();
        // In a header or in JSON, but not before a port.
        let is_certain = || CERTAIN.iter().any(|end| name.to_ascii_lowercase().ends_with(end));
        let is_named = sign == "=" || after.starts_with([' ', '"', '\'']) || is_certain();
        (is_named && is_secret(name, after)).then_some(at + 1)
    })
}
