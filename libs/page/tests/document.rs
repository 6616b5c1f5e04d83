//! Documents of histories whose truth is known: in every bucket, consumers and closing entries sum to the
//! meter, to the microjoule.
#![allow(clippy::unwrap_used, reason = "helpers of tests may panic: that is how tests fail")]

use std::collections::BTreeMap;

use wattrace_page::{About, ConsumerInfo, Document, History, Window, summarise};

const SECOND: u64 = 1_000_000_000;
const BEGIN: u64 = 1_795_694_400 * SECOND;

fn info(kind: &str, id: &str) -> ConsumerInfo {
    ConsumerInfo { kind: kind.into(), id: id.into(), name: id.into(), ..ConsumerInfo::default() }
}

fn process(pid: &str, name: &str, start: u64, parent: &str) -> ConsumerInfo {
    let parent = Some(parent.to_owned());
    ConsumerInfo { name: name.into(), start_unix_nano: BEGIN + start, parent, ..info("process", pid) }
}

/// A window, in seconds since the begin.
fn window(begin: f64, end: f64) -> Window {
    let nanos = |seconds: f64| BEGIN + (seconds * 1e9) as u64;
    Window { begin: nanos(begin), end: nanos(end) }
}

fn document(history: &History) -> Document {
    summarise(history, &About::default())
}

/// Microjoules by domain and bucket: measured, and used.
fn sums(document: &Document) -> [BTreeMap<(usize, u64), u64>; 2] {
    let mut used = BTreeMap::new();
    let workers = document.consumers.iter().filter(|consumer| consumer.kind != "unit");
    for (domain, amounts) in workers.flat_map(|consumer| &consumer.used_uj) {
        for pair in amounts.chunks(2) {
            *used.entry((*domain, pair[0])).or_default() += pair[1];
        }
    }
    let measured = document
        .domains
        .iter()
        .enumerate()
        .flat_map(|(at, domain)| domain.measured_uj.chunks(2).map(move |pair| ((at, pair[0]), pair[1])));
    [measured.collect(), used]
}

/// Random histories: meters of several rates, with jitter; more increments than are kept.
#[test]
fn the_books_of_every_bucket_are_closed_however_often_increments_were_merged() {
    for seed in 0..20 {
        let mut random = fastrand::Rng::with_seed(seed);
        let mut history = History::with_limit(random.usize(200..20_000));
        let consumers: Vec<usize> =
            (0..5).map(|n| history.consumer(process(&format!("{n}"), "p", n, "0"))).collect();
        let idle = history.consumer(info("idle", ""));
        let mut truth = Vec::new();
        let rates = [(1.0, "package-0"), (0.1, "gpu-0"), (5.0, "board")];
        for (length, name) in rates {
            let domain = history.domain(name, "simulated", name != "board");
            let (mut end, mut total) = (random.f64(), 0);
            while end < 200.0 {
                let begin = end;
                end += length * (0.98 + 0.04 * random.f64());
                let window = window(begin, end);
                let mut measured = 0;
                for &consumer in consumers.iter().chain([&idle]) {
                    let microjoules = random.u64(0..1_000_000) * random.u64(0..2);
                    history.used(consumer, domain, window, microjoules);
                    measured += microjoules;
                }
                // Closes the books up to the last window.
                history.used(idle, domain, window, 1);
                history.measured(domain, window, measured + 1);
                total += measured + 1;
            }
            truth.push(total);
        }
        let document = document(&history);
        let [measured, used] = sums(&document);
        assert_eq!(measured, used, "seed {seed}");
        for (domain, total) in truth.into_iter().enumerate() {
            let found: u64 = measured.iter().filter(|((at, _), _)| *at == domain).map(|(_, sum)| sum).sum();
            assert_eq!(found, total, "seed {seed}, domain {domain}");
        }
        assert!(document.edges_us.is_sorted_by(|a, b| a < b), "seed {seed}");
    }
}

/// A GPU is read ten times as often: the package's power is not ten times as high every tenth time.
#[test]
fn a_bucket_holds_a_window_of_the_slowest_meter() {
    let mut history = History::default();
    let [package, gpu] = ["package-0", "gpu-0"].map(|name| history.domain(name, "measured", true));
    for second in 0..10 {
        let second = f64::from(second);
        history.measured(package, window(second, second + 1.0), 5_000_000);
        for tenth in 0..10 {
            let begin = second + f64::from(tenth) / 10.0 + 0.003;
            history.measured(gpu, window(begin, begin + 0.1), 1_000_000);
        }
    }
    let document = document(&history);
    assert_eq!(document.edges_us.len(), 11);
    let expected = |microjoules| (0..10).flat_map(|bucket| [bucket, microjoules]).collect::<Vec<u64>>();
    assert_eq!(document.domains[0].measured_uj, expected(5_000_000));
    // The last windows end three milliseconds after their bucket.
    assert_eq!(document.domains[1].measured_uj, expected(10_000_000));
    let nobody = &document.consumers[0];
    assert_eq!((nobody.kind.as_str(), nobody.used_uj.len()), ("unattributed", 2), "without attribution");
}

#[test]
fn time_that_no_window_covers_is_a_gap() {
    let mut history = History::default();
    let domain = history.domain("package-0", "measured", true);
    for (begin, end) in [(0.0, 1.0), (1.0, 2.0), (60.0, 61.0), (61.0, 62.0)] {
        history.measured(domain, window(begin, end), 7);
    }
    let document = document(&history);
    let seconds: Vec<u64> = document.edges_us.iter().map(|edge| (edge - BEGIN / 1000) / 1_000_000).collect();
    assert_eq!((seconds, document.gaps), (vec![0, 1, 2, 60, 61, 62], vec![2]));
}

#[test]
fn what_the_meter_counted_after_the_last_attributed_energy_is_left_out() {
    let mut history = History::default();
    let domain = history.domain("package-0", "measured", true);
    let worker = history.consumer(process("7", "make", 0, "1"));
    for second in 0..3 {
        let second = f64::from(second);
        history.measured(domain, window(second, second + 1.0), 100);
    }
    history.used(worker, domain, window(0.0, 1.0), 100);
    history.used(worker, domain, window(1.0, 2.0), 100);
    assert_eq!(document(&history).domains[0].measured_uj, [0, 100, 1, 100]);
}

#[test]
fn a_parent_is_the_last_owner_of_its_pid_before_the_child_and_ancestors_stay() {
    let mut history = History::default();
    let domain = history.domain("package-0", "measured", true);
    let mut add = |pid, name, start, parent, microjoules| {
        let consumer = history.consumer(process(pid, name, start, parent));
        history.used(consumer, domain, window(0.0, 1.0), microjoules);
    };
    add("5", "old", 10, "1", 1);
    add("5", "sh", 20, "1", 0);
    add("6", "make", 30, "5", 0);
    add("7", "cc", 40, "6", 8);
    add("5", "new", 50, "7", 1);
    add("9", "unused", 60, "7", 0);
    // Its own parent, by a clock that went wrong.
    add("8", "loop", 70, "8", 1);
    history.measured(domain, window(0.0, 1.0), 11);
    let document = document(&history);
    let parent = |name: &str| {
        let found = document.consumers.iter().find(|consumer| consumer.name == name).unwrap();
        found.parent.map(|at| document.consumers[at].name.as_str())
    };
    assert_eq!([parent("cc"), parent("make"), parent("sh")], [Some("make"), Some("sh"), None]);
    assert_eq!([parent("new"), parent("loop")], [Some("cc"), None]);
    assert!(document.consumers.iter().all(|consumer| consumer.name != "unused"));
}

#[test]
fn more_processes_than_a_browser_can_handle_are_counted_with_their_programs() {
    let mut history = History::default();
    let domain = history.domain("package-0", "measured", true);
    for number in 0..20_005_u64 {
        let pid = number.to_string();
        let consumer =
            history.consumer(process(&pid, if number % 2 == 0 { "cc" } else { "ld" }, number, "x"));
        history.used(consumer, domain, window(0.0, 1.0), 1000 + number);
    }
    let total: u64 = (0..20_005).map(|number| 1000 + number).sum();
    history.measured(domain, window(0.0, 1.0), total);
    let document = document(&history);
    let of_kind = |kind: &str| document.consumers.iter().filter(|consumer| consumer.kind == kind).count();
    assert_eq!((of_kind("process"), of_kind("program"), document.processes_by_program), (20_000, 2, 5));
    let [measured, used] = sums(&document);
    assert_eq!((measured.get(&(0, 0)), &measured), (Some(&total), &used));
}

#[test]
fn what_is_merged_into_another_consumer_counts_as_used_by_it() {
    let mut history = History::default();
    let domain = history.domain("package-0", "measured", true);
    let [one, other] = ["1", "2"].map(|pid| history.consumer(process(pid, pid, 1, "0")));
    history.used(one, domain, window(0.0, 1.0), 3);
    history.used(other, domain, window(0.0, 1.0), 4);
    history.measured(domain, window(0.0, 1.0), 7);
    history.merge(one, other);
    let document = document(&history);
    assert_eq!(document.consumers.len(), 1);
    assert_eq!(document.consumers[0].used_uj, [(0, vec![0, 7])]);
    history.clear();
    assert!(summarise(&history, &About::default()).edges_us.is_empty());
}
