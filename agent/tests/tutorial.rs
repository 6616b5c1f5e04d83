//! Follows the plugin author's guide in an empty directory: a crate with a source, and an agent with that
//! plugin. The only difference is that our crates come from this repository, not from the network.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "helpers of tests may panic: that is how tests fail"
)]

mod support;

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use support::{metric, read_jsonl};

const GUIDE: &str = include_str!("../../docs/plugin-authors.md");

/// The first block of `language` in the chapter `title`.
fn block(title: &str, language: &str) -> &'static str {
    let (_, chapter) =
        GUIDE.split_once(&format!("\n## {title}\n")).unwrap_or_else(|| panic!("no chapter {title}"));
    let chapter = chapter.split("\n## ").next().unwrap();
    let (_, block) =
        chapter.split_once(&format!("```{language}\n")).unwrap_or_else(|| panic!("no {language} in {title}"));
    block.split("```").next().unwrap()
}

fn run(command: &mut Command) -> Output {
    let output = command.output().unwrap();
    assert!(
        output.status.success(),
        "{command:?}: {}\n{}",
        output.status,
        String::from_utf8_lossy(&output.stderr)
    );
    output
}

/// `cargo`, reusing what this workspace has built.
fn cargo(dir: &Path, target: &Path) -> Command {
    let mut cargo = Command::new(env!("CARGO"));
    cargo.current_dir(dir).env("CARGO_TARGET_DIR", target).env("CARGO_NET_OFFLINE", "true");
    cargo.env("CARGO_PROFILE_DEV_DEBUG", "line-tables-only");
    cargo
}

/// Adds the dependencies that the guide names to a manifest that `cargo new` has made.
fn depend(package: &Path, dependencies: &str, repository: &Path) {
    let manifest = package.join("Cargo.toml");
    let text = fs::read_to_string(&manifest).unwrap();
    let text = text.strip_suffix("[dependencies]\n").expect("cargo new leaves a table for them");
    let from = "git = \"https://github.com/wattrace/wattrace\"";
    let mut here = String::new();
    for line in dependencies.lines() {
        let name = line.split(' ').next().unwrap();
        let folder = if name == "wattrace" { "agent" } else { "plugins/api" };
        here += &line.replace(from, &format!("path = {:?}", repository.join(folder)));
        here.push('\n');
    }
    fs::write(&manifest, format!("{text}{here}")).unwrap();
    // The versions that are downloaded already.
    fs::copy(repository.join("Cargo.lock"), package.join("Cargo.lock")).unwrap();
}

#[test]
fn the_guide_leads_from_an_empty_directory_to_an_agent_with_a_new_source() {
    let repository = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let built = Path::new(env!("CARGO_BIN_EXE_wattrace")).ancestors().nth(2).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let here = |name: &str| dir.path().join(name);

    let new = block("An empty crate", "sh").trim();
    assert_eq!(new, "cargo new --lib wattrace-ups");
    run(cargo(dir.path(), built).args(new.split(' ').skip(1)));
    depend(&here("wattrace-ups"), block("An empty crate", "toml"), repository);
    fs::write(here("wattrace-ups/src/lib.rs"), block("A source", "rust")).unwrap();

    run(cargo(dir.path(), built).args(["new", "--bin", "my-agent"]));
    depend(&here("my-agent"), block("An agent with your plugin", "toml"), repository);
    fs::write(here("my-agent/src/main.rs"), block("An agent with your plugin", "text")).unwrap();
    run(cargo(&here("my-agent"), built).arg("build"));

    let agent = built.join("debug/my-agent");
    let listed = String::from_utf8(run(Command::new(&agent).args(["plugins", "list"])).stdout).unwrap();
    assert!(listed.lines().any(|line| line.starts_with("ups ")), "{listed}");
    let (counter, out) = (here("energy_uj"), here("out.jsonl"));
    fs::write(&counter, "42\n").unwrap();
    let set = |key: &str, path: &Path| ["--set".to_owned(), format!("{key}={}", path.display())];
    let mut traced = Command::new(&agent);
    traced.args(["run", "--plugins", "ups,jsonl", "--duration", "2s"]);
    traced.args(set("plugins.ups.path", &counter)).args(set("plugins.jsonl.path", &out));
    run(traced.args(set("agent.control_socket", &here("control.sock"))));
    let points = read_jsonl(&out);
    let metered: Vec<_> = points.iter().filter(|point| metric(point) == "hw.host.energy").collect();
    assert!(!metered.is_empty(), "{points:?}");
    assert_eq!(metered[0]["attributes"]["wattrace.domain"], "ups");
}
