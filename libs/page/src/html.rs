//! The page as one file: style, charts and script inside, and the document too unless the page fetches it.
//!
//! Nothing of the document is markup: it is JSON in a block that the browser does not run, in which every `<`
//! is escaped, and the script inserts names as text. The content security policy allows only the script and
//! the style that carry this page's random number, no HTML made of text, and no request but one to the server
//! that the page came from; of a file, none at all.

use std::fmt::Write as _;
use std::io;

use crate::Document;

const PAGE: &str = include_str!("../web/page.html");
const STYLE: &str = include_str!("../web/style.css");
const CHART_STYLE: &str = include_str!("../web/vendor/uPlot.min.css");
const CHART_SCRIPT: &str = include_str!("../web/vendor/uPlot.iife.min.js");

/// Each after those that it imports.
const MODULES: [&str; 10] = [
    include_str!("../web/format.js"),
    include_str!("../web/dom.js"),
    include_str!("../web/books.js"),
    include_str!("../web/colours.js"),
    include_str!("../web/chart.js"),
    include_str!("../web/table.js"),
    include_str!("../web/tree.js"),
    include_str!("../web/flame.js"),
    include_str!("../web/waterfall.js"),
    include_str!("../web/main.js"),
];

/// A page and the policy that it is served with.
#[derive(Clone, Debug)]
pub(crate) struct Page {
    pub(crate) html: String,
    pub(crate) policy: String,
}

/// The page with the document inside: a file that can be opened anywhere.
///
/// # Errors
/// The kernel's, which gives random numbers, and those of writing JSON.
pub fn file(document: &Document) -> io::Result<String> {
    let json = serde_json::to_string(document)?;
    Ok(page(&json, "'none'")?.html)
}

/// The page that fetches the document from beside itself.
pub(crate) fn served() -> io::Result<Page> {
    page("", "'self'")
}

fn page(json: &str, connects_to: &str) -> io::Result<Page> {
    let nonce = random_hex()?;
    let policy = format!(
        "default-src 'none'; script-src 'nonce-{nonce}'; style-src 'nonce-{nonce}'; img-src data:; \
         connect-src {connects_to}; base-uri 'none'; form-action 'none'; require-trusted-types-for 'script'; \
         trusted-types 'none'"
    );
    let html = fill(PAGE, |marker| match marker {
        "policy" => policy.clone(),
        "nonce" => nonce.clone(),
        "style" => format!("{CHART_STYLE}\n{STYLE}"),
        "chart" => CHART_SCRIPT.to_owned(),
        "script" => script(),
        // Neither the end of the block nor a comment can begin in it.
        "document" => json.replace('<', "\\u003c"),
        _ => String::new(),
    });
    Ok(Page { html, policy })
}

/// The template with its `{{markers}}` replaced. What is inserted is not looked at again.
fn fill(template: &str, value: impl Fn(&str) -> String) -> String {
    let mut html = String::new();
    let mut rest = template;
    while let Some((before, marked)) = rest.split_once("{{") {
        let Some((marker, after)) = marked.split_once("}}") else { break };
        html += before;
        html += &value(marker);
        rest = after;
    }
    html + rest
}

/// One module of all: they share a scope, so that nothing needs to be imported or exported.
fn script() -> String {
    let lines = MODULES.iter().flat_map(|module| module.lines());
    let lines = lines.filter(|line| !line.starts_with("import "));
    lines.map(|line| line.strip_prefix("export ").unwrap_or(line)).fold(String::new(), |mut script, line| {
        script.push_str(line);
        script.push('\n');
        script
    })
}

/// 128 random bits.
pub(crate) fn random_hex() -> io::Result<String> {
    let mut bytes = [0_u8; 16];
    // As few come in one piece.
    rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty())?;
    Ok(bytes.iter().fold(String::new(), |mut hex, byte| {
        // Writing to a string does not fail.
        let _ = write!(hex, "{byte:02x}");
        hex
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_inserted_is_not_looked_at_again() {
        let filled = fill("a{{x}}b{{y}}c", |marker| format!("<{marker}{{{{y}}}}>"));
        assert_eq!(filled, "a<x{{y}}>b<y{{y}}>c");
    }

    #[test]
    fn the_script_has_neither_imports_nor_exports() {
        let script = script();
        assert!(script.lines().all(|line| !line.starts_with("import") && !line.starts_with("export")));
        assert!(script.contains("function ledger("), "{script}");
        assert!(!script.contains("</script"));
    }

    #[test]
    fn a_hostile_document_ends_no_block() {
        let hostile = page(r#"{"title":"</script><!--<script>"}"#, "'none'").unwrap().html;
        let honest = page("{}", "'none'").unwrap().html;
        for markup in ["</script", "<!--", "<script"] {
            assert_eq!(hostile.matches(markup).count(), honest.matches(markup).count(), "{markup}");
        }
    }

    #[test]
    fn each_page_has_a_policy_of_its_own() {
        let [one, other] = [served().unwrap(), served().unwrap()];
        assert_ne!(one.policy, other.policy);
        assert!(one.html.contains(&one.policy));
    }
}
