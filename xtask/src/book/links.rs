//! No link of a document is dead: each names a tracked file and, behind a `#`, one of its headings. Links to
//! the network are not followed.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Component, Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use super::markdown::Page;
use crate::process::read;

/// Every Markdown page of the repository, by its path.
pub(super) fn pages(root: &Path) -> Result<BTreeMap<PathBuf, Page>> {
    // Pages that are about to be added count too. The template of the evaluation has the links of that page.
    let list =
        ["ls-files", "-z", "--cached", "--others", "--exclude-standard", "--", "*.md", ":!agent/benches"];
    let list = read(Command::new("git").arg("-C").arg(root).args(list))?;
    let mut pages = BTreeMap::new();
    for path in list.split('\0').filter(|path| !path.is_empty()) {
        // One that was deleted and is not committed yet.
        if root.join(path).exists() {
            let text = fs::read_to_string(root.join(path)).with_context(|| path.to_owned())?;
            pages.insert(PathBuf::from(path), Page::read(&text));
        }
    }
    Ok(pages)
}

/// Every dead link, with its place.
pub(super) fn dead(root: &Path, pages: &BTreeMap<PathBuf, Page>) -> Vec<String> {
    let mut dead = Vec::new();
    for (path, page) in pages {
        for link in &page.links {
            let Some((file, anchor)) = link.parts() else { continue };
            let target = if file.is_empty() { path.clone() } else { resolve(path, file) };
            let is_anchor = |target: &Path| {
                pages.get(target).is_some_and(|page| page.anchors.iter().any(|a| a == anchor))
            };
            let fault = if !root.join(&target).exists() {
                "there is no such file"
            } else if !anchor.is_empty() && !is_anchor(&target) {
                "there is no such heading"
            } else {
                continue;
            };
            dead.push(format!("{}:{}: {}: {fault}", path.display(), link.line, link.target));
        }
    }
    dead
}

/// `target` of a link in `page`, from the root.
pub(super) fn resolve(page: &Path, target: &str) -> PathBuf {
    let mut path = page.parent().unwrap_or(Path::new("")).to_owned();
    for part in Path::new(target).components() {
        match part {
            Component::ParentDir => {
                path.pop();
            }
            Component::Normal(name) => path.push(name),
            _ => {}
        }
    }
    path
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::workspace;

    #[test]
    fn no_link_is_dead() {
        let pages = pages(workspace::root()).unwrap();
        let dead = dead(workspace::root(), &pages);
        assert!(pages.len() > 20 && dead.is_empty(), "{} dead links:\n{}", dead.len(), dead.join("\n"));
    }

    #[test]
    fn a_dead_link_is_found() {
        let text =
            "# A\n[1](README.md) [2](#a) [3](#b) [4](docs/none.md) [5](README.md#no-such) [6](https://x)\n";
        let pages = BTreeMap::from([(PathBuf::from("README.md"), Page::read(text))]);
        let dead = dead(workspace::root(), &pages);
        let faults = ["#b: there is no such heading", "docs/none.md: there is no such file"];
        assert!(dead.len() == 3 && faults.iter().zip(&dead).all(|(f, d)| d.ends_with(f)), "{dead:?}");
    }
}
