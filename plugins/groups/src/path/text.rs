//! Text of cgroup paths: its pieces, numbers, systemd's escapes.

/// The names between the slashes. A path that is seen from another cgroup namespace begins with `/..`.
pub(crate) fn pieces(path: &str) -> impl Iterator<Item = &str> {
    path.split('/').filter(|piece| !matches!(*piece, "" | ".."))
}

/// Parses a number that consists of digits only.
pub(crate) fn number<T: std::str::FromStr>(text: &str) -> Option<T> {
    text.bytes().all(|b| b.is_ascii_digit()).then(|| text.parse().ok()).flatten()
}

/// Undoes systemd's escapes: `machine-qemu\x2d1` for `machine-qemu-1`.
pub(crate) fn unescaped(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, tail @ ..] = rest {
        let escape = tail.get(..3).filter(|e| *first == b'\\' && e[0] == b'x');
        // `from_str_radix` accepts a sign, too.
        let code = escape.filter(|e| e[1..].iter().all(u8::is_ascii_hexdigit));
        let code = code.and_then(|e| std::str::from_utf8(&e[1..]).ok());
        let code = code.and_then(|digits| u8::from_str_radix(digits, 16).ok());
        bytes.push(code.unwrap_or(*first));
        rest = if code.is_some() { &tail[3..] } else { tail };
    }
    String::from_utf8_lossy(&bytes).into_owned()
}
