//! The resource of all spans: the agent and its host, as far as OTEL_SERVICE_NAME and
//! OTEL_RESOURCE_ATTRIBUTES, which the SDK reads, do not say otherwise.

use std::fs;

use opentelemetry::{Key, KeyValue};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::resource::EnvResourceDetector;

/// What is known of the agent and the host.
pub(crate) fn describe() -> Resource {
    let read = |path: &str| {
        let text = fs::read_to_string(path).ok()?;
        Some(text.trim().to_owned()).filter(|text| !text.is_empty())
    };
    let arch = match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    };
    let found = [
        ("service.name", Some("wattrace".to_owned())),
        ("service.version", Some(env!("CARGO_PKG_VERSION").to_owned())),
        ("host.name", read("/proc/sys/kernel/hostname")),
        ("host.id", read("/etc/machine-id")),
        ("host.arch", Some(arch.to_owned())),
        ("os.type", Some("linux".to_owned())),
    ];
    let found = found.into_iter().filter_map(|(key, value)| Some(KeyValue::new(key, value?)));
    let name = std::env::var("OTEL_SERVICE_NAME").ok().filter(|name| !name.trim().is_empty());
    let name = name.map(|name| KeyValue::new(Key::from_static_str("service.name"), name));
    // What is added later takes precedence.
    Resource::builder_empty()
        .with_attributes(found)
        .with_detector(Box::new(EnvResourceDetector::new()))
        .with_attributes(name)
        .build()
}
