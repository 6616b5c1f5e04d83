//! Parses a list of pods, as kubelets and API servers write it, and finds pods and containers in it.
//!
//! These few structs stand for k8s-openapi's `Pod`: see docs/decisions/0005-http-and-clients.md.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use serde::{Deserialize, Deserializer};
use wattrace_api::Attribute;

use super::engine::image;
use super::lookup::{Answer, Subject};
use crate::level::Level;

/// The pods of a node.
#[derive(Debug, Default)]
pub(crate) struct Pods {
    /// The labels to take over.
    labels: Vec<String>,
    pods: HashMap<Arc<str>, Answer>,
    containers: HashMap<Arc<str>, Answer>,
}

#[derive(Deserialize)]
struct List {
    kind: String,
    #[serde(default, deserialize_with = "nullable")]
    items: Vec<Option<Item>>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Item {
    metadata: Metadata,
    spec: Spec,
    status: Status,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Metadata {
    name: String,
    namespace: String,
    uid: String,
    #[serde(deserialize_with = "nullable")]
    labels: BTreeMap<String, String>,
    #[serde(deserialize_with = "nullable")]
    annotations: BTreeMap<String, String>,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Spec {
    node_name: String,
    #[serde(deserialize_with = "nullable")]
    containers: Vec<Container>,
    #[serde(deserialize_with = "nullable")]
    init_containers: Vec<Container>,
    #[serde(deserialize_with = "nullable")]
    ephemeral_containers: Vec<Container>,
}

/// A container, as it was requested.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Container {
    name: String,
    image: String,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Status {
    #[serde(deserialize_with = "nullable")]
    container_statuses: Vec<ContainerStatus>,
    #[serde(deserialize_with = "nullable")]
    init_container_statuses: Vec<ContainerStatus>,
    #[serde(deserialize_with = "nullable")]
    ephemeral_container_statuses: Vec<ContainerStatus>,
}

/// A container, as it is or was.
#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct ContainerStatus {
    name: String,
    image: String,
    /// `containerd://<id>`
    #[serde(rename = "containerID")]
    id: Option<String>,
    /// The previous instance of a container that was restarted.
    #[serde(deserialize_with = "nullable")]
    last_state: LastState,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct LastState {
    terminated: Option<Terminated>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Terminated {
    #[serde(rename = "containerID")]
    id: Option<String>,
}

/// Go writes `null` for what is empty.
fn nullable<'de, D: Deserializer<'de>, T: Default + Deserialize<'de>>(from: D) -> Result<T, D::Error> {
    Option::deserialize(from).map(Option::unwrap_or_default)
}

impl Pods {
    pub(crate) fn new(labels: Vec<String>) -> Self {
        Self { labels, ..Self::default() }
    }

    /// Parses a list, which replaces the previous one.
    ///
    /// # Errors
    /// It is something else; the previous list stays.
    pub(crate) fn read(&mut self, json: &[u8]) -> Result<(), String> {
        let list: List =
            serde_json::from_slice(json).map_err(|e| format!("{e}: this is not a list of pods"))?;
        if list.kind != "PodList" {
            return Err(format!("kind \"{}\": this is not a list of pods", list.kind));
        }
        self.pods.clear();
        self.containers.clear();
        for pod in list.items.into_iter().flatten() {
            let of_pod = named(&pod);
            for container in pod.status.all() {
                let mut names = of_pod.clone();
                names.push(Attribute::new("k8s.container.name", &*container.name));
                names.extend(image(pod.spec.image(container)));
                for id in container.ids() {
                    let key: Arc<str> = id.into();
                    let answer = Answer {
                        level: Level::Container,
                        key: key.clone(),
                        of_group: Vec::new(),
                        of_processes: names.clone(),
                    };
                    self.containers.insert(key, answer);
                }
            }
            let is_wanted = |label: &str| self.labels.iter().any(|wanted| matches(wanted, label));
            let labels = pod.metadata.labels.iter().filter(|(label, _)| is_wanted(label));
            let of_group: Vec<_> = labels
                .map(|(label, value)| Attribute::new(format!("k8s.pod.label.{label}"), &**value))
                .collect();
            // The cgroup of a static pod has the hash of its file. The API server shows its mirror, whose uid
            // differs.
            let hash = pod.metadata.annotations.get("kubernetes.io/config.hash");
            for uid in hash.into_iter().chain([&pod.metadata.uid]).filter(|uid| !uid.is_empty()) {
                let (key, of_processes): (Arc<str>, _) = (uid.as_str().into(), of_pod.clone());
                let answer =
                    Answer { level: Level::Pod, key: key.clone(), of_group: of_group.clone(), of_processes };
                self.pods.insert(key, answer);
            }
        }
        Ok(())
    }

    /// The names of a pod or container, if it is in the list.
    pub(crate) fn find(&self, subject: &Subject) -> Option<Answer> {
        match subject {
            Subject::Pod { uid } => self.pods.get(uid).cloned(),
            Subject::Container { id, .. } => self.containers.get(id).cloned(),
            Subject::User(_) => None,
        }
    }
}

impl Spec {
    /// The image of a container. Where the runtime knows only its digest: as it was requested.
    fn image<'a>(&'a self, container: &'a ContainerStatus) -> &'a str {
        if !container.image.is_empty() && !container.image.starts_with("sha256:") {
            return &container.image;
        }
        let all = [&self.containers, &self.init_containers, &self.ephemeral_containers];
        let wanted = all.into_iter().flatten().find(|wanted| wanted.name == container.name);
        wanted.map_or("", |wanted| &wanted.image)
    }
}

impl Status {
    fn all(&self) -> impl Iterator<Item = &ContainerStatus> {
        let all =
            [&self.container_statuses, &self.init_container_statuses, &self.ephemeral_container_statuses];
        all.into_iter().flatten()
    }
}

impl ContainerStatus {
    /// Its id and that of the previous instance: a container that crashes at once has been replaced by the
    /// time of the request.
    fn ids(&self) -> impl Iterator<Item = &str> {
        let before = self.last_state.terminated.as_ref().and_then(|terminated| terminated.id.as_deref());
        let all = before.into_iter().chain(self.id.as_deref());
        all.filter_map(|id| id.split_once("://")).map(|(_, id)| id).filter(|id| !id.is_empty())
    }
}

/// The attributes of each process of a pod.
fn named(pod: &Item) -> Vec<Attribute> {
    let names = [
        ("k8s.pod.name", &pod.metadata.name),
        ("k8s.namespace.name", &pod.metadata.namespace),
        ("k8s.node.name", &pod.spec.node_name),
    ];
    names
        .into_iter()
        .filter(|(_, name)| !name.is_empty())
        .map(|(key, name)| Attribute::new(key, &**name))
        .collect()
}

/// Whether `wanted`, which may end in `*`, matches `label`.
fn matches(wanted: &str, label: &str) -> bool {
    match wanted.strip_suffix('*') {
        Some(beginning) => label.starts_with(beginning),
        None => wanted == label,
    }
}

#[cfg(test)]
mod tests;
