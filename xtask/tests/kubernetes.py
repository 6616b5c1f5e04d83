"""Renders the Helm chart with Helm's own library, and validates what comes out against Kubernetes' schemas.

kubernetes.py CHART prints the plain manifest. kubernetes.py CHART --check VERSION… prints one object of JSON: what
Helm's linter finds, how many objects are valid in each version of Kubernetes, and the objects with the chart's values
and with others.
"""

import json
import pathlib
import sys

import helm_python
import kubernetes_validate
import yaml

HEADER = """\
# Wattrace on every node of a cluster: kubectl apply -f wattrace.yaml
# Rendered from the Helm chart beside this file; a test compares them. The image is one that you push to a registry.
"""
NAMESPACE = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "wattrace"}}
# Values that switch every part of the templates.
OTHERS = {
    "prometheusPort": 0,
    "rbac": {"create": False},
    "serviceAccount": {"create": False, "name": "mine"},
    "imagePullSecrets": [{"name": "registry"}],
    "image": {"tag": "7.7.7"},
    "priorityClassName": "system-node-critical",
    "podLabels": {"team": "energy"},
    "podAnnotations": {"note": "value"},
    "affinity": {"nodeAffinity": {}},
    "tolerations": [],
    "nodeSelector": {},
    "config": "[plugins.console]\nenabled = false\n",
}


# As `kubectl apply` can follow them.
ORDER = ["rbac", "configmap", "daemonset"]


def render(chart, values, name="wattrace"):
    """The rendered templates."""
    with helm_python.Chart.load(chart) as loaded:
        rendered = loaded.render(values, name=name, namespace="wattrace")
    texts = {pathlib.Path(path).stem: text.strip() for path, text in rendered.items() if path.endswith(".yaml")}
    assert sorted(texts) == sorted(ORDER), sorted(texts)
    return [texts[stem].removeprefix("---\n") for stem in ORDER if texts[stem]]


def objects(texts):
    return [o for text in texts for o in yaml.safe_load_all(text) if o]


def main():
    chart = pathlib.Path(sys.argv[1])
    texts = render(chart, {})
    if sys.argv[2:3] != ["--check"]:
        parts = [yaml.safe_dump(NAMESPACE, sort_keys=False).strip(), *texts]
        print(HEADER + "\n---\n".join(parts))
        return
    default, others = objects(texts), objects(render(chart, OTHERS, name="release"))
    valid = {}
    for version in sys.argv[3:]:
        for found in [NAMESPACE, *default, *others]:
            kubernetes_validate.validate(found, version, strict=True)
            valid[version] = valid.get(version, 0) + 1
    lint = [m["error"] for m in helm_python.lint(chart)["messages"] if m["severity"] > 1]
    print(json.dumps({"lint": lint, "valid": valid, "default": default, "others": others}))


main()
