//! Collectors with limits: what arrives, and how many requests it takes.

use std::sync::Mutex;

use hyper::body::Bytes;
use wattrace_api::{Attribute, Value, metric};
use wattrace_otlp_client::transport::Sending;

use super::*;
use crate::attributes::encoded;
use crate::encode::tests::{packed, point, series};
use crate::sizes::LIMIT;

/// Answers by the size of the request.
struct Limited<F> {
    answer: F,
    sent: Mutex<Vec<usize>>,
}

impl<F: Fn(usize) -> Outcome + Send + Sync> Transport for Limited<F> {
    fn send(&self, request: Bytes) -> Sending<'_> {
        Box::pin(async move {
            self.sent.lock().unwrap().push(request.len());
            (self.answer)(request.len())
        })
    }
}

fn accepted() -> Outcome {
    Outcome::Accepted { rejected: 0, message: String::new() }
}

fn too_large(is_temporary: bool) -> Outcome {
    Outcome::TooLarge { cause: "413".to_owned(), is_temporary }
}

/// Sends `requests` to a collector that answers so; returns the report and the sizes of what was sent.
fn send(
    requests: Vec<Request>,
    sizes: Sizes,
    answer: impl Fn(usize) -> Outcome + Send + Sync,
) -> (Report, Vec<usize>) {
    let collector = Limited { answer, sent: Mutex::default() };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    let limits = Limits { request: Duration::from_secs(60), set: None };
    let report = runtime.block_on(deliver(&collector, limits, requests, sizes));
    (report, collector.sent.into_inner().unwrap())
}

/// A request of points whose attributes have these lengths.
fn request(lengths: &[usize]) -> Request {
    let energy = series(&metric::HW_ENERGY);
    let attributes: Vec<_> =
        lengths.iter().map(|&length| encoded(&[Attribute::new("k", "v".repeat(length))])).collect();
    let points: Vec<_> =
        attributes.iter().map(|attributes| point(&energy, attributes, Some(Value::of_steps(1)))).collect();
    packed(&points, usize::MAX).remove(0)
}

/// Values by outcome: accepted, too large, refused, later.
fn fates(report: &Report) -> [u64; 4] {
    let mut fates = [0; 4];
    for (contents, outcome) in &report.answers {
        let at = match outcome {
            Outcome::Accepted { .. } => 0,
            Outcome::TooLarge { .. } => 1,
            Outcome::Refused { .. } => 2,
            Outcome::Later { .. } | Outcome::Unreached { .. } => 3,
        };
        fates[at] += contents.values;
    }
    fates
}

#[test]
fn what_is_too_large_is_split_until_it_goes_through_and_the_size_is_remembered() {
    let by_size = |bytes| if bytes > 10_000 { too_large(false) } else { accepted() };
    let (report, sent) = send(vec![request(&[500; 200])], Sizes::default(), by_size);
    assert_eq!((fates(&report), report.left.is_empty()), ([200, 0, 0, 0], true));
    assert!(sent[0] > 100_000 && sent.iter().filter(|&&bytes| bytes > 10_000).count() <= 5, "{sent:?}");
    assert_eq!(report.split, Some((sent[0], "413".to_owned())));
    let (report, sent) = send(vec![request(&[500; 200])], report.sizes, by_size);
    assert_eq!((fates(&report), report.split), ([200, 0, 0, 0], None));
    assert!(sent.iter().all(|&bytes| bytes <= 10_000), "{sent:?}");
}

#[test]
fn a_single_point_that_is_too_large_is_lost_alone() {
    let mut lengths = [100; 50];
    lengths[17] = 20_000;
    let by_size = |bytes| if bytes > 9_000 { too_large(false) } else { accepted() };
    let (report, _) = send(vec![request(&lengths)], Sizes::default(), by_size);
    assert_eq!((fates(&report), report.left.is_empty()), ([49, 1, 0, 0], true));
    assert!(report.sizes.limit() >= 2_500, "{:?}", report.sizes);
}

#[test]
fn an_answer_that_is_not_about_the_size_costs_few_requests_once() {
    for is_temporary in [false, true] {
        let (report, sent) = send(vec![request(&[100; 1000])], Sizes::default(), |_| too_large(is_temporary));
        assert!(sent.len() <= 24, "{is_temporary}: {} requests", sent.len());
        let expected = if is_temporary { ([0, 0, 0, 1], false) } else { ([0, 0, 1000, 0], true) };
        assert_eq!((fates(&report), report.left.is_empty()), expected);
        assert_eq!(report.sizes.limit(), LIMIT);
        let (_, sent) = send(vec![request(&[100; 1000])], report.sizes, |_| too_large(is_temporary));
        assert_eq!(sent.len(), 1, "{is_temporary}");
    }
}

#[test]
fn after_an_answer_that_means_later_nothing_more_is_sent() {
    let later = |_| Outcome::Later { cause: "busy".to_owned(), after: None };
    let (report, sent) = send(vec![request(&[1; 3]), request(&[1; 3])], Sizes::default(), later);
    assert_eq!((fates(&report), report.left.is_empty(), sent.len()), ([0, 0, 0, 3], false, 1));
}

/// Takes the first request, and never answers the others.
struct First(Mutex<u32>);

impl Transport for First {
    fn send(&self, _: Bytes) -> Sending<'_> {
        Box::pin(async move {
            *self.0.lock().unwrap() += 1;
            if *self.0.lock().unwrap() > 1 {
                std::future::pending::<()>().await;
            }
            accepted()
        })
    }
}

#[test]
fn a_set_that_takes_too_long_is_left_for_later() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    let limits = Limits { request: Duration::from_secs(3600), set: Some(Duration::from_millis(50)) };
    let (first, requests) =
        (First(Mutex::new(0)), vec![request(&[1; 3]), request(&[1; 3]), request(&[1; 3])]);
    let report = runtime.block_on(deliver(&first, limits, requests, Sizes::default()));
    assert_eq!((fates(&report), report.left.len()), ([3, 0, 0, 3], 2));
}

#[test]
fn a_connection_that_breaks_under_a_large_request_is_tried_with_smaller_ones() {
    let breaks = |bytes| match bytes {
        100_001.. => Outcome::Unreached { cause: "reset".to_owned(), problem: Problem::Exchange },
        _ => accepted(),
    };
    let mut sizes = Sizes::default();
    let mut reports = (0..6).map(|_| {
        let (report, _) = send(vec![request(&[500; 1500])], sizes, breaks);
        sizes = report.sizes;
        report
    });
    let report = reports.find(|report| report.left.is_empty()).expect("it goes through after a few tries");
    assert_eq!(fates(&report), [1500, 0, 0, 0]);
}
