//! The files of a crate import each other without a cycle: a type that two files need stands in a file below
//! both. Read from the syntax: every path that begins with `crate`, `self` or `super`, outside of tests, is
//! an import of the file that holds the module it names. A module may use its ancestors, which declare it.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use syn::visit::{self, Visit};

use super::{File, Violation};

/// A module's path within its crate: `["pipeline", "queue"]`.
type Module = Vec<String>;

pub(super) fn check(files: &[File]) -> Vec<Violation> {
    let mut crates: BTreeMap<PathBuf, BTreeMap<Module, &File>> = BTreeMap::new();
    for file in files.iter().filter(|file| file.is("rs")) {
        if let Some((folder, module)) = module_of(&file.path) {
            crates.entry(folder).or_default().insert(module, file);
        }
    }
    crates.values().flat_map(cycles).collect()
}

/// The crate's folder and the module that a source file holds; `None` for tests, examples and build scripts.
fn module_of(path: &Path) -> Option<(PathBuf, Module)> {
    let parts: Vec<_> = path.iter().filter_map(|part| part.to_str()).collect();
    let src = parts.iter().position(|part| *part == "src")?;
    let mut module: Module =
        parts[src + 1..].iter().map(|part| part.trim_end_matches(".rs").to_owned()).collect();
    if matches!(module.last().map(String::as_str), Some("mod" | "lib" | "main")) {
        module.pop();
    }
    let is_test = module.iter().any(|part| part == "tests" || part.ends_with("_tests"));
    (!is_test).then(|| (parts[..src].iter().collect(), module))
}

fn cycles(modules: &BTreeMap<Module, &File>) -> Vec<Violation> {
    let imports: BTreeMap<&Module, BTreeSet<&Module>> =
        modules.iter().map(|(module, file)| (module, imports_of(module, &file.text, modules))).collect();
    let mut reported: BTreeSet<&Module> = BTreeSet::new();
    let mut violations = Vec::new();
    for module in modules.keys() {
        if reported.contains(module) {
            continue;
        }
        if let Some(cycle) = path_back(module, &imports) {
            let names = cycle.iter().map(|module| modules[*module].path.display().to_string());
            let message = format!("an import cycle: {}", names.collect::<Vec<_>>().join(" -> "));
            violations.push(modules[module].violation(0, message));
            reported.extend(cycle);
        }
    }
    violations
}

/// A way along imports from `module` back to it.
fn path_back<'a>(
    module: &'a Module,
    imports: &BTreeMap<&'a Module, BTreeSet<&'a Module>>,
) -> Option<Vec<&'a Module>> {
    let mut seen = BTreeSet::new();
    let mut paths = vec![vec![module]];
    while let Some(path) = paths.pop() {
        for next in path.last().and_then(|last| imports.get(*last)).into_iter().flatten() {
            if *next == module {
                return Some(path);
            }
            if seen.insert(*next) {
                paths.push(path.iter().copied().chain([*next]).collect());
            }
        }
    }
    None
}

fn imports_of<'a>(module: &Module, text: &str, modules: &'a BTreeMap<Module, &File>) -> BTreeSet<&'a Module> {
    // What does not parse is the compiler's to report.
    let Ok(syntax) = syn::parse_file(text) else { return BTreeSet::new() };
    let mut collector = Collector { paths: Vec::new() };
    collector.visit_file(&syntax);
    let targets = collector.paths.iter().filter_map(|path| resolve(module, path, modules));
    targets.filter(|target| !module.starts_with(target)).collect()
}

/// The file that a path leads to: the longest prefix that is a file's module. `self` alone names the file
/// itself.
fn resolve<'a>(module: &Module, path: &[String], modules: &'a BTreeMap<Module, &File>) -> Option<&'a Module> {
    let mut base = match path.first()?.as_str() {
        "crate" => Vec::new(),
        "self" => module.clone(),
        "super" => module[..module.len().checked_sub(1)?].to_vec(),
        _ => return None,
    };
    for part in &path[1..] {
        if part == "super" {
            base.pop();
        } else {
            base.push(part.clone());
        }
    }
    while !base.is_empty() {
        if let Some((found, _)) = modules.get_key_value(&base) {
            return Some(found);
        }
        base.pop();
    }
    modules.get_key_value(&base).map(|(found, _)| found)
}

/// Collects the paths that begin with `crate`, `self` or `super`.
struct Collector {
    paths: Vec<Vec<String>>,
}

impl Collector {
    fn add_use(&mut self, prefix: &[String], tree: &syn::UseTree) {
        let with = |name: String| prefix.iter().cloned().chain([name]).collect::<Vec<_>>();
        match tree {
            syn::UseTree::Path(path) => self.add_use(&with(path.ident.to_string()), &path.tree),
            syn::UseTree::Name(name) => self.paths.push(with(name.ident.to_string())),
            syn::UseTree::Rename(rename) => self.paths.push(with(rename.ident.to_string())),
            syn::UseTree::Glob(_) => self.paths.push(prefix.to_vec()),
            syn::UseTree::Group(group) => group.items.iter().for_each(|item| self.add_use(prefix, item)),
        }
    }
}

fn is_test(attributes: &[syn::Attribute]) -> bool {
    attributes.iter().any(|attribute| {
        let tokens = attribute.meta.require_list().map(|list| list.tokens.to_string());
        attribute.path().is_ident("cfg") && tokens.is_ok_and(|tokens| tokens.contains("test"))
    })
}

impl<'ast> Visit<'ast> for Collector {
    fn visit_item_use(&mut self, item: &'ast syn::ItemUse) {
        // `pub use` hands a child's item on, as a module's face does.
        let is_export = matches!(item.vis, syn::Visibility::Public(_));
        if !is_test(&item.attrs) && !is_export {
            self.add_use(&[], &item.tree);
        }
    }

    fn visit_item_mod(&mut self, item: &'ast syn::ItemMod) {
        if !is_test(&item.attrs) {
            visit::visit_item_mod(self, item);
        }
    }

    fn visit_path(&mut self, path: &'ast syn::Path) {
        self.paths.push(path.segments.iter().map(|segment| segment.ident.to_string()).collect());
        visit::visit_path(self, path);
    }
}

#[cfg(test)]
mod tests {
    use super::super::file;
    use super::*;

    #[test]
    fn a_cycle_of_three_files_is_found_once() {
        let files = [
            file("x/src/lib.rs", "mod a; mod b; mod c; use a::A; struct X;"),
            file("x/src/a.rs", "use crate::b::{self, Thing};"),
            file("x/src/b.rs", "fn f() { super::c::g() }"),
            file("x/src/c/mod.rs", "use super::a; use crate::X; pub struct C;"),
        ];
        let found = check(&files);
        assert_eq!(found.len(), 1, "{found:?}");
        assert_eq!(found[0].message, "an import cycle: x/src/a.rs -> x/src/b.rs -> x/src/c/mod.rs");
    }

    #[test]
    fn tests_exports_and_declarations_are_no_imports() {
        let files = [
            file("x/src/lib.rs", "mod a; pub use a::A; pub use crate::a::B;"),
            file("x/src/a.rs", "use crate::Config; #[cfg(test)] mod tests { use crate::b; }"),
            file("x/src/b.rs", "use crate::a::A;"),
            file("x/src/a/tests.rs", "use crate::b;"),
        ];
        assert_eq!(check(&files), []);
    }
}
