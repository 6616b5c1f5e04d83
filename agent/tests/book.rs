//! Every command of the books runs. A block of commands (`sh`, `console`) has a comment before it that says
//! how: `<!-- run -->`, `<!-- run: … -->`, or `<!-- not run: REASON -->`. The blocks of a page share a
//! directory, in which are the files that its commands speak of. What a `console` block shows of the output
//! must come, in its order; numbers, origins and blanks may differ, and `…` stands for any lines. `output of
//! another machine` in the comment leaves that out, `with an agent` starts one. The examples of each `--help`
//! run too.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "helpers of tests may panic: that is how tests fail"
)]

mod support;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use support::services::{Running, eventually, has};
use support::{is_root, state_directory};

/// How long a block may take.
const LIMIT: &str = "120";

/// `wattrace` as a page's commands see it: it learns in a directory of its own, ends by itself, and has its
/// own control socket.
const WATTRACE: &str = r#"#!/bin/sh
export STATE_DIRECTORY=@STATE@
case " $* " in
*" --socket "*) exec @AGENT@ "$@" ;;
*" control "*) shift; exec @AGENT@ control --socket @SCENE@/control.sock "$@" ;;
*" run "*"--duration "*) exec @AGENT@ "$@" --set agent.control_socket= ;;
*" run "*) exec timeout --preserve-status --signal=INT 4 @AGENT@ "$@" --set agent.control_socket= ;;
*) exec @AGENT@ "$@" ;;
esac
"#;

/// Files that commands of the books speak of.
const FILES: [(&str, &str); 5] = [
    ("bin/sudo", "#!/bin/sh\nexec env -- \"$@\"\n"),
    (
        "burn.sh",
        "for n in 1 2; do (i=0; while [ $i -lt 100000 ]; do i=$((i+1)); done) & done; wait\n/bin/true\n",
    ),
    ("bench", "#!/bin/sh\nseq 100000 | wc -l > /dev/null\n"),
    ("Makefile", "all:\n\tsleep 0.1\nclean:\n\ttrue\n"),
    ("target/release/wattrace", "#!/bin/sh\nexec wattrace \"$@\"\n"),
];

/// How the example of the user's guide begins.
const SIMULATED: &str = "[plugins.simulator]\nschedule = \"script\"\n";

/// A block of commands.
#[derive(Debug)]
struct Block {
    line: usize,
    /// Of the comment before it; empty if there is none.
    mark: String,
    commands: String,
    /// The lines of output that it shows.
    shown: Vec<String>,
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// The pages of both books, and the front page.
fn pages() -> Vec<PathBuf> {
    let mut pages = vec![root().join("README.md")];
    for book in ["user", "authors"] {
        let summary = fs::read_to_string(root().join("docs/book").join(book).join("SUMMARY.md")).unwrap();
        let links = summary.split("](../../").skip(1).map(|rest| rest.split(')').next().unwrap());
        pages.extend(links.map(|page| root().join("docs").join(page)));
    }
    assert!(pages.len() > 20, "{pages:?}");
    pages
}

/// The blocks of commands of a page.
fn blocks(text: &str) -> Vec<Block> {
    let mut blocks = Vec::new();
    let mut mark = String::new();
    let mut lines = text.lines().enumerate();
    while let Some((number, line)) = lines.next() {
        let trimmed = line.trim();
        let Some(language) = trimmed.strip_prefix("```") else {
            if let Some(comment) = trimmed.strip_prefix("<!-- ") {
                comment.trim_end_matches(" -->").clone_into(&mut mark);
            } else if !trimmed.is_empty() {
                mark.clear();
            }
            continue;
        };
        let indent = line.len() - line.trim_start().len();
        let body: Vec<_> = lines.by_ref().map(|(_, line)| line).take_while(|l| l.trim() != "```").collect();
        let body = body.into_iter().map(|line| line.get(indent..).unwrap_or_default());
        let mut block =
            Block { line: number + 1, mark: String::new(), commands: String::new(), shown: Vec::new() };
        match language {
            "sh" => block.commands = body.map(|line| format!("{line}\n")).collect(),
            "console" => {
                for line in body {
                    match line.strip_prefix("$ ") {
                        Some(command) => block.commands += &format!("{command}\n"),
                        None => block.shown.push(line.to_owned()),
                    }
                }
            }
            _ => {
                mark.clear();
                continue;
            }
        }
        block.mark = std::mem::take(&mut mark);
        blocks.push(block);
    }
    blocks
}

/// Makes the files of a page, and returns the directory.
fn scene() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    let wattrace = WATTRACE
        .replace("@AGENT@", env!("CARGO_BIN_EXE_wattrace"))
        .replace("@SCENE@", &dir.path().display().to_string())
        .replace("@STATE@", &state_directory().display().to_string());
    let guide = fs::read_to_string(root().join("docs/user-guide.md")).unwrap();
    let simulated = guide.split("```toml\n").find(|b| b.starts_with(SIMULATED)).unwrap();
    let simulated = simulated.split("```").next().unwrap();
    let made = [("bin/wattrace", wattrace.as_str()), ("simulated.toml", simulated)];
    for (name, text) in FILES.into_iter().chain(made) {
        let path = dir.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    }
    dir
}

/// An agent that listens on the scene's control socket, if `mark` asks for one.
fn agent_for(mark: &str, scene: &Path) -> Option<Running> {
    if !mark.contains("with an agent") {
        return None;
    }
    let socket = scene.join("control.sock");
    // What an agent before has left, which was killed.
    let _ = fs::remove_file(&socket);
    let agent = Command::new(env!("CARGO_BIN_EXE_wattrace"))
        .args(["run", "--set", "plugins.console.enabled=false"])
        .args(["--set", &format!("agent.control_socket={}", socket.display())])
        .args(["--set", &format!("plugins.jsonl.path={}", scene.join("agent.jsonl").display())])
        .env("STATE_DIRECTORY", state_directory())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let agent = Running(agent);
    eventually("the control socket", || UnixStream::connect(&socket).ok());
    Some(agent)
}

/// Runs a block in the scene, and says what is wrong.
fn run(block: &Block, scene: &Path) -> Option<String> {
    let _agent = agent_for(&block.mark, scene);
    // `run: FOLDER` runs it in a folder of the repository.
    let folder = block.mark.strip_prefix("run: ").map(|detail| root().join(detail)).filter(|f| f.is_dir());
    let path = format!("{}:{}", scene.join("bin").display(), std::env::var("PATH").unwrap());
    let script = format!("set -uo pipefail\n{{\n{}}} 2>&1", checked(&block.commands));
    let output = Command::new("timeout")
        .args([LIMIT, "bash", "-c", &script])
        .current_dir(folder.as_deref().unwrap_or(scene))
        .env("PATH", path)
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    if !output.status.success() {
        return Some(format!("{}: {said}", output.status));
    }
    if block.mark.contains("output of another machine") {
        return None;
    }
    missing(&block.shown, &said).map(|line| format!("`{line}` is not in the output:\n{said}"))
}

/// The commands, of which each must succeed. `a; test $? = N` is one.
fn checked(commands: &str) -> String {
    let mut script = String::new();
    let mut is_open = false;
    for line in commands.lines() {
        script += line;
        // A line that ends inside a quote, or goes on, is no end of a command.
        is_open ^= line.matches('\'').count() % 2 == 1;
        let goes_on = is_open || line.trim_end().ends_with(['\\', '|']) || line.trim().is_empty();
        script += if goes_on { "\n" } else { "\n[ $? = 0 ] || exit 1\n" };
    }
    script
}

/// The first line of `shown` that does not come in `output` behind those before it.
fn missing<'a>(shown: &'a [String], output: &str) -> Option<&'a str> {
    let mut lines = output.lines().map(plain);
    let expected = shown.iter().filter(|line| !matches!(line.trim(), "" | "…" | "[...]"));
    expected.map(String::as_str).find(|line| !lines.any(|l| l == plain(line)))
}

/// A line without numbers, origins and the width of blanks, which differ from machine to machine.
fn plain(line: &str) -> String {
    let mut text = line.to_owned();
    for origin in [" (estimated)", " (measured)", " (simulated)"] {
        text = text.replace(origin, "");
    }
    let mut plain = String::new();
    for word in text.split_whitespace() {
        let mut last = ' ';
        for c in word.chars() {
            let is_number = c.is_ascii_digit() || (matches!(c, '.' | ',') && last == '0');
            let c = if is_number { '0' } else { c };
            if !(c == '0' && last == '0') {
                plain.push(c);
            }
            last = c;
        }
        plain.push(' ');
    }
    plain
}

#[test]
fn every_block_of_commands_is_run_or_says_why_not() {
    let mut unmarked = Vec::new();
    for page in pages() {
        for block in blocks(&fs::read_to_string(&page).unwrap()) {
            let is_marked = block.mark == "run"
                || ["run: ", "not run: "]
                    .iter()
                    .any(|m| block.mark.len() > m.len() && block.mark.starts_with(m));
            if !is_marked {
                unmarked.push(format!("{}:{}", page.display(), block.line));
            }
        }
    }
    assert!(unmarked.is_empty(), "no `<!-- run -->` or `<!-- not run: REASON -->` before {unmarked:#?}");
}

#[test]
fn the_commands_of_the_books_work() {
    if !(is_root() && has("jq", "jq") && has("promtool", "prometheus")) {
        return;
    }
    let (mut count, mut failures) = (0, Vec::new());
    for page in pages() {
        let scene = scene();
        for block in blocks(&fs::read_to_string(&page).unwrap()) {
            if block.mark.starts_with("run") {
                count += 1;
                let fault = run(&block, scene.path());
                failures.extend(fault.map(|f| format!("{}:{}: {f}", page.display(), block.line)));
            }
        }
    }
    assert!(failures.is_empty(), "{} of {count} blocks:\n{}", failures.len(), failures.join("\n"));
    assert!(count > 20, "only {count} blocks");
}

/// Commands whose help has examples, in an order in which files are made before they are needed.
const COMMANDS: [&str; 8] = ["", "run", "exec", "compare", "query", "config", "control", "top"];
/// What is in examples that need a repository, or a history.
const NEEDS_MORE: [&str; 2] = ["--git", "yesterday"];

#[test]
fn the_examples_of_each_help_work() {
    if !is_root() {
        return;
    }
    let scene = scene();
    let block =
        |commands: String, mark: &str| Block { line: 0, mark: mark.to_owned(), commands, shown: Vec::new() };
    let exports =
        ["before", "after"].map(|n| format!("wattrace exec --repeat 5 --export {n}.json -- ./bench\n"));
    assert_eq!(run(&block(exports.concat(), "run"), scene.path()), None);
    let mut failures = Vec::new();
    for command in COMMANDS {
        let mut help = Command::new(env!("CARGO_BIN_EXE_wattrace"));
        help.args((!command.is_empty()).then_some(command)).arg("--help");
        let help = String::from_utf8(help.output().unwrap().stdout).unwrap();
        let examples =
            help.lines().filter_map(|line| line.strip_prefix("  ")).filter(|l| l.starts_with("wattrace "));
        let examples: Vec<_> = examples.collect();
        assert!(examples.len() > 1, "{command}: {help}");
        for example in examples.into_iter().filter(|example| !NEEDS_MORE.iter().any(|w| example.contains(w)))
        {
            let mark = if command == "control" { "run: with an agent" } else { "run" };
            let fault = run(&block(format!("{example}\n"), mark), scene.path());
            failures.extend(fault.map(|fault| format!("{example}: {fault}")));
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

#[test]
fn a_block_that_fails_or_shows_something_else_is_found() {
    let page = "<!-- run -->\n\n```console\n$ echo 7.5 J '(estimated)'\n8.25   J\n```\n\n```sh\nfalse\n```\n";
    let blocks = blocks(page);
    let scene = scene();
    assert_eq!((blocks[0].mark.as_str(), blocks[1].mark.as_str()), ("run", ""));
    assert_eq!(run(&blocks[0], scene.path()), None);
    assert!(run(&blocks[1], scene.path()).unwrap().starts_with("exit status: 1"));
    let shown = ["first 2", "…", "second"].map(str::to_owned);
    assert_eq!(missing(&shown, "first 1\nx\nsecond\n"), None);
    assert_eq!(missing(&shown, "second\nfirst 1\n"), Some("second"));
}
