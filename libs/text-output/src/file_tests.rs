//! Files as they are found, and what happens to them while they are written: `mv`, `rm`, `truncate`, and the
//! steps of logrotate.

use super::*;
use std::io::Write;

fn output_path(path: &Path) -> OutputPath {
    OutputPath { plugin: "jsonl", path: path.to_path_buf() }
}

fn reopened(content: &str) -> Result<String, Error> {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("out");
    std::fs::write(&path, content).unwrap();
    let mut opened = open(&output_path(&path), "{\"metric\":", false)?;
    opened.write_all(if opened.is_new() { b"new" } else { b"more" }).unwrap();
    Ok(std::fs::read_to_string(&path).unwrap())
}

#[test]
fn an_unfinished_line_is_cut_off_and_whole_lines_stay() {
    assert_eq!(reopened("{\"metric\":1}\n").unwrap(), "{\"metric\":1}\nmore");
    assert_eq!(reopened("{\"metric\":1}\n{\"met").unwrap(), "{\"metric\":1}\nmore");
    assert_eq!(reopened("{\"met").unwrap(), "new");
    let long = format!("{{\"metric\":1}}\n{{\"metric\":\"{}", "x".repeat(10_000));
    assert_eq!(reopened(&long).unwrap(), "{\"metric\":1}\nmore");
}

#[test]
fn a_file_of_something_else_is_not_changed() {
    let error = reopened("Some notes").unwrap_err().to_string();
    assert!(error.contains("plugins.jsonl.append = false"), "{error}");
    let error = reopened("S").unwrap_err();
    assert_eq!(error.kind(), wattrace_api::ErrorKind::Fatal);
}

#[test]
fn a_file_has_one_writer() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("out");
    let first = open(&output_path(&path), "", false).unwrap();
    let second = open(&output_path(&path), "", true).err().unwrap();
    assert_eq!(second.kind(), wattrace_api::ErrorKind::Retry);
    assert!(second.to_string().contains("another process"), "{second}");
    drop(first);
    assert!(open(&output_path(&path), "", true).is_ok());
}

#[test]
fn a_missing_directory_is_named_with_its_remedy() {
    let error = open(&output_path(Path::new("/nowhere/at/all.jsonl")), "", false).err().unwrap().to_string();
    assert!(error.starts_with("plugins.jsonl.path: /nowhere/at/all.jsonl: "), "{error}");
    assert!(error.contains("`mkdir -p /nowhere/at`"), "{error}");
}
