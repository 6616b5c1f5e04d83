//! The OTLP resource: the agent and the host that the metrics come from. Configured attributes (`config`)
//! override those found here.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use opentelemetry_proto::tonic::resource::v1::Resource;

use crate::attributes;

/// The resource: what the machine under `root` (`/`) says, overridden by `chosen`.
pub(crate) fn describe(chosen: &BTreeMap<String, String>, root: &Path) -> Resource {
    let read = |path: &str| {
        let text = fs::read_to_string(root.join(path)).ok()?;
        Some(text.trim().to_owned()).filter(|text| !text.is_empty())
    };
    let found = [
        ("service.name", Some("wattrace".to_owned())),
        ("service.version", Some(env!("CARGO_PKG_VERSION").to_owned())),
        // A new one for each run, so that two agents on a host never write the same stream.
        ("service.instance.id", read("proc/sys/kernel/random/uuid")),
        ("host.name", read("proc/sys/kernel/hostname")),
        ("host.id", read("etc/machine-id")),
        ("host.arch", Some(arch(std::env::consts::ARCH).to_owned())),
        ("os.type", Some("linux".to_owned())),
    ];
    let mut attributes: BTreeMap<&str, String> =
        found.into_iter().filter_map(|(key, value)| Some((key, value?))).collect();
    attributes.extend(chosen.iter().map(|(key, value)| (key.as_str(), value.clone())));
    let attributes = attributes.into_iter().map(|(key, value)| attributes::text(key, value)).collect();
    Resource { attributes, ..Default::default() }
}

/// OpenTelemetry's name for a processor architecture.
fn arch(rust: &str) -> &str {
    match rust {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        "powerpc64" => "ppc64",
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn configured_attributes_override_found_ones_and_missing_ones_are_left_out() {
        let root = tempfile::tempdir().unwrap();
        fs::create_dir_all(root.path().join("proc/sys/kernel/random")).unwrap();
        fs::write(root.path().join("proc/sys/kernel/hostname"), "node-7\n").unwrap();
        fs::write(root.path().join("proc/sys/kernel/random/uuid"), "some-uuid\n").unwrap();
        let chosen = [("service.name", "mine"), ("team", "x")].map(|(k, v)| (k.to_owned(), v.to_owned()));
        let resource = describe(&chosen.into(), root.path());
        let of =
            |key: &str| resource.attributes.iter().find(|a| a.key == key).map(crate::encode::tests::shown);
        assert_eq!(of("service.name").as_deref(), Some("mine"));
        assert_eq!(of("service.instance.id").as_deref(), Some("some-uuid"));
        assert_eq!(of("host.name").as_deref(), Some("node-7"));
        assert_eq!(of("team").as_deref(), Some("x"));
        assert_eq!(of("os.type").as_deref(), Some("linux"));
        assert_eq!(of("host.id"), None);
    }
}
