//! Names, namespaces and labels of pods, and names and images of their containers, from this node's kubelet
//! or from the API server. Both answer with a list of pods (`pods.rs` parses it); the whole list is kept, so
//! that one request answers many lookups.

use std::path::Path;
use std::time::Duration;

use hyper::body::Bytes;
use hyper::header::{ACCEPT, AUTHORIZATION, HeaderValue};
use hyper::{Request, StatusCode};
use tracing::debug;
use wattrace_api::{Finding, Verdict, files, privilege};
use wattrace_http::{Client, ClientTls, Error, Limits, Trust};

use super::lookup::{Answer, Subject};
use super::pods::Pods;
use super::resolver::Resolver;
use crate::config::{self, GroupsConfig, Kubernetes};

/// More than the pods of any node take.
const LIMITS: Limits = Limits { time: Duration::from_secs(10), bytes: 128 << 20 };

/// Kubernetes, as this node sees it.
pub(crate) struct Kube {
    config: GroupsConfig,
    pods: Pods,
}

/// A server that lists pods.
#[derive(Debug)]
struct Server {
    /// The configuration key of its URL.
    key: &'static str,
    /// Of the list.
    url: String,
    trust: Trust,
}

impl Kube {
    pub(crate) fn new(config: &GroupsConfig) -> Self {
        Self { pods: Pods::new(config.pod_labels.clone()), config: config.clone() }
    }

    async fn fetch(&mut self) -> Result<(), String> {
        let mut failures = Vec::new();
        for server in servers(&self.config)? {
            match list(&server, &self.config).await.and_then(|text| self.pods.read(&text)) {
                Ok(()) => return Ok(()),
                Err(why) => failures.push(format!("plugins.groups.{}: {why}", server.key)),
            }
        }
        Err(failures.join("; "))
    }
}

impl Resolver for Kube {
    const NAMES: &'static str = "names of pods";

    async fn resolve(&mut self, wanted: &[Subject]) -> Result<Vec<Answer>, String> {
        if wanted.iter().any(|subject| self.pods.find(subject).is_none()) {
            self.fetch().await?;
        }
        Ok(wanted.iter().filter_map(|subject| self.pods.find(subject)).collect())
    }
}

/// The servers to ask, in this order.
fn servers(config: &GroupsConfig) -> Result<Vec<Server>, String> {
    let mut servers = Vec::new();
    let authority = Trust::Authority(config.ca_file.clone());
    if matches!(config.kubernetes, Kubernetes::Auto | Kubernetes::Kubelet) {
        let url = format!("{}/pods", config::server(&config.kubelet_url)?);
        let trust = if config.kubelet_insecure { Trust::Anyone } else { authority.clone() };
        servers.push(Server { key: "kubelet_url", url, trust });
    }
    if matches!(config.kubernetes, Kubernetes::Auto | Kubernetes::Api)
        && let Some(url) = api_url(config)
    {
        let url = config::server(&url).map_err(|why| format!("{url} {why}"))?;
        // resourceVersion=0: from the server's cache, without a read of its database.
        let query = format!("fieldSelector=spec.nodeName%3D{}&resourceVersion=0", node(config)?);
        servers.push(Server { key: "api_url", url: format!("{url}/api/v1/pods?{query}"), trust: authority });
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
    // The environment of a user to whom the executable's file gives rights names no server.
    let host = std::env::var("KUBERNETES_SERVICE_HOST").ok().filter(|_| !privilege::is_limited())?;
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
        .ok_or_else(|| format!("plugins.groups.node: \"{node}\" is not the name of a node"))
}

/// A longer file holds no token.
const MAX_TOKEN: u64 = 1 << 16;

async fn list(server: &Server, config: &GroupsConfig) -> Result<Vec<u8>, String> {
    let is_tls = server.url.starts_with("https://");
    // Token and authority are replaced from time to time, so they are read for each request.
    let token = match files::read_text(&config.token_file, MAX_TOKEN) {
        Ok(token) => Some(authorization(token.trim())?),
        // The kubelet's read-only port needs none.
        Err(_) if !is_tls => None,
        Err(e) => return Err(format!("token_file: {}: {e}", config.token_file.display())),
    };
    let tls = ClientTls { trust: server.trust.clone(), identity: None };
    let tls = is_tls.then(|| tls.config(&[])).transpose().map_err(|e| format!("ca_file: {e}"))?;
    let mut request = Request::get(&server.url).header(ACCEPT, "application/json");
    if let Some(token) = token {
        request = request.header(AUTHORIZATION, token);
    }
    let request = request.body(Bytes::new()).map_err(|e| e.to_string())?;
    let answer = Client::new(tls, LIMITS).send(request).await.map_err(|e| match e {
        Error::Tls(why) => {
            format!("{}: {why}; see kubelet_insecure for a kubelet's own certificate", server.url)
        }
        e => format!("{}: {e}", server.url),
    })?;
    debug!("{}: {}", server.url, answer.status);
    match answer.status {
        StatusCode::OK => answer.body.map(Into::into).map_err(|e| e.to_string()),
        status @ (StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN) => Err(format!(
            "HTTP status {status}: the service account lacks rights; it needs get on nodes/pods (kubelet; \
             before 1.33 on nodes/proxy) or list on pods (API)"
        )),
        status => Err(format!("HTTP status {status}")),
    }
}

fn authorization(token: &str) -> Result<HeaderValue, String> {
    let mut value = HeaderValue::try_from(format!("Bearer {token}"))
        .map_err(|_| "token_file: does not hold a token".to_owned())?;
    value.set_sensitive(true);
    Ok(value)
}

/// Whether pods can be named, on a machine that has pods.
pub(crate) fn diagnose(config: &GroupsConfig) -> Option<Finding> {
    let kubelet = Path::new("/var/lib/kubelet");
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
