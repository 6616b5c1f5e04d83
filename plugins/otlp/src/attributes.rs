//! Attributes as OTLP has them. `encode` puts them into points.

use std::sync::Arc;

use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue, any_value};
use opentelemetry_proto::tonic::metrics::v1::NumberDataPoint;
use prost::Message;
use wattrace_api::{Attribute, AttributeValue};

/// Attributes as they stand in a point: kept per stream in this form, which is the smallest.
pub(crate) fn encoded(attributes: &[Attribute]) -> Arc<[u8]> {
    NumberDataPoint { attributes: all(attributes), ..Default::default() }.encode_to_vec().into()
}

/// Attributes as OTLP's own.
pub(crate) fn all(attributes: &[Attribute]) -> Vec<KeyValue> {
    attributes.iter().map(attribute).collect()
}

fn attribute(attribute: &Attribute) -> KeyValue {
    let value = match &attribute.value {
        AttributeValue::Str(v) => any_value::Value::StringValue(v.to_string()),
        AttributeValue::Int(v) => any_value::Value::IntValue(*v),
        AttributeValue::Float(v) => any_value::Value::DoubleValue(*v),
        AttributeValue::Bool(v) => any_value::Value::BoolValue(*v),
    };
    key_value(&attribute.key, value)
}

/// A textual attribute.
pub(crate) fn text(key: &str, value: String) -> KeyValue {
    key_value(key, any_value::Value::StringValue(value))
}

fn key_value(key: &str, value: any_value::Value) -> KeyValue {
    KeyValue { key: key.to_owned(), value: Some(AnyValue { value: Some(value) }), ..Default::default() }
}
