//! Lists of pods, as servers write them (`tests/data/README.md`) and as they could.

use super::*;

const KUBELET: &str = include_str!("../../../tests/data/kubelet-pods.json");
const API: &str = include_str!("../../../tests/data/api-pods.json");
const ETCD: &str = "509057eef9c66fcae1627a278216e29a0504d9b2e85ccc79c09b316dba7554e2";

fn read(json: &str) -> Pods {
    let mut pods = Pods::new(vec!["*".to_owned()]);
    pods.read(json.as_bytes()).unwrap();
    pods
}

/// `pod container image tag` of the container with this id.
fn container(pods: &Pods, id: &str) -> String {
    let Some(answer) = pods.find(&Subject::Container { id: id.into(), is_in_pod: true }) else {
        return "none".to_owned();
    };
    let keys = ["k8s.pod.name", "k8s.container.name", "container.image.name", "container.image.tag"];
    let value = |key: &str| answer.of_processes.iter().find(|a| &*a.key == key).map(|a| a.value.to_string());
    keys.iter().filter_map(|key| value(key)).collect::<Vec<_>>().join(" ")
}

/// The pod's name.
fn pod(pods: &Pods, uid: &str) -> String {
    let answer = pods.find(&Subject::Pod { uid: uid.into() });
    let name = answer.and_then(|answer| answer.of_processes.into_iter().find(|a| &*a.key == "k8s.pod.name"));
    name.map_or_else(|| "none".to_owned(), |name| name.value.to_string())
}

#[test]
fn containers_of_every_kind_are_found_by_the_id_in_their_cgroup() {
    let pods = read(KUBELET);
    for (id, expected) in [
        (
            "9ec39b91f3d70e1beff50a308f77067065ea6be0d91a3378375056cd4422cf3d",
            "server registry.example:5000/shop 12",
        ),
        // Before and after a restart; the runtime knows only the image's digest.
        (
            "b0428bd7c7be12cdf0b9b06e94804a8c922cefe1f949903d759b8b1b5bcdc159",
            "cache registry.example:5000/cache 3",
        ),
        (
            "45dbe6934f4a07b2f8418ee345cb0904b726dfa0d0729b0cabc0f5fb56d4f8e6",
            "cache registry.example:5000/cache 3",
        ),
        (
            "8a5d143fcca3f0b53dfe5f445905a2e82c02f0ff70fc0a98cc37eca389f9480c",
            "migrate registry.example:5000/shop 12",
        ),
        (
            "922a2f3f14d1724d7eeb6cad2b5138bcbd85948c802fead1af2a1e5d79807e4e",
            "mesh docker.io/library/proxy 1",
        ),
        (
            "ae3d47d68b827997ff77097f1dc1f63df19ddf706512043c356d20efa5b2463a",
            "debugger-8xzrl docker.io/library/busybox latest",
        ),
    ] {
        assert_eq!(container(&pods, id), format!("shop-6f9c7d5b8-x2x9q {expected}"));
    }
    assert_eq!(container(&pods, ""), "none", "a container without an id cannot be found");
}

#[test]
fn a_static_pod_is_found_by_the_hash_in_its_cgroup_in_both_lists() {
    let etcd = "etcd-worker-7 etcd registry.k8s.io/etcd 3.5.15-0";
    for pods in [read(KUBELET), read(API)] {
        assert_eq!(pod(&pods, "d4c4c7fd8a6b4a0c9f5b2f6ed4f7d2a1"), "etcd-worker-7");
        assert_eq!(container(&pods, ETCD), etcd);
    }
    assert_eq!(pod(&read(API), "0b1c2d3e-1111-4222-8333-444455556666"), "etcd-worker-7", "its mirror");
    let is_without_state = pod(&read(KUBELET), "0a8863810b43d4d891fab0af80e28e4c");
    assert_eq!(is_without_state, "kube-apiserver-worker-7");
    assert_eq!(pod(&read(API), "eec6d906-65ab-41e9-bc12-02f121c1eeb4"), "batch-28fqz", "evicted");
}

#[test]
fn ids_of_every_runtime_are_read_and_missing_parts_are_tolerated() {
    let list = |items: &str| format!("{{\"kind\": \"PodList\", \"items\": {items}}}");
    let status = |id: &str| {
        let pod = format!(
            "{{\"metadata\": {{\"name\": \"p\"}}, \
              \"status\": {{\"containerStatuses\": [{{\"name\": \"c\", \"containerID\": {id}}}]}}}}"
        );
        container(&read(&list(&format!("[{pod}]"))), "abc")
    };
    for id in ["\"docker://abc\"", "\"containerd://abc\"", "\"cri-o://abc\""] {
        assert_eq!(status(id), "p c", "{id}");
    }
    for id in ["\"abc\"", "\"docker://\"", "\"\"", "null"] {
        assert_eq!(status(id), "none", "{id}");
    }
    // A kubelet that has just started; empty lists may be null.
    for items in ["null", "[]", "[null, {}]", "[{\"status\": {\"containerStatuses\": null}, \"spec\": {}}]"] {
        assert_eq!(container(&read(&list(items)), "abc"), "none", "{items}");
    }
    let with_nulls = r#"[{"metadata": {"name": "p", "uid": "u", "labels": null, "annotations": null},
        "spec": {"containers": null},
        "status": {"containerStatuses": [
            {"name": "c", "containerID": "docker://abc", "lastState": null}]}}]"#;
    assert_eq!(container(&read(&list(with_nulls)), "abc"), "p c");
    assert_eq!(pod(&read(&list(with_nulls)), "u"), "p");
}

#[test]
fn other_json_is_refused_and_the_last_list_stays() {
    let mut pods = read(API);
    for text in
        ["", "[]", "{\"kind\": \"Status\", \"status\": \"Failure\"}", "{\"items\": []}", "Unauthorized"]
    {
        assert!(pods.read(text.as_bytes()).is_err(), "{text}");
    }
    assert_eq!(pod(&pods, "d4c4c7fd8a6b4a0c9f5b2f6ed4f7d2a1"), "etcd-worker-7");
}
