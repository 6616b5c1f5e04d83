//! Metrics as a signal of OpenTelemetry: what `wattrace-otlp-client` must know to send them.

use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use prost::Message;
use wattrace_otlp_client::Signal;

/// Metrics, from `[plugins.otlp]`.
pub(crate) const METRICS: Signal = Signal {
    section: "plugins.otlp",
    variables: "METRICS",
    path: "/v1/metrics",
    method: "/opentelemetry.proto.collector.metrics.v1.MetricsService/Export",
    json,
};

/// An encoded request as JSON, in the mapping of OTLP: 64-bit numbers are text, keys are in lowerCamelCase.
fn json(request: &[u8]) -> Result<Vec<u8>, String> {
    let request = ExportMetricsServiceRequest::decode(request).map_err(|e| e.to_string())?;
    serde_json::to_vec(&request).map_err(|e| e.to_string())
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};
    use wattrace_api::{Attribute, Value as PointValue, metric};

    use crate::encode::tests::{packed, point, series};

    #[test]
    fn json_has_long_numbers_as_text_and_keys_in_lower_camel_case() {
        let energy = series(&metric::HW_ENERGY);
        let attributes =
            crate::attributes::encoded(&[Attribute::new("n", 1i64 << 60), Attribute::new("t", "é\"")]);
        let points = [
            point(&energy, &attributes, Some(PointValue::of_steps(1_500_000))),
            point(&energy, &attributes, None),
        ];
        let json: Value =
            serde_json::from_slice(&super::json(&packed(&points, 1 << 20)[0].body).unwrap()).unwrap();
        let metric = &json["resourceMetrics"][0]["scopeMetrics"][0]["metrics"][0];
        assert_eq!((&metric["name"], &metric["unit"]), (&json!("hw.energy"), &json!("J")));
        let sum = &metric["sum"];
        assert_eq!((&sum["isMonotonic"], &sum["aggregationTemporality"]), (&json!(true), &json!(2)));
        let points = sum["dataPoints"].as_array().unwrap();
        assert_eq!(points[0]["startTimeUnixNano"], "5");
        assert_eq!(points[0]["timeUnixNano"], "9");
        assert_eq!(points[0]["asDouble"], 1.5);
        assert_eq!(
            points[0]["attributes"],
            json!([
                { "key": "n", "value": { "intValue": "1152921504606846976" } },
                { "key": "t", "value": { "stringValue": "é\"" } },
            ])
        );
        assert_eq!((&points[1]["flags"], points[1].get("asDouble")), (&json!(1), None));
    }

    #[test]
    fn what_is_no_request_is_an_error() {
        assert!(super::json(b"\xff").is_err());
    }
}
