//! Containers' names and images, from the engines' sockets: Docker, and Podman, which answers the same API.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use hyper::StatusCode;
use serde::Deserialize;
use tokio::net::UnixStream;
use wattrace_api::{Attribute, Finding, Verdict};

use super::asker::Oracle;
use super::{Answer, Subject, http};
use crate::config::Level;

/// More than any engine says of a container.
const LIMIT: usize = 4 << 20;

/// The engines, by their sockets.
pub(crate) struct Engines {
    sockets: Vec<PathBuf>,
}

/// What we read of `/containers/<id>/json`.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct Inspected {
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
    pub(crate) fn new(sockets: Vec<PathBuf>) -> Self {
        Self { sockets }
    }

    /// What the first engine that knows the container says; `None`: none knows it.
    async fn inspect(&self, id: &str) -> Result<Option<Inspected>, String> {
        let mut trouble = None;
        for socket in &self.sockets {
            match inspect(socket, id).await {
                Ok(Some(inspected)) => return Ok(Some(inspected)),
                Ok(None) => {}
                Err(why) => trouble = Some(format!("plugins.groups.engines: {}: {why}", socket.display())),
            }
        }
        trouble.map_or(Ok(None), Err)
    }
}

impl Oracle for Engines {
    const NAMES: &'static str = "names of containers";

    async fn answer(&mut self, wanted: &[Subject]) -> Result<Vec<Answer>, String> {
        let (mut answers, mut trouble) = (Vec::new(), None);
        for subject in wanted {
            // Only an engine's own ids have a place in a path of its API.
            let Subject::Container { id, .. } = subject else { continue };
            if !id.bytes().all(|b| b.is_ascii_hexdigit()) {
                continue;
            }
            match self.inspect(id).await {
                Ok(Some(inspected)) => answers.push(named(id, &inspected)),
                Ok(None) => {}
                Err(why) => trouble = Some(why),
            }
        }
        // What there is comes through, even if another engine is out of order.
        if answers.is_empty() { trouble.map_or(Ok(answers), Err) } else { Ok(answers) }
    }
}

/// `None`: it does not know the container, or there is no such engine.
async fn inspect(socket: &Path, id: &str) -> Result<Option<Inspected>, String> {
    let stream = match UnixStream::connect(socket).await {
        Ok(stream) => stream,
        // No engine, or one that does not run, is a state.
        Err(e) if matches!(e.kind(), ErrorKind::NotFound | ErrorKind::ConnectionRefused) => return Ok(None),
        Err(e) => return Err(format!("{e}; let the agent's user open it")),
    };
    let (status, body) =
        http::get(stream, "localhost", &format!("/containers/{id}/json"), None, LIMIT).await?;
    match status {
        StatusCode::OK => parse(&body).map(Some),
        StatusCode::NOT_FOUND => Ok(None),
        other => Err(format!("HTTP status {other}")),
    }
}

/// What an engine says of a container.
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

/// `registry:5000/nginx:1.27@sha256:…`: the name without tag and digest, and the tag. An image that has no
/// name is told by its id, `sha256:…`.
pub(crate) fn image(reference: &str) -> Vec<Attribute> {
    if reference.starts_with("sha256:") {
        return vec![Attribute::new("container.image.id", reference)];
    }
    let reference = reference.split('@').next().unwrap_or_default();
    let (name, tag) = match reference.rsplit_once(':') {
        // A colon before a slash is a port's.
        Some((name, tag)) if !tag.contains('/') => (name, Some(tag)),
        _ => (reference, None),
    };
    let name = (!name.is_empty()).then(|| Attribute::new("container.image.name", name));
    name.into_iter().chain(tag.map(|tag| Attribute::new("container.image.tag", tag))).collect()
}

/// Looks whether the engines that are there can be asked.
pub(crate) fn diagnose(sockets: &[PathBuf]) -> Vec<Finding> {
    let finding = |socket: &PathBuf| {
        let what = format!("names of containers from {}", socket.display());
        match std::os::unix::net::UnixStream::connect(socket) {
            Ok(_) => {
                let found = "it listens".to_owned();
                Some(Finding { what, verdict: Verdict::Ok, found, remedy: String::new() })
            }
            // Where there is no engine there is nothing to name.
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
    fn an_image_is_cut_into_name_and_tag() {
        for (reference, name, tag) in [
            ("nginx", "nginx", ""),
            ("docker.io/library/nginx:1.27", "docker.io/library/nginx", "1.27"),
            ("registry:5000/nginx", "registry:5000/nginx", ""),
            ("registry:5000/nginx:1@sha256:ab12", "registry:5000/nginx", "1"),
            ("nginx@sha256:ab12", "nginx", ""),
            ("sha256:ab12", "sha256:ab12", ""),
        ] {
            let said: Vec<_> = image(reference).iter().map(|a| a.value.to_string()).collect();
            assert_eq!(said.join(" ").trim(), format!("{name} {tag}").trim(), "{reference}");
        }
        assert_eq!(image("sha256:ab12")[0].key, "container.image.id");
        assert!(image("").is_empty());
    }
}
