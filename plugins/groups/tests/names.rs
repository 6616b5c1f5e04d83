//! Names from a kubelet, an API server and a container engine: servers of the tests, over TLS and a unix
//! socket, with answers in the form of real ones (`data/README.md`).
#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests may panic: that is how tests fail")]

mod server;

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use server::Server;
use wattrace_api::testing::Rig;
use wattrace_api::{
    Attribute, Consumer, ConsumerKind, Identity, Resource, SeriesId, SeriesSpec, Timestamp, Window, metric,
};
use wattrace_groups::{Groups, GroupsConfig, Kubernetes};
use wattrace_http::testing::Authority;

const CONTAINER: &str = "9ec39b91f3d70e1beff50a308f77067065ea6be0d91a3378375056cd4422cf3d";
const POD: &str = "7e44ee88-1e65-4a16-8cdf-9a90c819180e";
const OF_KUBELET: &str = include_str!("data/kubelet-pods.json");
const OF_API: &str = include_str!("data/api-pods.json");

/// A process in a cgroup, and the groups that follow.
struct Scene {
    rig: Rig,
    process: Arc<Consumer>,
    time: SeriesId,
    second: u64,
    groups: Vec<Arc<Consumer>>,
}

impl Scene {
    fn new(config: GroupsConfig, path: &str) -> Self {
        let mut rig = Rig::new();
        rig.start::<Groups>(config).unwrap();
        let identity = Identity { kind: ConsumerKind::Process, id: "3999999".into(), start_unix_nano: 1 };
        let attributes =
            vec![Attribute::new("process.linux.cgroup", path), Attribute::new("process.real_user.id", 0_i64)];
        let process = Arc::new(Consumer::new(identity, None, attributes));
        let metric = rig.registry.metric(&metric::CONSUMER_CPU_TIME).unwrap();
        let spec = SeriesSpec::new(metric, Resource::package(0), Timestamp(0));
        let time = rig.registry.open(SeriesSpec { consumer: Some(process.clone()), ..spec });
        Self { rig, process, time, second: 0, groups: Vec::new() }
    }

    /// Passes batches until the process has the attribute `key`.
    fn until(&mut self, key: &str) -> String {
        let deadline = Instant::now() + Duration::from_secs(30);
        loop {
            self.second += 1;
            let window =
                Window::new(Timestamp((self.second - 1) * 1_000_000), Timestamp(self.second * 1_000_000));
            let batch = self.rig.pass(self.rig.batch(window, &[(self.time, self.second)])).unwrap();
            let points = self.rig.points(&batch);
            self.groups = points.iter().filter_map(|point| point.series.consumer.clone()).collect();
            if let Some(value) = self.process.attribute(key) {
                return value.to_string();
            }
            assert!(Instant::now() < deadline, "the process has no {key}");
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    fn group(&self, kind: ConsumerKind, key: &str) -> String {
        let group =
            self.groups.iter().find(|group| group.kind() == kind && !group.identity().id.is_empty()).unwrap();
        group.attribute(key).map(|value| value.to_string()).unwrap_or_default()
    }
}

fn config(dir: &Path) -> GroupsConfig {
    std::fs::write(dir.join("token"), "secret\n").unwrap();
    GroupsConfig {
        engines: vec![dir.join("none.sock"), dir.join("engine.sock")],
        token_file: dir.join("token"),
        ca_file: dir.join("ca.crt"),
        node: "Worker-7".to_owned(),
        kubelet_url: "https://127.0.0.1:1".to_owned(),
        ..GroupsConfig::default()
    }
}

fn in_pod() -> String {
    format!("/kubepods/burstable/pod{POD}/{CONTAINER}")
}

/// Answers requests for `path` with the pods, if they carry the token.
fn pods_at(path: &'static str) -> impl Fn(&str, &str) -> (u16, String) + Send + Sync + 'static {
    let pods = if path == API { OF_API } else { OF_KUBELET };
    move |asked, token| match (asked == path, token) {
        (_, "Bearer secret") if asked == path => (200, pods.to_owned()),
        (true, _) => (401, "Unauthorized".to_owned()),
        (false, _) => (404, "404 page not found".to_owned()),
    }
}

const API: &str = "/api/v1/pods?fieldSelector=spec.nodeName%3Dworker-7&resourceVersion=0";

#[test]
fn a_pod_gets_its_names_and_labels_from_the_kubelet() {
    let dir = tempfile::tempdir().unwrap();
    let authority = Authority::new();
    authority.write(dir.path(), "ca.crt");
    let kubelet = Server::tls(&authority, pods_at("/pods"));
    let config = GroupsConfig {
        kubelet_url: kubelet.url(),
        pod_labels: vec!["app.kubernetes.io/*".to_owned()],
        ..config(dir.path())
    };
    let mut scene = Scene::new(config, &in_pod());
    assert_eq!(scene.until("k8s.pod.name"), "shop-6f9c7d5b8-x2x9q");
    assert_eq!(scene.until("k8s.container.name"), "server");
    assert_eq!(scene.until("process.real_user.name"), "root");
    assert_eq!(scene.until("process.owner"), "root");
    let process = |key| scene.process.attribute(key).map(|value| value.to_string());
    assert_eq!(process("k8s.namespace.name").as_deref(), Some("web"));
    assert_eq!(process("k8s.node.name").as_deref(), Some("worker-7"));
    assert_eq!(process("container.image.name").as_deref(), Some("registry.example:5000/shop"));
    assert_eq!(process("container.image.tag").as_deref(), Some("12"));
    assert_eq!(process("k8s.pod.label.app.kubernetes.io/name"), None, "labels are the pod's alone");
    assert_eq!(scene.group(ConsumerKind::Pod, "k8s.pod.name"), "shop-6f9c7d5b8-x2x9q");
    assert_eq!(scene.group(ConsumerKind::Pod, "k8s.pod.label.app.kubernetes.io/name"), "shop");
    assert_eq!(scene.group(ConsumerKind::Pod, "k8s.pod.label.pod-template-hash"), "");
    assert_eq!(scene.group(ConsumerKind::Container, "k8s.pod.name"), "shop-6f9c7d5b8-x2x9q");
    assert_eq!(scene.group(ConsumerKind::Container, "k8s.container.name"), "server");
    assert_eq!(scene.group(ConsumerKind::User, "process.real_user.name"), "root");
    // One list answered both lookups.
    assert_eq!(kubelet.requests(), 1);
}

#[test]
fn a_static_pod_is_found_by_its_hash() {
    let dir = tempfile::tempdir().unwrap();
    let kubelet = Server::plain(pods_at("/pods"));
    let config =
        GroupsConfig { kubelet_url: kubelet.url(), kubernetes: Kubernetes::Kubelet, ..config(dir.path()) };
    let etcd = "509057eef9c66fcae1627a278216e29a0504d9b2e85ccc79c09b316dba7554e2";
    let path = format!("/kubepods/podd4c4c7fd8a6b4a0c9f5b2f6ed4f7d2a1/{etcd}");
    let mut scene = Scene::new(config, &path);
    assert_eq!(scene.until("k8s.pod.name"), "etcd-worker-7");
    assert_eq!(scene.until("k8s.container.name"), "etcd");
}

#[test]
fn an_untrusted_kubelet_gets_no_token_and_the_api_server_is_asked() {
    let dir = tempfile::tempdir().unwrap();
    let authority = Authority::new();
    authority.write(dir.path(), "ca.crt");
    let api = Server::tls(&authority, pods_at(API));
    let kubelet = Server::tls(&Authority::new(), |_, _| panic!("it received a request"));
    let config = GroupsConfig { kubelet_url: kubelet.url(), api_url: api.url(), ..config(dir.path()) };
    assert_eq!(Scene::new(config, &in_pod()).until("k8s.namespace.name"), "web");
    assert_eq!(kubelet.requests(), 0);
}

#[test]
fn a_kubelet_with_a_self_signed_certificate_is_asked_if_the_configuration_allows_it() {
    let dir = tempfile::tempdir().unwrap();
    let kubelet = Server::tls(&Authority::new(), pods_at("/pods"));
    let config = GroupsConfig { kubelet_url: kubelet.url(), kubelet_insecure: true, ..config(dir.path()) };
    assert_eq!(Scene::new(config, &in_pod()).until("k8s.pod.name"), "shop-6f9c7d5b8-x2x9q");
}

#[test]
fn a_failing_server_is_asked_again_and_everything_else_works_meanwhile() {
    let dir = tempfile::tempdir().unwrap();
    let authority = Authority::new();
    authority.write(dir.path(), "ca.crt");
    let times = std::sync::atomic::AtomicU32::new(0);
    let answer = pods_at(API);
    let api = Server::tls(&authority, move |path, token| {
        match times.fetch_add(1, std::sync::atomic::Ordering::SeqCst) {
            0 => (503, "not ready".to_owned()),
            1 => (200, "{\"kind\": \"Status\"}".to_owned()),
            _ => answer(path, token),
        }
    });
    let config = GroupsConfig { api_url: api.url(), kubernetes: Kubernetes::Api, ..config(dir.path()) };
    let mut scene = Scene::new(config, &in_pod());
    assert_eq!(scene.until("container.id"), CONTAINER);
    assert_eq!(scene.group(ConsumerKind::Pod, "k8s.pod.uid"), POD);
    assert_eq!(scene.until("k8s.pod.name"), "shop-6f9c7d5b8-x2x9q");
    assert_eq!(api.requests(), 3);
}

#[test]
fn a_container_gets_its_name_and_image_from_the_engine_that_runs_it() {
    let dir = tempfile::tempdir().unwrap();
    let config = config(dir.path());
    // As Docker 28 and Podman 4.3 answer, shortened.
    let inspected = format!(
        r#"{{"Id": "{CONTAINER}", "Created": "2026-11-20T17:02:11Z", "State": {{"Status": "running"}},
            "Image": "sha256:0ec9", "Name": "/burner",
            "Config": {{"Image": "localhost/busy:latest", "Labels": null}}}}"#
    );
    let wanted = format!("/containers/{CONTAINER}/json");
    let engine = Server::unix(&dir.path().join("engine.sock"), move |path, _| match path == wanted {
        true => (200, inspected.clone()),
        false => (404, "{\"message\": \"No such container\"}".to_owned()),
    });
    let mut scene = Scene::new(config.clone(), &format!("/system.slice/docker-{CONTAINER}.scope"));
    assert_eq!(scene.until("container.name"), "burner");
    assert_eq!(scene.until("container.image.name"), "localhost/busy");
    assert_eq!(scene.group(ConsumerKind::Container, "container.name"), "burner");
    let asked = engine.requests();
    assert_eq!(asked, 1);
    // Engines are not asked for ids that are not theirs.
    Scene::new(config, "/lxc.payload.web").until("process.real_user.name");
    assert_eq!(engine.requests(), asked);
}

#[test]
fn a_container_is_found_by_its_name_and_a_process_by_the_text_of_its_cgroups() {
    let dir = tempfile::tempdir().unwrap();
    let _engine = Server::unix(&dir.path().join("engine.sock"), |path, _| match path {
        "/containers/web-1/json" => (200, format!(r#"{{"Id":"{CONTAINER}","Name":"/web-1"}}"#)),
        _ => (404, "{}".to_owned()),
    });
    let (config, runtime) = (config(dir.path()), tokio::runtime::Runtime::new().unwrap());
    let id = |name: &str| runtime.block_on(wattrace_groups::container_id(&config, name)).unwrap();
    assert_eq!(id("web-1").as_deref(), Some(CONTAINER));
    // What is no name is not asked for: it would be another path.
    for name in ["web-2", "", "../web-1", "x/../web-1", "."] {
        assert_eq!(id(name), None, "{name}");
    }
    let of = |text: &str| -> Vec<String> {
        let attributes = wattrace_groups::attributes_of(text);
        attributes.iter().map(|attribute| format!("{}={}", attribute.key, attribute.value)).collect()
    };
    assert_eq!(of("0::/system.slice/nginx.service\n"), ["systemd.unit=nginx.service"]);
    let v1 = format!("4:memory:/docker/{CONTAINER}\n0::/\n");
    assert_eq!(of(&v1), [format!("container.id={CONTAINER}"), "container.runtime.name=docker".to_owned()]);
    assert!(of("").is_empty());
}
