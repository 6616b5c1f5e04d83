//! Names and images of containers, from the sockets of container engines: Docker, and Podman, which speaks
//! the same API.

use std::io::ErrorKind;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use hyper::body::Bytes;
use hyper::{Request, StatusCode};
use serde::Deserialize;
use wattrace_api::{Attribute, Finding, Verdict};
use wattrace_http::{Client, Error, Limits};

use super::lookup::{Answer, Subject};
use super::resolver::Resolver;
use crate::level::Level;

/// More than any engine says about a container.
const LIMITS: Limits = Limits { time: Duration::from_secs(10), bytes: 4 << 20 };

/// The engines.
pub(crate) struct Engines(Vec<Engine>);

struct Engine {
    socket: PathBuf,
    client: Client,
}

/// The part that is used of the answer to `/containers/<id>/json`.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct Inspected {
    #[serde(default)]
    id: String,
    #[serde(default)]
    name: String,
    #[serde(default)]
    config: InspectedConfig,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct InspectedConfig {
    #[serde(default)]
    image: String,
}

impl Engines {
    pub(crate) fn new(sockets: &[PathBuf]) -> Self {
        let engine = |socket: &PathBuf| Engine {
            socket: socket.clone(),
            client: Client::unix(socket.clone(), LIMITS),
        };
        Self(sockets.iter().map(engine).collect())
    }

    /// The id of the container that the first engine knows under `name`; `None`: no engine knows it.
    pub(crate) async fn id_of(&self, name: &str) -> Result<Option<String>, String> {
        // Nothing else is a name, and it must not get into a path.
        let is_name = |b: u8| b.is_ascii_alphanumeric() || b"_.-".contains(&b);
        if name.is_empty() || name.starts_with('.') || !name.bytes().all(is_name) {
            return Ok(None);
        }
        let inspected = self.inspect(name).await?;
        Ok(inspected.map(|inspected| inspected.id).filter(|id| !id.is_empty()))
    }

    /// The answer of the first engine that knows the container; `None`: no engine knows it.
    async fn inspect(&self, id: &str) -> Result<Option<Inspected>, String> {
        let mut failure = None;
        for engine in &self.0 {
            match engine.inspect(id).await {
                Ok(Some(inspected)) => return Ok(Some(inspected)),
                Ok(None) => {}
                Err(why) => {
                    failure = Some(format!("plugins.groups.engines: {}: {why}", engine.socket.display()))
                }
            }
        }
        failure.map_or(Ok(None), Err)
    }
}

impl Resolver for Engines {
    const NAMES: &'static str = "names of containers";

    async fn resolve(&mut self, wanted: &[Subject]) -> Result<Vec<Answer>, String> {
        let (mut answers, mut failure) = (Vec::new(), None);
        for subject in wanted {
            // Engines' ids are hexadecimal; anything else must not get into a path.
            let Subject::Container { id, .. } = subject else { continue };
            if !id.bytes().all(|b| b.is_ascii_hexdigit()) {
                continue;
            }
            match self.inspect(id).await {
                Ok(Some(inspected)) => answers.push(named(id, &inspected)),
                Ok(None) => {}
                Err(why) => failure = Some(why),
            }
        }
        // One engine's answers count even if another one fails.
        if answers.is_empty() { failure.map_or(Ok(answers), Err) } else { Ok(answers) }
    }
}

impl Engine {
    /// `None`: it does not know the container, or there is no engine at this socket.
    async fn inspect(&self, id: &str) -> Result<Option<Inspected>, String> {
        let request = Request::get(format!("http://localhost/containers/{id}/json"));
        let request = request.body(Bytes::new()).map_err(|e| e.to_string())?;
        let answer = match self.client.send(request).await {
            Ok(answer) => answer,
            // An engine that is not installed or not running is a state, not an error.
            Err(Error::Connect(e))
                if matches!(e.kind(), ErrorKind::NotFound | ErrorKind::ConnectionRefused) =>
            {
                return Ok(None);
            }
            Err(Error::Connect(e)) => return Err(format!("{e}; let the agent's user open it")),
            Err(e) => return Err(e.to_string()),
        };
        match answer.status {
            StatusCode::OK => parse(&answer.body.map_err(|e| e.to_string())?).map(Some),
            StatusCode::NOT_FOUND => Ok(None),
            other => Err(format!("HTTP status {other}")),
        }
    }
}

/// Parses an engine's answer about a container.
///
/// # Errors
/// It is something else.
pub(crate) fn parse(body: &[u8]) -> Result<Inspected, String> {
    serde_json::from_slice(body).map_err(|e| format!("{e}: this is not Docker's API"))
}

pub(crate) fn named(id: &Arc<str>, inspected: &Inspected) -> Answer {
    let mut names = Vec::new();
    let name = inspected.name.trim_start_matches('/');
    if !name.is_empty() {
        names.push(Attribute::new("container.name", name));
    }
    names.extend(image(&inspected.config.image));
    Answer { level: Level::Container, key: id.clone(), of_group: Vec::new(), of_processes: names }
}

/// Splits `registry:5000/nginx:1.27@sha256:…` into the name, without tag and digest, and the tag. An image
/// without a name has only its id, `sha256:…`.
pub(crate) fn image(reference: &str) -> Vec<Attribute> {
    if reference.starts_with("sha256:") {
        return vec![Attribute::new("container.image.id", reference)];
    }
    let reference = reference.split('@').next().unwrap_or_default();
    let (name, tag) = match reference.rsplit_once(':') {
        // A colon before a slash separates a port.
        Some((name, tag)) if !tag.contains('/') => (name, Some(tag)),
        _ => (reference, None),
    };
    let name = (!name.is_empty()).then(|| Attribute::new("container.image.name", name));
    name.into_iter().chain(tag.map(|tag| Attribute::new("container.image.tag", tag))).collect()
}

/// Whether the engines that exist answer.
pub(crate) fn diagnose(sockets: &[PathBuf]) -> Vec<Finding> {
    let finding = |socket: &PathBuf| {
        let what = format!("names of containers from {}", socket.display());
        match std::os::unix::net::UnixStream::connect(socket) {
            Ok(_) => {
                let found = "it listens".to_owned();
                Some(Finding { what, verdict: Verdict::Ok, found, remedy: String::new() })
            }
            // Without an engine there are no containers to name.
            Err(e) if e.kind() == ErrorKind::NotFound => None,
            Err(e) => {
                let socket = socket.display();
                let remedy = match e.kind() {
                    ErrorKind::PermissionDenied => format!("sudo setfacl -m u:wattrace:rw {socket}"),
                    _ => format!("start the engine that listens on {socket}"),
                };
                Some(Finding { what, verdict: Verdict::Optional, found: e.to_string(), remedy })
            }
        }
    };
    sockets.iter().filter_map(finding).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_image_is_split_into_name_and_tag() {
        for (reference, name, tag) in [
            ("nginx", "nginx", ""),
            ("docker.io/library/nginx:1.27", "docker.io/library/nginx", "1.27"),
            ("registry:5000/nginx", "registry:5000/nginx", ""),
            ("registry:5000/nginx:1@sha256:ab12", "registry:5000/nginx", "1"),
            ("nginx@sha256:ab12", "nginx", ""),
            ("sha256:ab12", "sha256:ab12", ""),
        ] {
            let values: Vec<_> = image(reference).iter().map(|a| a.value.to_string()).collect();
            assert_eq!(values.join(" ").trim(), format!("{name} {tag}").trim(), "{reference}");
        }
        assert_eq!(image("sha256:ab12")[0].key, "container.image.id");
        assert!(image("").is_empty());
    }
}
