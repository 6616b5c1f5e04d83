//! The page in a real Chromium, with simulated histories whose truth is known.
//!
//! With `WATTRACE_SCREENSHOTS=DIR`, pictures of it are left in DIR, to be looked at.
#![allow(clippy::unwrap_used, reason = "helpers of tests may panic: that is how tests fail")]

mod common;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use common::{BEGIN, Machine, SECOND};
use serde_json::Value;
use wattrace_browser_testing::{Browser, Screen};
use wattrace_page::{About, Document, Server, Source, html, summarise};

const READY: &str = "document.documentElement.dataset.firstViewMs";

fn about(title: &str) -> About {
    About { title: title.into(), ..About::default() }
}

/// A page as a file, and its address.
fn file(dir: &Path, document: &Document) -> String {
    let path = dir.join("report.html");
    std::fs::write(&path, html::file(document).unwrap()).unwrap();
    format!("file://{}", path.display())
}

/// Microjoules of the table's rows, by name.
fn rows(browser: &mut Browser) -> BTreeMap<String, u64> {
    let rows = browser.evaluate(
        "Object.fromEntries([...document.querySelectorAll('#view-table [data-uj]')]\
         .map(({ dataset }) => [dataset.name, Number(dataset.uj)]))",
    );
    serde_json::from_value(rows).unwrap()
}

/// A number among the data of an element.
fn number(browser: &mut Browser, element: &str, key: &str) -> u64 {
    let value = browser.evaluate(&format!("document.getElementById('{element}').dataset.{key}"));
    value.as_str().unwrap().parse().unwrap()
}

fn text(browser: &mut Browser, selector: &str) -> String {
    let text = browser.evaluate(&format!("document.querySelector('{selector}').textContent"));
    text.as_str().unwrap().to_owned()
}

/// A point of the chart, at a part of its width.
fn point(browser: &mut Browser, part: f64) -> (f64, f64) {
    let place = browser.evaluate(
        "(() => { const chart = document.querySelector('.u-over').getBoundingClientRect(); \
         return [chart.left, chart.top, chart.width, chart.height]; })()",
    );
    let [left, top, width, height] = serde_json::from_value::<[f64; 4]>(place).unwrap();
    (left + part * width, top + height / 2.0)
}

fn choose(browser: &mut Browser, select: &str, value: &str) {
    browser.evaluate(&format!(
        "(() => {{ const chosen = document.getElementById('{select}'); chosen.value = '{value}'; \
         chosen.dispatchEvent(new Event('change')); }})()"
    ));
}

/// Leaves a picture, if pictures are asked for.
fn picture(browser: &mut Browser, name: &str) {
    if let Some(dir) = std::env::var_os("WATTRACE_SCREENSHOTS") {
        browser.screenshot(&PathBuf::from(dir).join(format!("{name}.png")), true);
    }
}

/// What only the addresses in `own` may have been asked for, and nothing went wrong.
fn assert_quiet(browser: &Browser, own: &str) {
    let foreign: Vec<_> = browser
        .requests()
        .into_iter()
        .filter(|url| !url.starts_with(own) && !url.starts_with("data:"))
        .collect();
    assert_eq!(foreign, Vec::<String>::new());
    assert_eq!(browser.complaints(), Vec::<String>::new());
}

#[test]
fn the_table_of_a_selected_span_sums_to_the_meter_to_the_microjoule() {
    let (machine, dir) = (Machine::of_programs(120), tempfile::tempdir().unwrap());
    let Some(mut browser) = Browser::start(Screen::WIDE) else { return };
    let url = file(dir.path(), &summarise(&machine.history, &about("simulated.db")));
    browser.open(&url, READY);
    assert_eq!(rows(&mut browser), machine.truth("program", 0, u64::MAX));
    let (from, to) = (point(&mut browser, 0.25), point(&mut browser, 0.6));
    browser.drag(from, to);
    let [from, to] = ["fromUs", "toUs"].map(|key| number(&mut browser, "span", key) * 1000);
    assert!(from > BEGIN + 20 * SECOND && to < BEGIN + 80 * SECOND && from < to, "{from} {to}");
    for level in ["program", "process", "unit"] {
        choose(&mut browser, "level", level);
        let truth = machine.truth(level, from, to);
        assert_eq!(rows(&mut browser), truth, "{level}");
        let measured = machine.measured(from, to);
        assert_eq!(number(&mut browser, "books", "measured"), measured, "{level}");
        assert_eq!(number(&mut browser, "books", "total"), measured, "{level}");
    }
    let books = text(&mut browser, "#books");
    let measured = machine.measured(from, to);
    let exact = format!("{}.{:06} J", measured / 1_000_000, measured % 1_000_000);
    assert!(books.replace(',', "").ends_with(&format!("= meter {exact}")), "{books}");
    // A click selects the whole time again, arrow keys single buckets.
    let middle = point(&mut browser, 0.5);
    browser.drag(middle, middle);
    assert_eq!(number(&mut browser, "books", "total"), machine.measured(0, u64::MAX));
    browser.evaluate("document.getElementById('chart').focus()");
    browser.press("ArrowRight", false);
    browser.press("ArrowRight", true);
    assert_eq!(number(&mut browser, "books", "total"), machine.measured(BEGIN, BEGIN + 2 * SECOND));
    assert_quiet(&browser, &url);
}

#[test]
fn a_search_shows_the_sum_of_what_it_finds_and_the_tree_has_all_joules() {
    let (machine, dir) = (Machine::of_programs(30), tempfile::tempdir().unwrap());
    let Some(mut browser) = Browser::start(Screen::WIDE) else { return };
    let url = file(dir.path(), &summarise(&machine.history, &about("simulated.db")));
    browser.open(&url, READY);
    choose(&mut browser, "level", "process");
    browser.evaluate(
        "(() => { const search = document.getElementById('search'); search.value = 'RUSTC'; \
         search.dispatchEvent(new Event('input')); })()",
    );
    let rows = rows(&mut browser);
    let truth = machine.truth("process", 0, u64::MAX);
    let found: u64 = truth.iter().filter(|(name, _)| name.starts_with("rustc")).map(|(_, uj)| uj).sum();
    assert_eq!(rows["found: 4 of 7"], found);
    assert!(!rows.contains_key("bash [10]"), "{rows:?}");
    browser.evaluate("document.getElementById('tab-flame').click()");
    // All, idle, unattributed, bash, make below it, the four rustc as one, and python3.
    assert_eq!(number(&mut browser, "flame", "boxes"), 7);
    browser.evaluate("document.getElementById('merge').click()");
    assert_eq!(number(&mut browser, "flame", "boxes"), 10);
    assert_quiet(&browser, &url);
}

/// A point of a canvas, which is scrolled into view: a part of its width, and pixels from its top.
fn point_of(browser: &mut Browser, canvas: &str, part: f64, down: f64) -> (f64, f64) {
    let place = browser.evaluate(&format!(
        "(() => {{ const canvas = document.getElementById('{canvas}'); canvas.scrollIntoView(); \
         const {{ left, top, width }} = canvas.getBoundingClientRect(); return [left, top, width]; }})()"
    ));
    let [left, top, width] = serde_json::from_value::<[f64; 3]>(place).unwrap();
    (left + part * width, top + down)
}

#[test]
fn the_timeline_has_each_process_below_its_parent_as_strong_as_its_power() {
    const LINE: f64 = 20.0;
    let (machine, dir) = (Machine::of_lifetimes(), tempfile::tempdir().unwrap());
    let Some(mut browser) = Browser::start(Screen::WIDE) else { return };
    let url = file(dir.path(), &summarise(&machine.history, &about("simulated.db")));
    browser.open(&url, READY);
    browser.evaluate("document.getElementById('tab-waterfall').click()");
    assert_eq!(number(&mut browser, "waterfall", "lines"), 5);
    let names = ["make [10]", "sh [11]", "rustc [12]", "ld [13]", "python3 [20]"];
    for (line, name) in (0_u8..).zip(names) {
        let over = point_of(&mut browser, "waterfall", 0.5, (f64::from(line) + 0.5) * LINE);
        browser.hover(over);
        assert!(text(&mut browser, "#tooltip").starts_with(name), "line {line} is not {name}");
    }
    assert!(text(&mut browser, "#tooltip").contains("0.250 W on average"));
    // How opaque a line is at a part of the span, at its lower edge, where no label is.
    let mut strength = |line: f64, part: f64| {
        let at = format!(
            "(() => {{ const canvas = document.getElementById('waterfall'); \
             const context = canvas.getContext('2d'); \
             return context.getImageData({part} * canvas.width, {line} * 20 + 17, 1, 1).data[3]; }})()"
        );
        browser.evaluate(&at).as_u64().unwrap()
    };
    let (rustc, server, shell) = (strength(2.0, 15.5 / 60.0), strength(4.0, 0.5), strength(1.0, 0.5));
    assert!(rustc > 240 && server < 150 && shell < server && shell > 20, "{rustc} {server} {shell}");
    assert_eq!(strength(2.0, 25.0 / 60.0), 0, "it has ended");
    // A click on a line selects the time of its process.
    let compiler = point_of(&mut browser, "waterfall", 0.25, 2.5 * LINE);
    browser.drag(compiler, compiler);
    let [from, to] = ["fromUs", "toUs"].map(|key| number(&mut browser, "span", key) * 1000);
    assert_eq!((from, to), (BEGIN + 10 * SECOND, BEGIN + 20 * SECOND));
    assert_eq!(number(&mut browser, "books", "total"), machine.measured(from, to));
    assert_eq!(number(&mut browser, "waterfall", "lines"), 4, "no linker then");
    assert_quiet(&browser, &url);
}

#[test]
fn a_finger_selects_a_span_and_a_tap_the_whole_time() {
    let (machine, dir) = (Machine::of_programs(120), tempfile::tempdir().unwrap());
    let Some(mut browser) = Browser::start(Screen::NARROW) else { return };
    let url = file(dir.path(), &summarise(&machine.history, &about("simulated.db")));
    browser.open(&url, READY);
    let (from, to) = (point(&mut browser, 0.25), point(&mut browser, 0.6));
    browser.swipe(from, to);
    let [from, to] = ["fromUs", "toUs"].map(|key| number(&mut browser, "span", key) * 1000);
    assert!(from > BEGIN + 20 * SECOND && to < BEGIN + 80 * SECOND && from < to, "{from} {to}");
    assert_eq!(number(&mut browser, "books", "total"), machine.measured(from, to));
    // Up and down is for the page.
    let (x, y) = point(&mut browser, 0.5);
    browser.swipe((x, y + 40.0), (x + 2.0, y - 60.0));
    assert_eq!(number(&mut browser, "books", "total"), machine.measured(from, to));
    let middle = point(&mut browser, 0.4);
    browser.swipe(middle, middle);
    browser.wait(&format!(
        "document.getElementById('books').dataset.total === '{}'",
        machine.measured(0, u64::MAX)
    ));
    assert_quiet(&browser, &url);
}

/// Names of programs, units and files, and command lines, come from others.
#[test]
fn names_from_outside_are_text_and_nothing_else() {
    let attack = "<img src=x onerror=\"document.documentElement.dataset.attacked = 1\">";
    let script = "</script><script>document.documentElement.dataset.attacked = 1</script><!--";
    let dir = tempfile::tempdir().unwrap();
    let machine = Machine::of(&[attack, script, "a\u{202e}b", "__proto__", "constructor"], 10);
    let Some(mut browser) = Browser::start(Screen::WIDE) else { return };
    let url = file(dir.path(), &summarise(&machine.history, &about(&format!("{attack}{script}"))));
    browser.open(&url, READY);
    for view in ["tab-flame", "tab-waterfall", "tab-table"] {
        browser.evaluate(&format!("document.getElementById('{view}').click()"));
        for part in [0.2, 0.4, 0.6] {
            let over = point(&mut browser, part);
            browser.hover(over);
        }
        assert!(text(&mut browser, "#tooltip").contains(attack));
        let attacked = "document.documentElement.dataset.attacked ?? document.querySelectorAll('img').length";
        assert_eq!(browser.evaluate(attacked), Value::from(0));
    }
    let rows = rows(&mut browser);
    assert!(rows.contains_key(attack) && rows.contains_key(script), "{rows:?}");
    assert!(rows.contains_key("a\u{fffd}b") && rows.contains_key("__proto__"), "{rows:?}");
    assert_eq!(text(&mut browser, "#title"), format!("{attack}{script}"));
    assert_quiet(&browser, &url);
}

struct Fixed(Document);

impl Source for Fixed {
    fn document(&self, _: Option<[u64; 2]>) -> Result<Document, String> {
        Ok(self.0.clone())
    }
}

#[test]
fn ten_thousand_processes_are_shown_and_only_the_server_is_asked() {
    let machine = Machine::of_processes(10_000, 600);
    let Some(mut browser) = Browser::start(Screen::WIDE) else { return };
    let document = summarise(&machine.history, &about("simulated.db"));
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let server = runtime.block_on(async { Server::bind(0).unwrap() });
    let url = server.url();
    runtime.spawn(server.serve(Arc::new(Fixed(document))));
    browser.open(&url, READY);
    let first_view = browser.evaluate(READY);
    eprintln!("first view of 10,000 processes after {} ms", first_view.as_str().unwrap());
    choose(&mut browser, "level", "process");
    assert_eq!(number(&mut browser, "books", "total"), machine.measured(0, u64::MAX));
    assert_eq!(browser.evaluate("document.querySelectorAll('#rows tr').length"), Value::from(50));
    assert_eq!(text(&mut browser, "#more"), "Show 500 of 9950 more");
    browser.evaluate("document.getElementById('more').click()");
    assert_eq!(browser.evaluate("document.querySelectorAll('#rows tr').length"), Value::from(550));
    browser.evaluate("document.getElementById('tab-flame').click()");
    assert!(number(&mut browser, "flame", "boxes") > 5);
    browser.evaluate("document.getElementById('tab-waterfall').click()");
    assert_eq!(number(&mut browser, "waterfall", "lines"), 300);
    assert_eq!(text(&mut browser, "#waterfall-note"), "9700 processes of less energy are not shown.");
    assert_quiet(&browser, &url);
}

#[test]
fn the_page_fits_a_phone_and_a_desktop_in_light_and_dark() {
    let (machine, dir) = (Machine::of_processes(3_000, 300), tempfile::tempdir().unwrap());
    let Some(mut browser) = Browser::start(Screen::WIDE) else { return };
    let url = file(dir.path(), &summarise(&machine.history, &about("simulated.db")));
    for (name, screen) in [("wide", Screen::WIDE), ("narrow", Screen::NARROW)] {
        for is_dark in [false, true] {
            browser.resize(Screen { is_dark, ..screen });
            browser.open(&url, READY);
            let overflow = "document.documentElement.scrollWidth - document.documentElement.clientWidth";
            assert_eq!(browser.evaluate(overflow), Value::from(0), "{name}");
            let (from, to) = (point(&mut browser, 0.3), point(&mut browser, 0.5));
            browser.drag(from, to);
            let scheme = if is_dark { "dark" } else { "light" };
            picture(&mut browser, &format!("table-{name}-{scheme}"));
            browser.evaluate("document.getElementById('tab-flame').click()");
            assert_eq!(browser.evaluate(overflow), Value::from(0), "{name}");
            picture(&mut browser, &format!("tree-{name}-{scheme}"));
            browser.evaluate("document.getElementById('tab-waterfall').click()");
            assert_eq!(browser.evaluate(overflow), Value::from(0), "{name}");
            picture(&mut browser, &format!("timeline-{name}-{scheme}"));
        }
    }
    assert_quiet(&browser, &url);
}
