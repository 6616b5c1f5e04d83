//! Pods' names, namespaces and labels, and their containers' names and images, from this node's kubelet or
//! from the API server. Both answer with a list of pods (`pods.rs` reads it); the whole list is kept, so that
//! one answer serves many questions.

use std::path::PathBuf;
use std::sync::Arc;

use hyper::StatusCode;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tracing::debug;
use wattrace_api::{Finding, Verdict};

use super::asker::Oracle;
use super::http::{self, PATIENCE, Url};
use super::pods::Pods;
use super::{Answer, Subject, tls};
use crate::config::{GroupsConfig, Kubernetes};

/// More than any node's pods take.
const LIMIT: usize = 128 << 20;

/// Kubernetes, as one node sees it.
pub(crate) struct Kube {
    config: GroupsConfig,
    pods: Pods,
}

/// Somebody who lists pods.
#[derive(Debug)]
struct Server {
    key: &'static str,
    url: Url,
    path: String,
    is_trusted_blindly: bool,
}

impl Kube {
    pub(crate) fn new(config: &GroupsConfig) -> Self {
        Self { pods: Pods::new(config.pod_labels.clone()), config: config.clone() }
    }

    async fn fetch(&mut self) -> Result<(), String> {
        let mut trouble = Vec::new();
        for server in servers(&self.config)? {
            match list(&server, &self.config).await.and_then(|text| self.pods.read(&text)) {
                Ok(()) => return Ok(()),
                Err(why) => trouble.push(format!("plugins.groups.{}: {why}", server.key)),
            }
        }
        Err(trouble.join("; "))
    }
}

impl Oracle for Kube {
    const NAMES: &'static str = "names of pods";

    async fn answer(&mut self, wanted: &[Subject]) -> Result<Vec<Answer>, String> {
        if wanted.iter().any(|subject| self.pods.find(subject).is_none()) {
            self.fetch().await?;
        }
        Ok(wanted.iter().filter_map(|subject| self.pods.find(subject)).collect())
    }
}

/// Whom to ask, in this order.
fn servers(config: &GroupsConfig) -> Result<Vec<Server>, String> {
    let mut servers = Vec::new();
    if matches!(config.kubernetes, Kubernetes::Auto | Kubernetes::Kubelet) {
        let url = Url::parse(&config.kubelet_url)?;
        let is_trusted_blindly = config.kubelet_insecure;
        servers.push(Server { key: "kubelet_url", url, path: "/pods".to_owned(), is_trusted_blindly });
    }
    if matches!(config.kubernetes, Kubernetes::Auto | Kubernetes::Api)
        && let Some(url) = api_url(config)
    {
        let url = Url::parse(&url).map_err(|why| format!("{url} {why}"))?;
        // Version 0: as the server has it in memory, which costs its database nothing.
        let path = format!("/api/v1/pods?fieldSelector=spec.nodeName%3D{}&resourceVersion=0", node(config)?);
        servers.push(Server { key: "api_url", url, path, is_trusted_blindly: false });
    }
    match servers.is_empty() {
        true => Err("plugins.groups.api_url: is empty, and KUBERNETES_SERVICE_HOST is not set".to_owned()),
        false => Ok(servers),
    }
}

fn api_url(config: &GroupsConfig) -> Option<String> {
    if !config.api_url.is_empty() {
        return Some(config.api_url.clone());
    }
    let host = std::env::var("KUBERNETES_SERVICE_HOST").ok()?;
    let port = std::env::var("KUBERNETES_SERVICE_PORT").unwrap_or_else(|_| "443".to_owned());
    Some(if host.contains(':') {
        format!("https://[{host}]:{port}")
    } else {
        format!("https://{host}:{port}")
    })
}

fn node(config: &GroupsConfig) -> Result<String, String> {
    let host_name = || std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let given = Some(config.node.clone()).filter(|name| !name.is_empty());
    let node =
        given.or_else(|| std::env::var("NODE_NAME").ok()).unwrap_or_else(host_name).trim().to_lowercase();
    let is_name = !node.is_empty() && node.bytes().all(|b| b.is_ascii_alphanumeric() || b"-.".contains(&b));
    is_name
        .then_some(node.clone())
        .ok_or_else(|| format!("plugins.groups.node: \"{node}\" is no node's name"))
}

async fn list(server: &Server, config: &GroupsConfig) -> Result<Vec<u8>, String> {
    let place = |path: &PathBuf, e: std::io::Error| format!("{}: {e}", path.display());
    // Both files are replaced from time to time.
    let token = match tokio::fs::read_to_string(&config.token_file).await {
        Ok(token) => Some(token.trim().to_owned()),
        // The kubelet's port for reading only wants none.
        Err(_) if !server.url.is_tls => None,
        Err(e) => return Err(format!("token_file: {}", place(&config.token_file, e))),
    };
    let (host, port) = (&*server.url.host, server.url.port);
    let connect = timeout(PATIENCE, TcpStream::connect((host, port))).await;
    let stream = connect.map_err(|_| format!("{host}:{port}: no connection in {PATIENCE:?}"))?;
    let stream = stream.map_err(|e| format!("{host}:{port}: {e}"))?;
    if !server.url.is_tls {
        return ask(stream, server, token.as_deref()).await;
    }
    let trust = if server.is_trusted_blindly {
        tls::blindly()?
    } else {
        let authority = tokio::fs::read(&config.ca_file).await;
        tls::by(&authority.map_err(|e| format!("ca_file: {}", place(&config.ca_file, e)))?)?
    };
    let name = ServerName::try_from(host.to_owned()).map_err(|e| format!("{host}: {e}"))?;
    let handshake = timeout(PATIENCE, TlsConnector::from(Arc::new(trust)).connect(name, stream)).await;
    let stream = handshake.map_err(|_| format!("{host}:{port}: no handshake in {PATIENCE:?}"))?;
    let stream = stream
        .map_err(|e| format!("{host}:{port}: {e}; see kubelet_insecure for a kubelet's own certificate"))?;
    ask(stream, server, token.as_deref()).await
}

async fn ask(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    server: &Server,
    token: Option<&str>,
) -> Result<Vec<u8>, String> {
    let (status, body) = http::get(stream, &server.url.host, &server.path, token, LIMIT).await?;
    debug!("{}{}: {status}, {} bytes", server.url.host, server.path, body.len());
    match status {
        StatusCode::OK => Ok(body.to_vec()),
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => Err(format!(
            "HTTP status {status}: the service account may not; it needs get on nodes/pods (kubelet; before 1.33 on nodes/proxy) or list on pods (API)"
        )),
        _ => Err(format!("HTTP status {status}")),
    }
}

/// Looks whether pods can be named, where there are pods.
pub(crate) fn diagnose(config: &GroupsConfig) -> Option<Finding> {
    let kubelet = std::path::Path::new("/var/lib/kubelet");
    let is_node = kubelet.exists() || std::env::var_os("KUBERNETES_SERVICE_HOST").is_some();
    let what = "names of Kubernetes pods".to_owned();
    is_node.then(|| match std::fs::metadata(&config.token_file) {
        Ok(_) => {
            let found = format!("token in {}", config.token_file.display());
            Finding { what, verdict: Verdict::Ok, found, remedy: String::new() }
        }
        Err(e) => Finding {
            what,
            verdict: Verdict::Optional,
            found: format!("{}: {e}", config.token_file.display()),
            remedy:
                "run the agent as a pod with a service account, or name plugins.groups.token_file and ca_file"
                    .to_owned(),
        },
    })
}
