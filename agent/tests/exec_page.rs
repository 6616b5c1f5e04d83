//! The page of `wattrace exec --html` names the command's processes and no others, and its books are closed.
#![allow(clippy::unwrap_used, reason = "helpers of tests may panic: that is how tests fail")]

mod support;

use serde_json::Value;
use support::page::sums;
use support::{is_root, wattrace};
use wattrace_browser_testing::{Browser, Screen};

#[test]
fn the_page_of_a_command_names_its_processes_and_no_others_and_its_books_are_closed() {
    if !is_root() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let page = dir.path().join("report.html");
    let script =
        "i=0; while [ $i -lt 300000 ]; do i=$((i+1)); done; seq 300000 | sort -R | md5sum >/dev/null";
    let status = wattrace().args(["exec", "--html"]).arg(&page).args(["--", "sh", "-c", script]).status();
    assert!(status.unwrap().success());
    let html = std::fs::read_to_string(&page).unwrap();
    let (_, data) = html.split_once("<script type=\"application/json\" id=\"document\">").unwrap();
    let data: Value = serde_json::from_str(data.split_once("</script>").unwrap().0).unwrap();
    let (used, measured) = sums(&data);
    assert!(measured > 0, "{data}");
    assert_eq!(used.values().sum::<u64>(), measured);
    let names: Vec<&str> = used.keys().map(String::as_str).collect();
    assert_eq!(
        names.iter().filter(|name| ["sh", "sort", "seq", "md5sum"].contains(name)).count(),
        4,
        "{used:?}"
    );
    let closing = ["idle", "irq", "other", "unattributed"];
    assert!(
        names.iter().all(|name| ["sh", "sort", "seq", "md5sum"].contains(name) || closing.contains(name))
    );
    let consumers = data["consumers"].as_array().unwrap();
    let sort = consumers.iter().find(|consumer| consumer["name"] == "sort").unwrap();
    let parent = &consumers[usize::try_from(sort["parent"].as_u64().unwrap()).unwrap()];
    assert_eq!((parent["name"].as_str(), data["is_relative"].as_bool()), (Some("sh"), Some(true)));
    assert!(data["edges_us"].as_array().unwrap().len() > 10, "as fine as 10 ms");
    let Some(mut browser) = Browser::start(Screen::WIDE) else { return };
    let url = format!("file://{}", page.display());
    browser.open(&url, "document.documentElement.dataset.firstViewMs");
    let shown = browser.evaluate("document.getElementById('books').dataset.total");
    assert_eq!(shown, measured.to_string());
    assert_eq!(browser.complaints(), Vec::<String>::new());
}

#[test]
fn a_page_of_several_runs_is_refused() {
    let page = tempfile::tempdir().unwrap().path().join("report.html");
    let output =
        wattrace().args(["exec", "--repeat", "2", "--html"]).arg(&page).arg("true").output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    let message = String::from_utf8(output.stderr).unwrap();
    assert!(message.contains("--html shows a single run: leave out --repeat"), "{message}");
    assert!(!page.exists());
}
