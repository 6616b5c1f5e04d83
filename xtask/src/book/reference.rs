//! docs/plugins.md: every plugin with its metrics and options. It is made of config/wattrace.toml, which a
//! test of the agent compares with the plugins' keys and defaults, and of docs/metrics.md, which another one
//! compares with the declared metrics.

use std::fmt::Write as _;

const HEAD: &str = "\
# Plugins and their options

`cargo xtask book` writes this page from [`config/wattrace.toml`](../config/wattrace.toml) and
[metrics.md](metrics.md), which tests compare with the code.

A plugin that is *on* runs unless its table has `enabled = false`; one that is *off* runs if the configuration
has its table, or `--set plugins.NAME.enabled=true`. Units of the defaults are those of
[the user's guide](user-guide.md#configuration).
";

/// A plugin, as the template describes it.
#[derive(Debug, Default, PartialEq, Eq)]
struct Plugin {
    name: String,
    about: String,
    is_on: bool,
    options: Vec<Options>,
}

/// Keys that are explained together.
#[derive(Debug, Default, PartialEq, Eq)]
struct Options {
    keys: Vec<(String, String)>,
    about: String,
}

/// The page.
pub(super) fn page(template: &str, metrics: &str) -> String {
    let mut page = HEAD.to_owned();
    for (kind, plugins) in chapters(template) {
        // Writing to a string cannot fail.
        _ = write!(page, "\n## {kind}\n");
        for plugin in &plugins {
            let state = if plugin.is_on { "On" } else { "Off" };
            _ = write!(page, "\n### {}\n\n{}\n", plugin.name, wrap(&format!("*{state}.* {}", plugin.about)));
            let of_plugin = metrics_of(metrics, &plugin.name);
            if !of_plugin.is_empty() {
                _ = write!(page, "\n| metric | kind, unit | attributes |\n| --- | --- | --- |\n{of_plugin}");
            }
            if !plugin.options.is_empty() {
                page.push_str("\n| key | default | |\n| --- | --- | --- |\n");
            }
            for options in &plugin.options {
                let cell = |part: fn(&(String, String)) -> &String| {
                    let cells = options.keys.iter().map(|key| format!("`{}`", escape(part(key))));
                    cells.collect::<Vec<_>>().join("<br>")
                };
                let (keys, defaults) = (cell(|key| &key.0), cell(|key| &key.1));
                _ = writeln!(page, "| {keys} | {defaults} | {} |", escape(&options.about));
            }
        }
    }
    page
}

/// The kinds of plugins, each with its plugins, in the template's order.
fn chapters(template: &str) -> Vec<(String, Vec<Plugin>)> {
    let mut chapters = Vec::new();
    for chapter in template.split("\n# ---- ").skip(1) {
        let (title, body) = chapter.split_once('\n').unwrap_or((chapter, ""));
        let kind = title.split(':').next().unwrap_or(title).to_owned();
        let mut plugins = Vec::<Plugin>::new();
        for paragraph in body.split("\n\n") {
            let (about, keys) = paragraph_of(paragraph);
            if let Some(name) =
                paragraph.lines().find_map(|l| l.strip_prefix("#[plugins.")?.strip_suffix(']'))
            {
                let is_on = keys.iter().any(|(key, value)| key == "enabled" && value == "true");
                let options = Vec::new();
                plugins.push(Plugin { name: name.to_owned(), about, is_on, options });
            } else if let (Some(plugin), false) = (plugins.last_mut(), keys.is_empty()) {
                plugin.options.push(Options { keys, about });
            }
        }
        chapters.push((kind, plugins));
    }
    chapters
}

/// What a paragraph's comments say, and its keys with their defaults. Indented lines are code.
fn paragraph_of(paragraph: &str) -> (String, Vec<(String, String)>) {
    let (mut words, mut code, mut keys) = (Vec::new(), Vec::new(), Vec::new());
    let flush = |words: &mut Vec<String>, code: &mut Vec<String>| {
        if !code.is_empty() {
            words.push(format!("`{}`.", code.join("; ")));
            code.clear();
        }
    };
    for line in paragraph.lines() {
        if let Some(indented) = line.strip_prefix("#   ") {
            // What stands behind a # explains the line.
            code.push(indented.split(" # ").next().unwrap_or(indented).trim().to_owned());
        } else if let Some(text) = line.strip_prefix("# ") {
            flush(&mut words, &mut code);
            words.push(text.to_owned());
        } else if let Some((key, value)) = line.strip_prefix('#').and_then(|l| l.split_once(" = ")) {
            keys.push((key.to_owned(), value.to_owned()));
        }
    }
    flush(&mut words, &mut code);
    (words.join(" "), keys)
}

/// The rows of the metrics that `plugin` publishes.
fn metrics_of(page: &str, plugin: &str) -> String {
    let (mut rows, mut before) = (String::new(), String::new());
    for row in page.lines().filter(|line| line.starts_with("| `")) {
        let cells: Vec<_> = row.trim_matches('|').split('|').map(str::trim).collect();
        if let [name, kind, attributes, plugins] = cells[..] {
            // "the same" is what the row before has, which may be another plugin's.
            match attributes.strip_prefix("the same") {
                Some(more) => before += more,
                None => attributes.clone_into(&mut before),
            }
            if plugins.split(", ").any(|name| name == plugin) {
                let attributes = before.replace("see below", "see [metrics](metrics.md)");
                _ = writeln!(rows, "| {name} | {kind} | {attributes} |");
            }
        }
    }
    rows
}

fn escape(text: &str) -> String {
    text.replace('|', "\\|")
}

/// Wraps words at 110 columns.
fn wrap(text: &str) -> String {
    let (mut wrapped, mut column) = (String::new(), 0);
    for word in text.split(' ') {
        let length = word.chars().count();
        if column > 0 {
            let breaks = column + 1 + length > 110;
            wrapped.push(if breaks { '\n' } else { ' ' });
            column = if breaks { 0 } else { column + 1 };
        }
        wrapped.push_str(word);
        column += length;
    }
    wrapped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plugin_has_its_text_its_metrics_and_its_keys() {
        let template = "# Head.\n\n# ---- Sources: what is measured ----\n\n\
                        # Counts time.\n#[plugins.sched]\n#enabled = true\n\n\
                        # Between readings,\n# as in\n#   a = 1   # one\n#interval = \"1s\"\n\n\
                        # Either | or.\n#a = 1\n#b = \"c\"\n";
        let metrics = "| `x.other` | counter, s | `cpu.package` | rapl |\n\
                       | `x.time` | counter, s | the same | sched, simulator |\n";
        let page = page(template, metrics);
        let sched = page.split_once("### sched").unwrap().1;
        assert!(sched.starts_with("\n\n*On.* Counts time.\n"), "{sched}");
        assert!(sched.contains("| `x.time` | counter, s | `cpu.package` |\n") && !sched.contains("x.other"));
        assert!(sched.contains("| `interval` | `\"1s\"` | Between readings, as in `a = 1`. |\n"), "{sched}");
        assert!(sched.contains("| `a`<br>`b` | `1`<br>`\"c\"` | Either \\| or. |\n"), "{sched}");
    }
}
