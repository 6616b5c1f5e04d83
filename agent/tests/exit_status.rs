//! The exit status of `wattrace run`: 1 if an output has lost all of its points, or the last ones, whatever
//! the output and the cause, and if something that the user asked for has never worked. No test here needs
//! root: RAPL is simulated.
#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests may panic: that is how tests fail")]

mod support;

use std::fs::{self, File};
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use support::wattrace;
use wattrace_rapl_simulator::{Tree, Zone};

/// Runs the agent for a moment with `settings`. Returns its exit code and standard error.
fn run(directory: &Path, plugins: &str, settings: &[String], stdout: Stdio) -> (Option<i32>, String) {
    let sys = directory.join("sys");
    let zones = vec![Zone::new("intel-rapl:0", "package-0", 10.0)];
    let _time = Tree::create(&sys, zones).unwrap().run(Duration::from_millis(1));
    let mut command = wattrace();
    command.args(["run", "--duration", "300ms", "--plugins", &format!("rapl,{plugins}")]);
    let own = [
        format!("plugins.rapl.sysfs_root={}", sys.display()),
        "plugins.rapl.interval=20ms".to_owned(),
        "agent.control_socket=".to_owned(),
    ];
    for setting in own.iter().chain(settings) {
        command.args(["--set", setting]);
    }
    let output = command.env_remove("WATTRACE_LOG").stdout(stdout).output().unwrap();
    fs::remove_dir_all(&sys).unwrap();
    (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
}

#[test]
fn an_output_that_delivers_has_exit_code_0_and_one_that_loses_all_has_1() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    let set = |key: &str, value: &Path| vec![format!("plugins.{key}={}", value.display())];
    let (absent, full) = (dir.join("no/such/file"), Path::new("/dev/full"));
    let foreign = dir.join("foreign");
    fs::write(&foreign, "something else\n").unwrap();
    let cases: &[(&str, Vec<String>, i32)] = &[
        ("csv", set("csv.path", &dir.join("csv")), 0),
        ("csv", set("csv.path", &absent), 1),
        ("csv", set("csv.path", full), 1),
        ("csv", set("csv.path", &foreign), 1),
        ("jsonl", set("jsonl.path", &dir.join("jsonl")), 0),
        ("jsonl", set("jsonl.path", &absent), 1),
        ("jsonl", set("jsonl.path", full), 1),
        ("jsonl", set("jsonl.path", dir), 1),
        ("sqlite", set("sqlite.path", &dir.join("sqlite")), 0),
        ("sqlite", set("sqlite.path", &absent), 1),
        ("sqlite", set("sqlite.path", &foreign), 1),
        // What waits in the spool is not lost: the next agent delivers it.
        ("otlp", vec!["plugins.otlp.endpoint=http://127.0.0.1:1".into()], 0),
        (
            "otlp",
            ["endpoint=http://127.0.0.1:1", "spool=none"].map(|s| format!("plugins.otlp.{s}")).into(),
            1,
        ),
        ("jsonl,csv", [set("jsonl.path", &dir.join("both")), set("csv.path", full)].concat(), 1),
    ];
    for (plugins, settings, expected) in cases {
        let (code, stderr) = run(dir, plugins, settings, Stdio::null());
        assert_eq!(code, Some(*expected), "{plugins} {settings:?}: {stderr}");
        assert_eq!(stderr.contains("points were lost"), *expected == 1, "{settings:?}: {stderr}");
    }
    let (code, stderr) = run(dir, "console", &[], File::create(full).unwrap().into());
    assert_eq!(code, Some(1), "the console's table goes to a full disk: {stderr}");
    let (code, stderr) = run(dir, "console", &[], Stdio::null());
    assert_eq!(code, Some(0), "{stderr}");
}

/// Answers every request with success, and with more rejected points than any request has.
fn reject_all(stream: TcpStream) -> std::io::Result<()> {
    let mut reader = BufReader::new(stream);
    loop {
        let (mut line, mut length) = (String::new(), 0);
        while line != "\r\n" {
            line.clear();
            if reader.read_line(&mut line)? == 0 {
                return Ok(());
            }
            if let Some(value) = line.to_lowercase().strip_prefix("content-length:") {
                length = value.trim().parse().unwrap();
            }
        }
        reader.read_exact(&mut vec![0; length])?;
        let body = r#"{"partialSuccess":{"rejectedDataPoints":"1000000","errorMessage":"too old"}}"#;
        let head = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length";
        write!(reader.get_mut(), "{head}: {}\r\n\r\n{body}", body.len())?;
    }
}

#[test]
fn a_collector_that_accepts_requests_and_rejects_all_points_has_exit_code_1() {
    let dir = tempfile::tempdir().unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let endpoint = format!("plugins.otlp.endpoint=http://{}", listener.local_addr().unwrap());
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            std::thread::spawn(|| reject_all(stream));
        }
    });
    for interval in ["50ms", "10s"] {
        let interval = format!("plugins.otlp.interval={interval}");
        let settings = [endpoint.clone(), interval, "plugins.otlp.protocol=http/protobuf".to_owned()];
        let (code, stderr) = run(dir.path(), "otlp", &settings, Stdio::null());
        assert_eq!(code, Some(1), "{settings:?}: {stderr}");
        assert!(stderr.contains("too old") && stderr.contains("points were lost"), "{stderr}");
    }
}

#[test]
fn what_the_user_asked_for_and_never_worked_has_exit_code_1() {
    let dir = tempfile::tempdir().unwrap();
    let profile = dir.path().join("profile.toml");
    let settings = [
        format!("plugins.estimate.profile={}", profile.display()),
        format!("plugins.csv.path={}", dir.path().join("csv").display()),
    ];
    let (code, stderr) = run(dir.path(), "estimate,csv", &settings, Stdio::null());
    assert_eq!(code, Some(1), "{stderr}");
    let expected = "wattrace: transform/estimate/";
    assert!(stderr.contains(expected) && stderr.contains("has never worked: "), "{stderr}");
    assert!(stderr.contains("profile.toml"), "{stderr}");
}
