//! The Helm chart, rendered by Helm's library, and the plain manifest: valid in every version of Kubernetes
//! that matters, and with no more rights than the agent needs.
#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests may panic: that is how tests fail")]

mod support;

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};
use support::{can_run, run, text};

/// The oldest that is still looked after somewhere, the one that introduced nodes/pods, and the newest.
const VERSIONS: [&str; 3] = ["1.28", "1.33", "1.37"];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// The script beside this file, with the chart; `None`, with a message, if its Python lacks something.
fn script(arguments: &[&str]) -> Option<Command> {
    let python = std::env::var_os("WATTRACE_TEST_PYTHON")
        .map_or_else(|| root().join("target/venv/bin/python"), PathBuf::from);
    let import = Command::new(&python).args(["-c", "import helm_python, kubernetes_validate, yaml"]).output();
    let there = import.is_ok_and(|import| import.status.success());
    if !can_run(&[("Python with helm-python-sdk and kubernetes-validate", there)]) {
        return None;
    }
    let mut command = Command::new(python);
    command.arg(root().join("xtask/tests/kubernetes.py")).arg(root().join("config/kubernetes/wattrace"));
    command.args(arguments);
    Some(command)
}

/// What the script says of the chart.
fn checked() -> Option<Value> {
    let mut check = script(&[&["--check"], &VERSIONS[..]].concat())?;
    Some(serde_json::from_str(&text(&mut check)).unwrap())
}

fn object<'a>(objects: &'a Value, kind: &str) -> &'a Value {
    objects.as_array().unwrap().iter().find(|object| object["kind"] == kind).unwrap()
}

#[test]
fn the_chart_is_valid_with_its_own_values_and_with_others() {
    let Some(chart) = checked() else { return };
    assert_eq!(chart["lint"], json!([]));
    for version in VERSIONS {
        // The namespace, five objects, and two without the account and its rights.
        assert_eq!(chart["valid"][version], 8, "{version}");
    }
    let pod = &object(&chart["others"], "DaemonSet")["spec"]["template"];
    assert_eq!(pod["spec"]["serviceAccountName"], "mine");
    assert_eq!(pod["spec"]["containers"][0]["image"], "ghcr.io/wattrace/wattrace:7.7.7");
    assert_eq!(pod["spec"]["containers"][0]["ports"], Value::Null);
    assert_eq!(pod["metadata"]["annotations"]["prometheus.io/port"], Value::Null);
    assert_eq!(pod["metadata"]["labels"]["team"], "energy");
}

#[test]
fn the_agent_gets_four_capabilities_and_reads_pods_and_no_more() {
    let Some(chart) = checked() else { return };
    let pod = &object(&chart["default"], "DaemonSet")["spec"]["template"]["spec"];
    let container = &pod["containers"][0]["securityContext"];
    let capabilities = json!({ "drop": ["ALL"], "add": ["BPF", "PERFMON", "DAC_READ_SEARCH", "SYS_PTRACE"] });
    assert_eq!(container["capabilities"], capabilities);
    assert_eq!(
        (&container["privileged"], &container["readOnlyRootFilesystem"]),
        (&json!(false), &json!(true))
    );
    assert_eq!(pod["securityContext"]["runAsNonRoot"], true);
    assert_eq!(pod["securityContext"]["seccompProfile"]["type"], "RuntimeDefault");
    assert_eq!(
        (&pod["hostPID"], &pod["hostNetwork"], &pod["hostIPC"]),
        (&json!(true), &Value::Null, &Value::Null)
    );
    let host =
        pod["volumes"].as_array().unwrap().iter().filter_map(|volume| volume["hostPath"]["path"].as_str());
    assert_eq!(host.collect::<Vec<_>>(), ["/sys/fs/cgroup"]);
    for mount in pod["containers"][0]["volumeMounts"].as_array().unwrap() {
        let writable = ["state", "run"].contains(&mount["name"].as_str().unwrap());
        assert_eq!(mount["readOnly"] == true, !writable, "{mount}");
    }
    let role = &object(&chart["default"], "ClusterRole")["rules"];
    let reads = json!([
        { "apiGroups": [""], "resources": ["nodes/pods"], "verbs": ["get"] },
        { "apiGroups": [""], "resources": ["pods"], "verbs": ["list"] },
    ]);
    assert_eq!(*role, reads);
}

#[test]
fn the_configuration_in_the_chart_is_one_that_the_agent_takes() {
    let Some(chart) = checked() else { return };
    if !can_run(&[("the built agent", support::agent().exists())]) {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    for which in ["default", "others"] {
        let file = dir.path().join(which);
        let config = object(&chart[which], "ConfigMap")["data"]["wattrace.toml"].as_str().unwrap();
        std::fs::write(&file, config).unwrap();
        run(Command::new(support::agent()).args(["config", "check", "--config"]).arg(&file));
    }
}

#[test]
fn the_plain_manifest_is_the_rendered_chart() {
    let Some(mut render) = script(&[]) else { return };
    let manifest = root().join("config/kubernetes/wattrace.yaml");
    let rendered = String::from_utf8(run(&mut render).stdout).unwrap();
    let remedy = "target/venv/bin/python xtask/tests/kubernetes.py config/kubernetes/wattrace > \
                  config/kubernetes/wattrace.yaml";
    assert!(std::fs::read_to_string(manifest).unwrap_or_default() == rendered, "it differs: {remedy}");
}
