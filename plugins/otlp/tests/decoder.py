"""An OTLP receiver that shares no code with the plugin: prints its port, then one JSON line per data point.

Metrics come as protobuf over HTTP. The messages are those of the PyPI package opentelemetry-proto.
"""

import gzip
import json
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Lock

from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (
    ExportMetricsServiceRequest,
    ExportMetricsServiceResponse,
)
from opentelemetry.proto.metrics.v1.metrics_pb2 import AggregationTemporality, DataPointFlags

PRINTING = Lock()


def plain(attributes):
    return {a.key: getattr(a.value, a.value.WhichOneof("value")) for a in attributes}


def buckets(point):
    """The filled buckets as [lower bound, upper bound, count], by the definition of the data model."""
    base = 2.0 ** (2.0**-point.scale)
    positive = enumerate(point.positive.bucket_counts, point.positive.offset)
    filled = [[base**index, base ** (index + 1), count] for index, count in positive if count]
    return {"count": point.count, "sum": point.sum, "min": point.min, "max": point.max, "zero": point.zero_count, "buckets": filled}


def lines(request):
    for resource_metrics in request.resource_metrics:
        for scope_metrics in resource_metrics.scope_metrics:
            for metric in scope_metrics.metrics:
                kind = metric.WhichOneof("data")
                data = getattr(metric, kind)
                for point in data.data_points:
                    histogram = buckets(point) if kind == "exponential_histogram" else None
                    value = None if histogram else point.WhichOneof("value")
                    yield {
                        "resource": plain(resource_metrics.resource.attributes),
                        "scope": scope_metrics.scope.name,
                        "name": metric.name,
                        "unit": metric.unit,
                        "description": metric.description,
                        "kind": kind,
                        "monotonic": kind == "sum" and data.is_monotonic,
                        "temporality": AggregationTemporality.Name(data.aggregation_temporality)
                        if kind != "gauge"
                        else "",
                        "attributes": plain(point.attributes),
                        "start": point.start_time_unix_nano,
                        "time": point.time_unix_nano,
                        "value": getattr(point, value) if value else None,
                        "histogram": histogram,
                        "ended": bool(point.flags & DataPointFlags.DATA_POINT_FLAGS_NO_RECORDED_VALUE_MASK),
                    }


class Receiver(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if self.headers.get("Content-Encoding") == "gzip":
            body = gzip.decompress(body)
        with PRINTING:
            for line in lines(ExportMetricsServiceRequest.FromString(body)):
                print(json.dumps(line), flush=True)
        answer = ExportMetricsServiceResponse().SerializeToString()
        self.send_response(200)
        self.send_header("Content-Type", "application/x-protobuf")
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, *_):
        pass


server = ThreadingHTTPServer(("127.0.0.1", 0), Receiver)
print(server.server_address[1], flush=True)
try:
    server.serve_forever()
except KeyboardInterrupt:
    sys.exit(0)
