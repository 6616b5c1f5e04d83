//! Secrets that are known by themselves, whatever stands around them: tokens that begin with what their
//! issuer chose for finding them, JSON web tokens, secret keys of AWS, private keys in PEM.

use super::HIDDEN;

/// A token: what it begins with, its least length after that, and whether a digit has to be in it, since
/// ordinary words may begin so too.
struct Token(&'static str, usize, bool);

const TOKENS: [Token; 61] = [
    // GitHub: "Behind GitHub's new authentication token formats".
    Token("ghp_", 16, false),
    Token("gho_", 16, false),
    Token("ghu_", 16, false),
    Token("ghs_", 16, false),
    Token("ghr_", 16, false),
    Token("github_pat_", 16, false),
    // GitLab: "Token overview", token prefixes.
    Token("glpat-", 16, false),
    Token("gldt-", 16, false),
    Token("glrt-", 16, false),
    Token("glrtr-", 16, false),
    Token("glptt-", 16, false),
    Token("glft-", 16, false),
    Token("glsoat-", 16, false),
    Token("glcbt-", 16, false),
    Token("glagent-", 16, false),
    Token("gloas-", 16, false),
    // Slack: "Token types", and its webhooks.
    Token("xoxb-", 10, false),
    Token("xoxp-", 10, false),
    Token("xoxa-", 10, false),
    Token("xoxr-", 10, false),
    Token("xoxs-", 10, false),
    Token("xoxc-", 10, false),
    Token("xoxd-", 10, false),
    Token("xoxe", 10, true),
    Token("xapp-", 10, false),
    Token("hooks.slack.com/services/", 10, false),
    // Discord's and Telegram's webhooks and bots.
    Token("discord.com/api/webhooks/", 10, false),
    Token("api.telegram.org/bot", 10, false),
    // AWS: "IAM identifiers", unique prefixes of access keys.
    Token("AKIA", 12, false),
    Token("ASIA", 12, false),
    // Google: API keys, OAuth tokens and secrets.
    Token("AIza", 20, false),
    Token("ya29.", 16, false),
    Token("GOCSPX-", 16, false),
    // OpenAI, Anthropic, and others of that form.
    Token("sk-", 16, true),
    Token("sk_live_", 10, false),
    Token("sk_test_", 10, false),
    Token("rk_live_", 10, false),
    Token("rk_test_", 10, false),
    Token("whsec_", 10, false),
    Token("hf_", 16, true),
    Token("gsk_", 16, true),
    Token("r8_", 16, true),
    // Registries: npm, PyPI, crates.io, RubyGems, Docker Hub.
    Token("npm_", 16, true),
    Token("pypi-", 16, true),
    Token("cio", 30, true),
    Token("rubygems_", 16, true),
    Token("dckr_pat_", 10, false),
    Token("dckr_oat_", 10, false),
    // HashiCorp Vault and Terraform, DigitalOcean, Databricks, SendGrid, Shopify, Tailscale, age, Grafana.
    Token("hvs.", 10, false),
    Token("hvb.", 10, false),
    Token("dop_v1_", 16, false),
    Token("dapi", 30, true),
    Token("SG.", 16, true),
    Token("shpat_", 16, false),
    Token("shpss_", 16, false),
    Token("tskey-", 10, false),
    Token("AGE-SECRET-KEY-", 10, false),
    Token("glsa_", 16, false),
    Token("glc_", 16, true),
    // RFC 6750.
    Token("Bearer ", 12, true),
    Token("bearer ", 12, true),
];

/// Length of a secret access key of AWS.
const AWS_SECRET: usize = 40;

/// `argument` with every such secret hidden. It may be truncated.
pub(super) fn hidden(argument: &str, is_cut: bool) -> String {
    let (mut shown, mut rest) = (String::with_capacity(argument.len()), argument);
    // Secrets begin where a word does.
    let mut is_start = true;
    while let Some(c) = rest.chars().next() {
        if is_start && let Some((kept, end)) = secret_at_start(rest, is_cut) {
            shown.extend([&rest[..kept], HIDDEN]);
            rest = &rest[end..];
            is_start = false;
            continue;
        }
        is_start = !c.is_ascii_alphanumeric() && c != '_';
        shown.push(c);
        rest = &rest[c.len_utf8()..];
    }
    shown
}

/// How much of the secret at the start of `text` may be shown, and where it ends.
fn secret_at_start(text: &str, is_cut: bool) -> Option<(usize, usize)> {
    for Token(prefix, least, needs_digit) in &TOKENS {
        let Some(after) = text.strip_prefix(prefix) else { continue };
        let end = token_end(after);
        let (token, is_last) = (&after[..end], is_cut && end == after.len());
        let has_digit = token.bytes().any(|b| b.is_ascii_digit());
        if end >= *least && (has_digit || !needs_digit) || is_last && !needs_digit {
            return Some((prefix.len(), prefix.len() + end));
        }
    }
    pem(text).or_else(|| json_web_token(text, is_cut)).or_else(|| aws_secret(text))
}

fn token_end(text: &str) -> usize {
    let is_in = |c: char| c.is_ascii_alphanumeric() || "_-.~+/=:%".contains(c);
    text.find(|c| !is_in(c)).unwrap_or(text.len())
}

/// A private key in PEM, as it stands or in base64, up to its end.
fn pem(text: &str) -> Option<(usize, usize)> {
    const BASE64: &str = "LS0tLS1CRUdJTi";
    if text.starts_with(BASE64) {
        return Some((BASE64.len(), token_end(text)));
    }
    let label = text.strip_prefix("-----BEGIN ")?;
    // A label that is cut off may be that of a key.
    let is_other = label.find("-----").is_some_and(|end| !label[..end].contains("PRIVATE"));
    let end = text.find("-----END").unwrap_or(text.len());
    (!is_other).then_some((11.min(end), end))
}

/// RFC 7519: three parts in base64, of which the first two are JSON objects.
fn json_web_token(text: &str, is_cut: bool) -> Option<(usize, usize)> {
    let end = token_end(text);
    let is_object = |part: &str| part.starts_with("eyJ") && part.len() > 8;
    let mut parts = text[..end].split('.');
    let is_token =
        is_object(parts.next()?) && (parts.next().is_some_and(is_object) || is_cut && end == text.len());
    is_token.then_some((3, end))
}

/// Forty characters of base64 with digits, small and capital letters. A path begins with a slash or has dots,
/// a hash has no capitals.
fn aws_secret(text: &str) -> Option<(usize, usize)> {
    let is_in = |c: char| c.is_ascii_alphanumeric() || c == '/' || c == '+';
    let end = text.find(|c| !is_in(c)).unwrap_or(text.len());
    let word = &text[..end];
    let has = |kind: fn(&u8) -> bool| word.bytes().any(|b| kind(&b));
    let is_random = has(u8::is_ascii_digit) && has(u8::is_ascii_lowercase) && has(u8::is_ascii_uppercase);
    let follows = text[end..].chars().next();
    let is_whole = follows.is_none_or(|c| !matches!(c, '.' | '-' | '_' | '='));
    (end == AWS_SECRET && is_random && is_whole && !word.starts_with('/')).then_some((0, end))
}
