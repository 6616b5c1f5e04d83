//! Requests that a test makes itself, and their answers.

use std::io::{Read, Write};
use std::net::TcpStream;

use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue, any_value::Value};
use opentelemetry_proto::tonic::metrics::v1::{
    Metric, NumberDataPoint, ResourceMetrics, ScopeMetrics, Sum, metric::Data, number_data_point,
};
use prost::Message;

use super::{PATIENCE, START};

/// Sends a whole request over HTTP; returns the status and the body of the answer. 0: the connection was
/// closed before there was one.
pub(crate) fn post(address: &str, body: &[u8]) -> (u16, Vec<u8>) {
    let head = format!(
        "POST /v1/metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: {}\r\n\
         Content-Type: application/x-protobuf\r\n\r\n",
        body.len()
    );
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    // It may be refused before it has arrived. The body is not copied: a test looks at memory.
    _ = stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(body));
    let mut answer = Vec::new();
    _ = stream.read_to_end(&mut answer);
    let Some(end) = answer.windows(4).position(|w| w == b"\r\n\r\n") else { return (0, Vec::new()) };
    let status = std::str::from_utf8(&answer[9..12]).unwrap().parse().unwrap();
    (status, answer[end + 4..].to_vec())
}

/// A textual attribute.
pub(crate) fn text(key: &str, value: String) -> KeyValue {
    let value = Some(AnyValue { value: Some(Value::StringValue(value)) });
    KeyValue { key: key.to_owned(), value, ..Default::default() }
}

/// A request of one sender with one point for each of these attributes.
pub(crate) fn request(host: &str, attributes: impl IntoIterator<Item = KeyValue>) -> Vec<u8> {
    let point = |attribute| NumberDataPoint {
        attributes: vec![attribute],
        time_unix_nano: START,
        start_time_unix_nano: START - 1,
        value: Some(number_data_point::Value::AsDouble(1.0)),
        ..Default::default()
    };
    let data_points = attributes.into_iter().map(point).collect();
    let sum = Sum { data_points, aggregation_temporality: 2, is_monotonic: true };
    let (name, unit) = ("hw.energy".to_owned(), "J".to_owned());
    let metrics = vec![Metric { name, unit, data: Some(Data::Sum(sum)), ..Default::default() }];
    let scope_metrics = vec![ScopeMetrics { metrics, ..Default::default() }];
    let resource = opentelemetry_proto::tonic::resource::v1::Resource {
        attributes: vec![text("host.name", host.to_owned())],
        ..Default::default()
    };
    let resource_metrics =
        vec![ResourceMetrics { resource: Some(resource), scope_metrics, ..Default::default() }];
    ExportMetricsServiceRequest { resource_metrics }.encode_to_vec()
}
