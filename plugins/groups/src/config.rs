//! The keys of `[plugins.groups]`.

use std::path::PathBuf;
use std::time::Duration;

use hyper::Uri;
use serde::{Deserialize, Serialize};
use wattrace_api::Error;

use crate::level::Level;

/// `[plugins.groups]`
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct GroupsConfig {
    /// What processes are summed into; each level sums to all processes. `cgroup` and `tree` are off by
    /// default: there are about as many of them as processes and services together, and each process carries
    /// its own in its attributes.
    pub levels: Vec<Level>,
    /// How long a group is kept after its last process has ended, in case another process comes: a user or a
    /// job between two short processes continues as the same series.
    #[serde(with = "humantime_serde")]
    pub linger: Duration,
    /// Look up names: of containers, pods and users. Without names everything is shown by its id.
    pub names: bool,
    /// Unix sockets of container engines that speak Docker's API: Docker's, Podman's. Sockets that do not
    /// exist are ignored.
    pub engines: Vec<PathBuf>,
    /// Where the names of Kubernetes pods come from. Used only if there is a pod.
    pub kubernetes: Kubernetes,
    /// This node's kubelet.
    pub kubelet_url: String,
    /// Do not check the kubelet's certificate, which is self-signed on many clusters. Anyone who can take the
    /// kubelet's place then sees the service account's token.
    pub kubelet_insecure: bool,
    /// The API server. Empty: what the variables KUBERNETES_SERVICE_HOST and _PORT say, as they do in every
    /// pod.
    pub api_url: String,
    /// This node's name. Empty: what the variable NODE_NAME says, else the host's name.
    pub node: String,
    /// The service account's token.
    pub token_file: PathBuf,
    /// The authority that signed the API server's and the kubelet's certificates.
    pub ca_file: PathBuf,
    /// Labels of pods to take over as `k8s.pod.label.<name>`; a `*` at the end matches anything.
    pub pod_labels: Vec<String>,
}

/// Those that say whom to ask for names, and with which credentials.
pub(crate) const NETWORK_KEYS: [&str; 8] =
    ["engines", "kubernetes", "kubelet_url", "kubelet_insecure", "api_url", "node", "token_file", "ca_file"];

impl Default for GroupsConfig {
    fn default() -> Self {
        let account = PathBuf::from("/var/run/secrets/kubernetes.io/serviceaccount");
        Self {
            levels: vec![Level::Container, Level::Pod, Level::Unit, Level::Job, Level::Machine, Level::User],
            linger: Duration::from_secs(10),
            names: true,
            engines: vec!["/run/docker.sock".into(), "/run/podman/podman.sock".into()],
            kubernetes: Kubernetes::Auto,
            kubelet_url: "https://127.0.0.1:10250".to_owned(),
            kubelet_insecure: false,
            api_url: String::new(),
            node: String::new(),
            token_file: account.join("token"),
            ca_file: account.join("ca.crt"),
            pod_labels: vec!["*".to_owned()],
        }
    }
}

/// Where the names of pods come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kubernetes {
    /// The kubelet or, if it does not answer, the API server.
    Auto,
    /// The kubelet only.
    Kubelet,
    /// The API server only.
    Api,
    /// Nowhere: pods are shown by their uid.
    Off,
}

impl GroupsConfig {
    /// # Errors
    /// Fatal, if a value makes no sense; the message names the key.
    pub(crate) fn check(&self) -> Result<(), Error> {
        let refuse = |key: &str, why: String| Err(Error::fatal(format!("plugins.groups.{key}: {why}")));
        for (n, level) in self.levels.iter().enumerate() {
            if self.levels[..n].contains(level) {
                return refuse("levels", format!("\"{}\" is there twice", level.kind().as_str()));
            }
        }
        for (key, url) in [("kubelet_url", &self.kubelet_url), ("api_url", &self.api_url)] {
            let may_be_empty =
                key == "api_url" || matches!(self.kubernetes, Kubernetes::Api | Kubernetes::Off);
            if url.is_empty() && may_be_empty {
                continue;
            }
            if let Err(why) = server(url) {
                return refuse(key, format!("\"{url}\" {why}; an example is https://10.0.0.1:10250"));
            }
        }
        Ok(())
    }
}

/// Checks the URL of a server: `http://host:port` or `https://host:port`, without a path. Returns it without
/// a slash at the end.
///
/// # Errors
/// What is wrong with it.
pub(crate) fn server(url: &str) -> Result<&str, String> {
    let uri: Uri = url.parse().map_err(|e| format!("is no URL: {e}"))?;
    if !matches!(uri.scheme_str(), Some("http" | "https")) {
        return Err("begins with neither http:// nor https://".to_owned());
    }
    if !matches!(uri.path(), "" | "/") || uri.query().is_some() {
        return Err("has a path; give only scheme, host and port".to_owned());
    }
    Ok(url.trim_end_matches('/'))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str) -> Result<(), String> {
        toml::from_str::<GroupsConfig>(text).unwrap().check().map_err(|e| e.to_string())
    }

    #[test]
    fn values_that_make_no_sense_are_refused_by_their_key() {
        check("").unwrap();
        check("kubelet_url = ''\nkubernetes = 'off'").unwrap();
        for (text, expected) in [
            ("levels = ['user', 'pod', 'user']", "plugins.groups.levels: \"user\" is there twice"),
            ("kubelet_url = ''", "plugins.groups.kubelet_url: \"\""),
            ("api_url = 'ftp://x'", "plugins.groups.api_url: \"ftp://x\""),
        ] {
            let error = check(text).unwrap_err();
            assert!(error.starts_with(expected), "{error}");
        }
        let unknown = toml::from_str::<GroupsConfig>("levels = ['vm']").unwrap_err().to_string();
        assert!(unknown.contains("`machine`"), "{unknown}");
    }

    #[test]
    fn a_server_is_a_scheme_a_host_and_a_port() {
        for url in ["https://10.0.0.1:10250", "http://kube", "https://[::1]:6443"] {
            assert_eq!((server(url), server(&format!("{url}/"))), (Ok(url), Ok(url)));
        }
        for url in ["", "kube:1", "ftp://x", "https://x/pods", "https://x y", "https://x?y"] {
            assert!(server(url).is_err(), "{url}");
        }
    }
}
