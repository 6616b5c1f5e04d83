//! What the books need to know of a Markdown page: its links, and the anchors of its headings.

use std::collections::HashMap;
use std::ops::Range;

use pulldown_cmark::{Event, Options, Parser, Tag, TagEnd};

/// A page's links and anchors.
#[derive(Debug, Default)]
pub(super) struct Page {
    pub(super) links: Vec<Link>,
    /// Of its headings, as GitHub and mdBook make them.
    pub(super) anchors: Vec<String>,
}

/// A link, or a picture.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Link {
    /// `../README.md#licence`
    pub(super) target: String,
    /// Where the target stands in the page; empty if it stands elsewhere, as that of a reference does.
    pub(super) place: Range<usize>,
    /// Counted from 1.
    pub(super) line: usize,
}

impl Link {
    /// The file, and the anchor in it; `None` for an address of the network.
    pub(super) fn parts(&self) -> Option<(&str, &str)> {
        if self.target.contains("://") || self.target.starts_with("mailto:") {
            return None;
        }
        Some(self.target.split_once('#').unwrap_or((&self.target, "")))
    }
}

impl Page {
    /// Reads `text`.
    pub(super) fn read(text: &str) -> Self {
        let mut page = Self::default();
        let mut heading: Option<String> = None;
        let mut seen = HashMap::<String, u32>::new();
        for (event, range) in Parser::new_ext(text, Options::ENABLE_TABLES).into_offset_iter() {
            match event {
                Event::Start(Tag::Link { dest_url, .. } | Tag::Image { dest_url, .. }) => {
                    let line = text[..range.start].matches('\n').count() + 1;
                    let place = text[range.clone()].rfind(&format!("]({dest_url}"));
                    let place = place.map_or(0..0, |at| {
                        let start = range.start + at + 2;
                        start..start + dest_url.len()
                    });
                    page.links.push(Link { target: dest_url.into_string(), place, line });
                }
                Event::Start(Tag::Heading { .. }) => heading = Some(String::new()),
                Event::End(TagEnd::Heading(_)) => {
                    let anchor = anchor(&heading.take().unwrap_or_default());
                    let count = seen.entry(anchor.clone()).or_default();
                    let nth = if *count == 0 { anchor } else { format!("{anchor}-{count}") };
                    *count += 1;
                    page.anchors.push(nth);
                }
                Event::Text(words) | Event::Code(words) => {
                    if let Some(heading) = &mut heading {
                        heading.push_str(&words);
                    }
                }
                _ => {}
            }
        }
        page
    }
}

fn anchor(heading: &str) -> String {
    let of = |c: char| match c {
        ' ' => Some('-'),
        '-' | '_' => Some(c),
        c if c.is_alphanumeric() => Some(c.to_ascii_lowercase()),
        _ => None,
    };
    heading.chars().filter_map(of).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_and_anchors_are_found_and_code_is_left_alone() {
        let text = "# What it is: `run`\n\n[a](b.md#c) `[x](y.md)`\n\n```md\n[q](r.md)\n```\n\n## Same\n\n\
                    ## Same\n\n![p](d/e.svg)\n";
        let page = Page::read(text);
        let targets: Vec<_> = page.links.iter().map(|link| (&*link.target, link.line)).collect();
        assert_eq!(targets, [("b.md#c", 3), ("d/e.svg", 13)]);
        assert_eq!(&text[page.links[0].place.clone()], "b.md#c");
        assert_eq!(page.links[0].parts(), Some(("b.md", "c")));
        assert_eq!(page.anchors, ["what-it-is-run", "same", "same-1"]);
    }
}
