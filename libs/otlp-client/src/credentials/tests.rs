//! Credentials against a server that accepts only the right ones.

use std::sync::Mutex;

use super::*;
use crate::env::tests::METRICS;

/// Accepts requests with the right token; may rotate the token in the file when a request comes.
struct FakeServer {
    right: &'static str,
    rotates: Option<(PathBuf, &'static str)>,
    received: Mutex<Vec<String>>,
}

impl OtlpClient for FakeServer {
    fn send(&self, _: Bytes, headers: HeaderMap) -> Sending<'_> {
        let text = |value: &HeaderValue| value.to_str().unwrap().to_owned();
        let received = headers.get(AUTHORIZATION).or(headers.get("api-key")).map_or(String::new(), text);
        self.received.lock().unwrap().push(received.clone());
        if let Some((file, token)) = &self.rotates {
            std::fs::write(file, token).unwrap();
        }
        Box::pin(async move {
            match received == self.right {
                true => Outcome::Accepted { rejected: 0, message: String::new() },
                false => Outcome::Refused { cause: "401 Unauthorized".to_owned() },
            }
        })
    }
}

fn resolve(token: &str, token_file: &Path, headers: &Path) -> Result<Credentials, Error> {
    let env = Env::new(METRICS, &|_| None);
    Credentials::new(&Secret(token.to_owned()), token_file, headers, &env)
}

fn send(server: FakeServer, credentials: &Credentials) -> (Outcome, Vec<String>) {
    let way = Authorized { client: server, credentials: credentials.clone() };
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let outcome = runtime.block_on(way.send(Bytes::new()));
    (outcome, way.client.received.into_inner().unwrap())
}

fn server(right: &'static str) -> FakeServer {
    FakeServer { right, rotates: None, received: Mutex::default() }
}

#[test]
fn a_configured_token_is_sent_and_not_debug_printed() {
    let token = resolve("open-sesame", Path::new(""), Path::new("")).unwrap();
    assert!(!format!("{token:?}").contains("sesame"), "{token:?}");
    let (outcome, received) = send(server("Bearer open-sesame"), &token);
    assert!(matches!(outcome, Outcome::Accepted { .. }), "{outcome:?}");
    assert_eq!(received, ["Bearer open-sesame"]);
    let nothing = resolve("", Path::new(""), Path::new("")).unwrap();
    assert_eq!(send(server(""), &nothing).1, [""]);
}

#[test]
fn a_file_is_read_before_each_request_and_again_after_a_refusal() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let path = file.path().to_path_buf();
    let token = resolve("", &path, Path::new("")).unwrap();
    for (inside, right) in [("one\n", "Bearer one"), ("two", "Bearer two")] {
        std::fs::write(&path, inside).unwrap();
        assert!(matches!(send(server(right), &token).0, Outcome::Accepted { .. }), "{right}");
    }
    // Rotated while a request with the old one was in flight.
    let meanwhile = FakeServer { rotates: Some((path.clone(), "three")), ..server("Bearer three") };
    let (outcome, received) = send(meanwhile, &token);
    assert!(matches!(outcome, Outcome::Accepted { .. }), "{outcome:?}");
    assert_eq!(received, ["Bearer two", "Bearer three"]);
    let (outcome, received) = send(server("Bearer four"), &token);
    assert_eq!((outcome, received.len()), (Outcome::Refused { cause: "401 Unauthorized".to_owned() }, 1));
    for inside in ["", "two words"] {
        std::fs::write(&path, inside).unwrap();
        let (outcome, received) = send(server(""), &token);
        let Outcome::Unreached { cause, problem: Problem::Credentials } = outcome else {
            panic!("{outcome:?}")
        };
        assert!(
            cause.starts_with("plugins.otlp.bearer_token_file: /") && !cause.contains("words"),
            "{cause}"
        );
        assert_eq!(received.len(), 0, "nothing is sent without the token");
    }
    drop(file);
    let (outcome, _) = send(server(""), &token);
    assert!(matches!(outcome, Outcome::Unreached { cause, .. } if cause.contains("No such file")));
}

#[test]
fn an_invalid_token_is_refused_by_its_key_and_not_shown() {
    for (token, file, key) in
        [("two words", "", "bearer_token: "), ("a", "/b", "bearer_token_file: "), ("é", "", "bearer_token: ")]
    {
        let error = resolve(token, Path::new(file), Path::new("")).unwrap_err().to_string();
        assert!(error.starts_with(&format!("plugins.otlp.{key}")) && !error.contains("words"), "{error}");
    }
}

#[test]
fn headers_of_a_file_are_read_before_each_request_and_again_after_a_refusal() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("headers");
    let credentials = resolve("", Path::new(""), &path).unwrap();
    let (outcome, _) = send(server("one"), &credentials);
    let Outcome::Unreached { cause, problem: Problem::Credentials } = outcome else { panic!("{outcome:?}") };
    assert!(cause.starts_with("plugins.otlp.headers_file: /"), "{cause}");
    std::fs::write(&path, "api-key: one\n").unwrap();
    assert_eq!(send(server("one"), &credentials).1, ["one"]);
    let meanwhile = FakeServer { rotates: Some((path, "api-key: two\n")), ..server("two") };
    assert_eq!(send(meanwhile, &credentials).1, ["one", "two"]);
}
