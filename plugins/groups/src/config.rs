//! The keys of `[plugins.groups]`.

use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use wattrace_api::{ConsumerKind, Error};

/// `[plugins.groups]`
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct GroupsConfig {
    /// What processes are summed into; each level sums to all processes. `cgroup` and `tree` are off by
    /// default: there are about as many of them as there are processes and services together, and who wants
    /// them has them in the processes' own attributes.
    pub levels: Vec<Level>,
    /// How long a group whose last process has ended is kept, in case another process comes: a user or a job
    /// between two short processes goes on as the same series.
    #[serde(with = "humantime_serde")]
    pub linger: Duration,
    /// Ask for names: of containers, pods and users. Without, everything goes by its id.
    pub names: bool,
    /// Unix sockets on which a container engine answers Docker's API: Docker's, Podman's. Those that are not
    /// there are left alone.
    pub engines: Vec<PathBuf>,
    /// Who tells the names of Kubernetes' pods. Asked only when a pod is there.
    pub kubernetes: Kubernetes,
    /// This node's kubelet.
    pub kubelet_url: String,
    /// Do not check the kubelet's certificate, which is self-signed on many clusters. Whoever can take the
    /// kubelet's place then gets to see the service account's token.
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
    /// Labels of pods to take over as `k8s.pod.label.<name>`; a `*` at the end stands for anything.
    pub pod_labels: Vec<String>,
}

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

/// A way of grouping all processes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// The cgroup a process is in.
    Cgroup,
    /// The systemd unit.
    Unit,
    /// The container.
    Container,
    /// The Kubernetes pod.
    Pod,
    /// The batch job.
    Job,
    /// The virtual machine.
    Machine,
    /// The user by whose rights it acts.
    User,
    /// Its oldest living ancestor below init, with all that descends from it.
    Tree,
}

/// How many levels there can be.
pub(crate) const MOST_LEVELS: usize = 8;

impl Level {
    /// What its groups are.
    pub(crate) fn kind(self) -> ConsumerKind {
        match self {
            Level::Cgroup => ConsumerKind::Cgroup,
            Level::Unit => ConsumerKind::Unit,
            Level::Container => ConsumerKind::Container,
            Level::Pod => ConsumerKind::Pod,
            Level::Job => ConsumerKind::Job,
            Level::Machine => ConsumerKind::Machine,
            Level::User => ConsumerKind::User,
            Level::Tree => ConsumerKind::Tree,
        }
    }
}

/// Who tells the names of pods.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kubernetes {
    /// The kubelet or, if it does not answer, the API server.
    Auto,
    /// The kubelet only.
    Kubelet,
    /// The API server only.
    Api,
    /// Nobody: pods go by their uid.
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
            if let Err(why) = crate::names::Url::parse(url) {
                return refuse(key, format!("\"{url}\" {why}; an example is https://10.0.0.1:10250"));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str) -> Result<(), String> {
        toml::from_str::<GroupsConfig>(text).unwrap().check().map_err(|e| e.to_string())
    }

    #[test]
    fn what_makes_no_sense_is_refused_by_its_key() {
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
}
