//! The OTLP resource: the agent and the host that the metrics come from, as OpenTelemetry's detectors for
//! services, hosts, operating systems, containers and Kubernetes find them. Configured attributes (`config`)
//! override those found here.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use opentelemetry_proto::tonic::resource::v1::Resource;
use wattrace_otlp_client::Env;

use crate::attributes;

/// The resource: what the machine under `root` (`/`) says, overridden by `chosen`.
pub(crate) fn describe(chosen: &BTreeMap<String, String>, root: &Path) -> Resource {
    let read = |path: &str| {
        let text = fs::read_to_string(root.join(path)).ok()?;
        Some(text.trim().to_owned()).filter(|text| !text.is_empty())
    };
    let release = read("etc/os-release").or_else(|| read("usr/lib/os-release")).unwrap_or_default();
    let own = |file: &str| read(file).and_then(|text| container(&text).map(str::to_owned));
    let found = [
        ("service.name", Some("wattrace".to_owned())),
        ("service.version", Some(env!("CARGO_PKG_VERSION").to_owned())),
        // A new one for each run, so that two agents on a host never write the same stream.
        ("service.instance.id", read("proc/sys/kernel/random/uuid")),
        ("host.name", read("proc/sys/kernel/hostname")),
        ("host.id", read("etc/machine-id").or_else(|| read("var/lib/dbus/machine-id"))),
        ("host.arch", Some(arch(std::env::consts::ARCH).to_owned())),
        ("os.type", Some("linux".to_owned())),
        ("os.name", assigned(&release, "NAME")),
        ("os.version", assigned(&release, "VERSION_ID")),
        ("os.description", assigned(&release, "PRETTY_NAME")),
        ("os.build_id", read("proc/sys/kernel/osrelease")),
        // With a cgroup namespace of its own a container finds its id only in what is mounted into it.
        ("container.id", own("proc/self/cgroup").or_else(|| own("proc/self/mountinfo"))),
    ];
    let mut attributes: BTreeMap<&str, String> =
        found.into_iter().filter_map(|(key, value)| Some((key, value?))).collect();
    attributes.extend(chosen.iter().map(|(key, value)| (key.as_str(), value.clone())));
    let attributes = attributes.into_iter().map(|(key, value)| attributes::text(key, value)).collect();
    Resource { attributes, ..Default::default() }
}

/// Attributes of a pod, and the variables that are usually set to them through the downward API.
const KUBERNETES: [(&str, [&str; 2]); 6] = [
    ("k8s.pod.name", ["K8S_POD_NAME", "POD_NAME"]),
    ("k8s.pod.uid", ["K8S_POD_UID", "POD_UID"]),
    ("k8s.namespace.name", ["K8S_NAMESPACE_NAME", "POD_NAMESPACE"]),
    ("k8s.node.name", ["K8S_NODE_NAME", "NODE_NAME"]),
    ("k8s.container.name", ["K8S_CONTAINER_NAME", "CONTAINER_NAME"]),
    ("k8s.cluster.name", ["K8S_CLUSTER_NAME", "CLUSTER_NAME"]),
];

/// The pod that the agent itself runs in, if it does, by the environment.
pub(crate) fn kubernetes(env: &Env<'_>) -> Vec<(String, String)> {
    // Elsewhere such a variable may mean anything.
    if env.get("KUBERNETES_SERVICE_HOST").is_none() {
        return Vec::new();
    }
    let found = KUBERNETES.iter().filter_map(|(key, variables)| {
        let value = variables.iter().find_map(|name| env.get(name))?;
        Some(((*key).to_owned(), value))
    });
    found.collect()
}

/// OpenTelemetry's name for a processor architecture.
fn arch(rust: &str) -> &str {
    match rust {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        "arm" => "arm32",
        "powerpc" => "ppc32",
        "powerpc64" => "ppc64",
        other => other,
    }
}

/// The value of `key` in os-release(5), without its quotation marks.
fn assigned(release: &str, key: &str) -> Option<String> {
    let value = release.lines().find_map(|line| line.trim().strip_prefix(key)?.strip_prefix('='))?;
    let value = value.trim().trim_matches(['"', '\'']);
    (!value.is_empty()).then(|| value.to_owned())
}

/// Names of runtimes before the id of a container in the name of its cgroup's scope.
const RUNTIMES: [&str; 4] = ["docker-", "cri-containerd-", "crio-", "libpod-"];

/// The id of the container whose `/proc/self/cgroup` or `/proc/self/mountinfo` this is: 64 hexadecimal
/// digits, which runtimes have in the name of the cgroup, or in the directory of the files that they mount.
fn container(text: &str) -> Option<&str> {
    let is_id = |part: &&str| part.len() == 64 && part.bytes().all(|byte| byte.is_ascii_hexdigit());
    text.lines().find_map(|line| {
        let cgroup = line.rsplit('/').next().map(|name| {
            let name = name.strip_suffix(".scope").unwrap_or(name);
            RUNTIMES.iter().find_map(|runtime| name.strip_prefix(runtime)).unwrap_or(name)
        });
        let mounted = line.split("containers/").skip(1).filter_map(|rest| rest.split('/').next());
        cgroup.into_iter().chain(mounted).find(is_id)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "4f2e4c1ea6a0a3d6ee15e5a9c1fd7b5f2f0f4a5e9c3a6a1d2b3c4d5e6f708192";

    fn described(files: &[(&str, &str)], chosen: &[(&str, &str)]) -> BTreeMap<String, String> {
        let root = tempfile::tempdir().unwrap();
        for (file, text) in files {
            let path = root.path().join(file);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        let chosen = chosen.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
        let resource = describe(&chosen, root.path());
        resource.attributes.iter().map(|a| (a.key.clone(), crate::encode::tests::shown(a))).collect()
    }

    #[test]
    fn configured_attributes_override_found_ones_and_missing_ones_are_left_out() {
        let files =
            [("proc/sys/kernel/hostname", "node-7\n"), ("proc/sys/kernel/random/uuid", "some-uuid\n")];
        let resource = described(&files, &[("service.name", "mine"), ("team", "x")]);
        let of = |key: &str| resource.get(key).map(String::as_str);
        assert_eq!(of("service.name"), Some("mine"));
        assert_eq!(of("service.instance.id"), Some("some-uuid"));
        assert_eq!(of("host.name"), Some("node-7"));
        assert_eq!(of("team"), Some("x"));
        assert_eq!(of("os.type"), Some("linux"));
        assert_eq!((of("host.id"), of("os.version"), of("container.id")), (None, None, None));
    }

    #[test]
    fn host_and_operating_system_are_described_as_the_conventions_say() {
        let release =
            "PRETTY_NAME=\"Debian GNU/Linux 12 (bookworm)\"\nNAME='Debian GNU/Linux'\nVERSION_ID=\"12\"\n";
        let files = [
            ("usr/lib/os-release", release),
            ("proc/sys/kernel/osrelease", "6.1.0-18-amd64\n"),
            ("var/lib/dbus/machine-id", "0123\n"),
        ];
        let resource = described(&files, &[]);
        for (key, value) in [
            ("os.description", "Debian GNU/Linux 12 (bookworm)"),
            ("os.name", "Debian GNU/Linux"),
            ("os.version", "12"),
            ("os.build_id", "6.1.0-18-amd64"),
            ("host.id", "0123"),
        ] {
            assert_eq!(resource[key], value, "{key}");
        }
    }

    #[test]
    fn a_container_finds_its_own_id_in_its_cgroup_or_in_its_mounts() {
        let other = "a".repeat(63);
        for (cgroup, mounts, id) in [
            (format!("0::/system.slice/docker-{ID}.scope"), String::new(), Some(ID)),
            (format!("12:cpu:/docker/{ID}\n"), String::new(), Some(ID)),
            (
                format!("0::/kubepods.slice/kubepods-pod1.slice/cri-containerd-{ID}.scope"),
                String::new(),
                Some(ID),
            ),
            (
                "0::/".to_owned(),
                format!(
                    "1 2 0:1 / / rw - overlay overlay rw\n\
                     3 4 8:1 /var/lib/docker/containers/{ID}/hostname /etc/hostname rw\n"
                ),
                Some(ID),
            ),
            (format!("0::/user.slice/{other}"), String::new(), None),
            ("0::/".to_owned(), "1 2 0:1 /var/lib/containers/storage /x rw\n".to_owned(), None),
        ] {
            let files = [("proc/self/cgroup", &*cgroup), ("proc/self/mountinfo", &*mounts)];
            assert_eq!(
                described(&files, &[]).get("container.id").map(String::as_str),
                id,
                "{cgroup} {mounts}"
            );
        }
    }
}
