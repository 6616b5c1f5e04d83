//! `book`: the user's book and the plugin author's, by mdBook, into target/book. Their pages are docs/*.md,
//! which are read on GitHub as they are. `docs/book/NAME/SUMMARY.md` lists those of a book. Here they are
//! copied, and links that leave the book are pointed at the other book or at the repository.
//!
//! | module | does |
//! | --- | --- |
//! | `markdown` | finds links and headings |
//! | `links` | finds dead links in all documents |
//! | `reference` | docs/plugins.md |
//! | `tool` | finds or builds mdBook |

mod links;
mod markdown;
mod reference;
mod tool;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use self::links::resolve;
use self::markdown::Page;
use crate::process::{run as run_command, say};
use crate::workspace;

/// The books, by their folders in docs/book.
const BOOKS: [&str; 2] = ["user", "authors"];
/// Where links to other files of the repository lead.
const REPOSITORY: &str = "https://github.com/wattrace/wattrace/blob/main";

/// The page of plugins.
const REFERENCE: &str = "docs/plugins.md";

/// The pages of a book, in docs/, from the repository's root.
struct Book {
    name: &'static str,
    pages: Vec<PathBuf>,
}

/// Builds both books, after the page that is generated.
pub(crate) fn run() -> Result<()> {
    let root = workspace::root();
    write(&root.join(REFERENCE), &reference()?)?;
    let all = links::pages(root)?;
    let dead = links::dead(root, &all);
    if !dead.is_empty() {
        bail!("{} dead links:\n{}", dead.len(), dead.join("\n"));
    }
    let books = BOOKS.map(|name| Book::read(name, &all));
    let mdbook = tool::ensure()?;
    for book in &books {
        let folder = workspace::root().join("target/book/sources").join(book.name);
        book.assemble(&folder, &books, &all)?;
        let to = workspace::root().join("target/book").join(book.name);
        run_command(Command::new(&mdbook).arg("build").arg(&folder).arg("--dest-dir").arg(&to))?;
        say("book", format_args!("{}/index.html", to.display()));
    }
    Ok(())
}

impl Book {
    /// The pages that the book's summary lists.
    fn read(name: &'static str, all: &BTreeMap<PathBuf, Page>) -> Self {
        let summary = PathBuf::from(format!("docs/book/{name}/SUMMARY.md"));
        let links = all.get(&summary).map_or(&[][..], |page| &page.links[..]);
        let pages = links.iter().filter_map(|link| Some(resolve(&summary, link.parts()?.0)));
        Self { name, pages: pages.collect() }
    }

    /// Writes the book as mdBook wants it into `folder`.
    fn assemble(&self, folder: &Path, books: &[Book], all: &BTreeMap<PathBuf, Page>) -> Result<()> {
        if folder.exists() {
            fs::remove_dir_all(folder).with_context(|| folder.display().to_string())?;
        }
        let own = workspace::root().join("docs/book").join(self.name);
        write(&folder.join("book.toml"), &text(&own.join("book.toml"))?)?;
        let summary = text(&own.join("SUMMARY.md"))?.replace("](../../", "](");
        write(&folder.join("src/SUMMARY.md"), &summary)?;
        for path in &self.pages {
            let page = all.get(path).with_context(|| format!("{} is no page", path.display()))?;
            let pointed = self.point(path, &text(&workspace::root().join(path))?, page, books)?;
            write(&folder.join("src").join(path.strip_prefix("docs")?), &pointed)?;
        }
        Ok(())
    }

    /// The text of a page, with links that leave the book pointed elsewhere. Pictures are copied.
    fn point(&self, path: &Path, text: &str, page: &Page, books: &[Book]) -> Result<String> {
        let mut pointed = text.to_owned();
        // From the last one, so that places before it stay.
        for link in page.links.iter().rev().filter(|link| !link.place.is_empty()) {
            let Some((file, anchor)) = link.parts().filter(|(file, _)| !file.is_empty()) else { continue };
            let target = resolve(path, file);
            if self.pages.contains(&target) {
                continue;
            }
            if target.extension().is_some_and(|e| e == "svg" || e == "png") && target.starts_with("docs") {
                let to = workspace::root().join("target/book/sources").join(self.name).join("src");
                let to = to.join(target.strip_prefix("docs")?);
                fs::create_dir_all(to.parent().unwrap_or(&to))?;
                fs::copy(workspace::root().join(&target), &to).with_context(|| to.display().to_string())?;
                continue;
            }
            let hash = if anchor.is_empty() { String::new() } else { format!("#{anchor}") };
            let address = match books.iter().find(|book| book.pages.contains(&target)) {
                Some(other) => {
                    let up = "../".repeat(path.components().count() - 1);
                    let html = target.strip_prefix("docs")?.with_extension("html");
                    format!("{up}{}/{}{hash}", other.name, html.display())
                }
                None => format!("{REPOSITORY}/{}{hash}", target.display()),
            };
            pointed.replace_range(link.place.clone(), &address);
        }
        Ok(pointed)
    }
}

/// What docs/plugins.md should hold.
fn reference() -> Result<String> {
    let root = workspace::root();
    Ok(reference::page(&text(&root.join("config/wattrace.toml"))?, &text(&root.join("docs/metrics.md"))?))
}

fn text(path: &Path) -> Result<String> {
    fs::read_to_string(path).with_context(|| path.display().to_string())
}

fn write(path: &Path, text: &str) -> Result<()> {
    fs::create_dir_all(path.parent().unwrap_or(path))
        .and_then(|()| fs::write(path, text))
        .with_context(|| path.display().to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_of_plugins_is_that_of_the_template_and_the_metrics() {
        let page = text(&workspace::root().join(REFERENCE)).unwrap();
        assert!(page == reference().unwrap(), "{REFERENCE} is out of date: cargo xtask book");
    }

    #[test]
    fn every_page_is_in_one_book() {
        let all = links::pages(workspace::root()).unwrap();
        let books = BOOKS.map(|name| Book::read(name, &all));
        let is_page = |path: &&PathBuf| path.starts_with("docs") && !path.starts_with("docs/book");
        for page in all.keys().filter(is_page) {
            let listed: Vec<_> = books.iter().filter(|book| book.pages.contains(page)).collect();
            assert_eq!(listed.len(), 1, "{}: list it in a SUMMARY.md of docs/book", page.display());
        }
        for page in books.iter().flat_map(|book| &book.pages) {
            assert!(page.starts_with("docs") && all.contains_key(page), "{}", page.display());
        }
    }

    #[test]
    fn links_lead_to_the_page_the_other_book_or_the_repository() {
        let book = |name, pages: &[&str]| Book { name, pages: pages.iter().map(PathBuf::from).collect() };
        let books = [book("user", &["docs/ci.md"]), book("authors", &["docs/decisions/x.md", "docs/y.md"])];
        let page = Path::new("docs/decisions/x.md");
        let text =
            "[1](../y.md) [2](../ci.md#other-systems) [3](../../README.md) [4](#here) [5](https://a.b)";
        let pointed = books[1].point(page, text, &Page::read(text), &books).unwrap();
        let other = "../../user/ci.html#other-systems";
        let readme = format!("{REPOSITORY}/README.md");
        assert_eq!(pointed, format!("[1](../y.md) [2]({other}) [3]({readme}) [4](#here) [5](https://a.b)"));
    }
}
