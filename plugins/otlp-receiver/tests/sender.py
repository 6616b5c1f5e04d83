"""An OTLP sender that shares no code with the gateway: sends what a script of JSON lines on standard input says.

Each line is {"protocol": "http" | "grpc", "address": "host:port", "headers": {…}, "gzip": bool, "resource": {…},
"metrics": [{"name", "unit", "data": "sum" | "delta" | "updown" | "gauge" | "histogram", "points": [{"value",
"start", "time", "attributes", "ended"}]}]}; the answer to each is {"status", "rejected", "message"}.
"""

import gzip
import json
import sys
import urllib.error
import urllib.request

from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (
    ExportMetricsServiceRequest,
    ExportMetricsServiceResponse,
)

SUMS = {"sum": (2, True), "delta": (1, True), "updown": (2, False)}


def put(target, attributes):
    for key, value in attributes.items():
        attribute = target.attributes.add(key=key)
        setattr(attribute.value, "int_value" if isinstance(value, int) else "string_value", value)


def request(script):
    message = ExportMetricsServiceRequest()
    resource_metrics = message.resource_metrics.add()
    put(resource_metrics.resource, script["resource"])
    scope = resource_metrics.scope_metrics.add()
    for wanted in script["metrics"]:
        metric = scope.metrics.add(name=wanted["name"], unit=wanted["unit"])
        if wanted["data"] == "histogram":
            for _ in wanted["points"]:
                metric.histogram.data_points.add(count=1)
            continue
        if wanted["data"] == "gauge":
            data = metric.gauge
        else:
            data = metric.sum
            data.aggregation_temporality, data.is_monotonic = SUMS[wanted["data"]]
        for wanted_point in wanted["points"]:
            point = data.data_points.add(
                start_time_unix_nano=wanted_point.get("start", 0), time_unix_nano=wanted_point["time"]
            )
            put(point, wanted_point.get("attributes", {}))
            if wanted_point.get("ended"):
                point.flags = 1
            elif isinstance(wanted_point["value"], int):
                point.as_int = wanted_point["value"]
            else:
                point.as_double = wanted_point["value"]
    return message


def over_http(script, message):
    body = message.SerializeToString()
    headers = {"Content-Type": "application/x-protobuf", **script["headers"]}
    if script["gzip"]:
        body, headers["Content-Encoding"] = gzip.compress(body), "gzip"
    post = urllib.request.Request(f"http://{script['address']}/v1/metrics", body, headers)
    try:
        with urllib.request.urlopen(post) as answer:
            return "ok", ExportMetricsServiceResponse.FromString(answer.read())
    except urllib.error.HTTPError as refused:
        return str(refused.code), ExportMetricsServiceResponse()


def over_grpc(script, message):
    import grpc
    from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2_grpc import MetricsServiceStub

    compression = grpc.Compression.Gzip if script["gzip"] else grpc.Compression.NoCompression
    with grpc.insecure_channel(script["address"]) as channel:
        try:
            metadata = list(script["headers"].items())
            export = MetricsServiceStub(channel).Export
            return "ok", export(message, metadata=metadata, compression=compression, timeout=10)
        except grpc.RpcError as refused:
            return refused.code().name, ExportMetricsServiceResponse()


for line in sys.stdin:
    script = json.loads(line)
    send = over_http if script["protocol"] == "http" else over_grpc
    status, answer = send(script, request(script))
    partial = answer.partial_success
    answer = {"status": status, "rejected": partial.rejected_data_points, "message": partial.error_message}
    print(json.dumps(answer), flush=True)
