//! For fuzzing: everything that parses text from outside. Each function must return soon and without a panic,
//! whatever it is given.

use std::hint::black_box;
use std::sync::Arc;

use wattrace_procfs::Stat;

use crate::facts::Facts;
use crate::level::Level;
use crate::names::engine;
use crate::names::lookup::Subject;
use crate::names::pods::Pods;
use crate::path::PathInfo;

const LEVELS: [Level; 6] =
    [Level::Cgroup, Level::Unit, Level::Container, Level::Pod, Level::Job, Level::Machine];

/// A process's path in the unified hierarchy, followed by the lines of its `/proc/PID/cgroup`.
pub fn cgroup(text: &str) {
    let (path, v1) = text.split_once('\n').unwrap_or((text, ""));
    for info in [PathInfo::of(path), PathInfo::of_all(Some(path), v1), PathInfo::of_all(None, v1)] {
        let facts = Facts { path: Arc::new(info), ..Facts::default() };
        for level in LEVELS {
            // An empty id means the rest.
            let is_rest = facts.key(level).is_some_and(|key| facts.id(level, &key).is_empty());
            assert!(!is_rest || level == Level::Cgroup, "a group has an id: {level:?} {facts:?}");
            _ = black_box(facts.of_group(level));
        }
        _ = black_box(facts.of_process());
    }
}

/// `/proc/PID/stat`.
pub fn stat(stat: &str) {
    _ = black_box(Stat::parse(stat.as_bytes()).map(|stat| stat.start_nanos()));
}

/// A container engine's answer about a container, and a kubelet's or an API server's list of pods.
pub fn json(body: &[u8]) {
    let id: Arc<str> = "0123456789ab".into();
    if let Ok(inspected) = engine::parse(body) {
        assert_eq!(
            engine::named(&id, &inspected).key,
            id,
            "the answer is about the container of the request"
        );
    }
    let mut pods = Pods::new(vec!["app".to_owned(), "app.kubernetes.io/*".to_owned()]);
    if pods.read(body).is_ok() {
        let uid = "12345678-9abc-def0-1234-56789abcdef0".into();
        _ = black_box((
            pods.find(&Subject::Pod { uid }),
            pods.find(&Subject::Container { id, is_in_pod: true }),
        ));
    }
}

/// A server's answer, from its status line on. Returns the length of its body, if it is whole.
pub fn response(bytes: &[u8]) -> Option<usize> {
    const LIMIT: usize = 1 << 16;
    let body = wattrace_http::fuzzing::body(bytes, LIMIT)?;
    assert!(body.len() <= LIMIT);
    json(&body);
    Some(body.len())
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_answer_reaches_the_parsers() {
        let answer = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}";
        assert_eq!(super::response(answer), Some(2));
        assert_eq!(super::response(b""), None);
    }
}
