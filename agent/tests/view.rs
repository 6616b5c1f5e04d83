//! `wattrace view` on a database that an agent wrote: its page and its data, which have the joules of
//! `wattrace query`. The page itself: libs/page/tests/browser.rs.
#![cfg(feature = "sqlite")]
#![allow(clippy::unwrap_used, reason = "helpers of tests may panic: that is how tests fail")]

mod support;

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};

use serde_json::Value;
use support::page::sums;
use support::services::{Running, eventually};
use support::{interrupt, wattrace};
use wattrace_browser_testing::{Browser, Screen};

/// Two seconds of a simulated machine: two programs, of which one sleeps now and then.
fn database(dir: &Path) -> PathBuf {
    let db = dir.join("w.db");
    let threads = "[{ process = 'one', run = '6ms', sleep = '4ms' }, { process = 'two', run = '1ms', \
                   sleep = '30ms' }]";
    let status = wattrace()
        .args(["run", "--duration", "2s", "--plugins", "simulator,attribution,sqlite"])
        .args(["--set", &format!("plugins.simulator.threads={threads}")])
        .args(["--set", "plugins.simulator.schedule=script", "--set", "plugins.simulator.interval=20ms"])
        .args(["--set", &format!("plugins.sqlite.path={}", db.display())])
        .status()
        .unwrap();
    assert!(status.success());
    db
}

/// A server, and the address that it has printed.
struct Viewer {
    child: Child,
    url: String,
}

impl Viewer {
    fn start(arguments: &[&str]) -> Self {
        let mut child = wattrace().arg("view").args(arguments).stdout(Stdio::piped()).spawn().unwrap();
        let mut url = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut url).unwrap();
        Self { child, url: url.trim_end().to_owned() }
    }

    fn data(&self) -> Value {
        let (address, path) = self.url.strip_prefix("http://").unwrap().split_once('/').unwrap();
        let mut stream = TcpStream::connect(address).unwrap();
        write!(stream, "GET /{path}data HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n").unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        serde_json::from_str(answer.split_once("\r\n\r\n").unwrap().1).unwrap()
    }
}

impl Drop for Viewer {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn the_page_of_a_database_has_the_joules_of_a_query() {
    let dir = tempfile::tempdir().unwrap();
    let db = database(dir.path());
    let query = wattrace().args(["query", "--format", "json", "--db"]).arg(&db).output().unwrap();
    let query: Value = serde_json::from_slice(&query.stdout).unwrap();
    let rows = query["rows"].as_array().unwrap().iter();
    let rows = rows.map(|row| (row["name"].as_str().unwrap().to_owned(), row["energy_uj"].as_u64().unwrap()));
    let expected: BTreeMap<_, _> = rows.filter(|(_, microjoules)| *microjoules > 0).collect();
    let mut viewer = Viewer::start(&[db.to_str().unwrap()]);
    let data = viewer.data();
    let (used, measured) = sums(&data);
    assert_eq!(used, expected);
    assert_eq!(measured, query["total"]["measured_uj"].as_u64().unwrap());
    assert!(data["edges_us"].as_array().unwrap().len() > 20, "{data}");
    assert_eq!(data["domains"][0]["origin"], "simulated");
    if let Some(mut browser) = Browser::start(Screen::WIDE) {
        browser.open(&viewer.url, "document.documentElement.dataset.firstViewMs");
        let shown = browser.evaluate("document.getElementById('books').dataset.total");
        assert_eq!(shown, measured.to_string());
        let badge = browser.evaluate("document.getElementById('origin').textContent");
        assert_eq!((badge, browser.complaints()), (Value::from("simulated"), Vec::new()));
        let path = std::env::var_os("WATTRACE_SCREENSHOTS");
        path.into_iter().for_each(|path| browser.screenshot(&Path::new(&path).join("database.png"), true));
    }
    interrupt(&viewer.child);
    assert_eq!(viewer.child.wait().unwrap().code(), Some(0));
}

/// Books, as the page shows them.
const TOTAL: &str = "Number(document.getElementById('books').dataset.total)";

#[test]
fn the_page_of_a_running_agent_grows_with_closed_books_and_keeps_what_it_has() {
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("control.sock");
    let threads = "[{ process = 'one', run = '6ms', sleep = '4ms' }, { process = 'two', run = '1ms', \
                   sleep = '30ms' }]";
    let agent = wattrace()
        .args(["run", "--plugins", "simulator,attribution"])
        .args(["--set", &format!("plugins.simulator.threads={threads}")])
        .args(["--set", "plugins.simulator.schedule=script", "--set", "plugins.simulator.interval=50ms"])
        .args(["--set", &format!("agent.control_socket={}", socket.display())])
        .stdin(Stdio::null())
        .spawn()
        .unwrap();
    let mut agent = Running(agent);
    eventually("the agent's socket", || UnixStream::connect(&socket).ok());
    let viewer = Viewer::start(&["--socket", socket.to_str().unwrap()]);
    // Some periods of both, in microjoules.
    const STEP: u64 = 10_000_000;
    let grown = |least: u64| {
        eventually("more energy", || {
            let (used, measured) = sums(&viewer.data());
            assert_eq!(used.values().sum::<u64>(), measured, "{used:?}");
            (measured > least && used.contains_key("one")).then_some((used, measured))
        })
    };
    let (_, measured) = grown(0);
    let (first, measured) = grown(measured + STEP);
    let (later, more) = grown(measured + STEP);
    let more_of = |name: &str| later.get(name).unwrap_or(&0) - first.get(name).unwrap_or(&0);
    // Both have been seen long before.
    assert_eq!(more_of("other"), 0, "not seen yet: {first:?} {later:?}");
    let [one, two] = ["one", "two"].map(more_of);
    assert!(one > 3 * two && two > 0, "of 10 ms it runs for 6, the other of 31 for 1: {one} {two}");
    let mut browser = Browser::start(Screen::WIDE);
    if let Some(browser) = &mut browser {
        browser.open(&viewer.url, "document.documentElement.dataset.firstViewMs");
        let badge = browser.evaluate("document.getElementById('live').textContent");
        assert_eq!(badge, "live");
        let shown = browser.evaluate(TOTAL).as_u64().unwrap();
        assert!(shown >= more, "{shown} {more}");
        browser.wait(&format!("{TOTAL} > {shown}"));
        assert_eq!(browser.evaluate("document.getElementById('books').dataset.difference"), "0");
    }
    interrupt(&agent.0);
    assert!(agent.0.wait().unwrap().success());
    eventually("the last data", || viewer.data()["refresh_ms"].is_null().then_some(()));
    let (used, measured) = sums(&viewer.data());
    assert!(measured >= more && used.values().sum::<u64>() == measured, "{used:?} {measured}");
    if let Some(browser) = &mut browser {
        browser.wait(&format!("{TOTAL} === {measured}"));
        assert_eq!(browser.complaints(), Vec::<String>::new());
    }
}

#[test]
fn what_cannot_be_shown_says_why_and_what_to_do() {
    let dir = tempfile::tempdir().unwrap();
    let message = |arguments: &[&str]| {
        let output = wattrace().arg("view").args(arguments).current_dir(dir.path()).output().unwrap();
        assert_eq!(output.status.code(), Some(1));
        String::from_utf8(output.stderr).unwrap()
    };
    let missing = message(&["nowhere.db"]);
    assert!(missing.contains("nowhere.db: no such file: name a database; `wattrace run --set"), "{missing}");
    std::fs::write(dir.path().join("notes.db"), "Some notes, ".repeat(100)).unwrap();
    assert!(message(&["notes.db"]).contains("is no database of Wattrace"));
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port().to_string();
    let db = database(dir.path());
    let busy = message(&["--port", &port, &db.display().to_string()]);
    assert!(busy.contains(&format!("--port {port}: cannot listen on it")), "{busy}");
}
