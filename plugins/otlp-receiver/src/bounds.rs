//! Bounds on what describes a series: its names and attributes stay in memory as long as it is open, and pass
//! through every output. docs/gateway.md lists them.

use opentelemetry_proto::tonic::common::v1::{KeyValue, any_value::Value};
use prost::Message as _;

use crate::convert;

/// Most attributes of a resource, and as many of a point. OpenTelemetry's SDKs have the same limit.
pub(crate) const MOST_ATTRIBUTES: usize = 128;
/// Most bytes of the attributes of a resource, and as many of a point, keys included.
pub(crate) const LONGEST_ATTRIBUTES: usize = 8 * 1024;
/// Most bytes of one attribute's value.
pub(crate) const LONGEST_VALUE: usize = 4 * 1024;
/// Most bytes of a metric's name, and of its unit: those of OpenTelemetry's instruments.
pub(crate) const LONGEST_NAME: usize = 255;
pub(crate) const LONGEST_UNIT: usize = 63;
/// Most bytes of a metric's description. The rest is cut.
pub(crate) const LONGEST_DESCRIPTION: usize = 1024;

/// Checks the attributes of a resource or a point.
///
/// # Errors
/// What is too long, in words.
pub(crate) fn attributes(attributes: &[KeyValue]) -> Result<(), String> {
    if attributes.len() > MOST_ATTRIBUTES {
        return Err(format!("{} attributes: at most {MOST_ATTRIBUTES} are taken", attributes.len()));
    }
    let mut sum = 0;
    for attribute in attributes {
        let value = value_len(attribute);
        if value > LONGEST_VALUE {
            let key: String = attribute.key.chars().take(64).collect();
            return Err(format!("attribute {key} has {value} bytes: at most {LONGEST_VALUE} are taken"));
        }
        sum += attribute.key.len() + value;
    }
    if sum > LONGEST_ATTRIBUTES {
        return Err(format!("attributes of {sum} bytes: at most {LONGEST_ATTRIBUTES} are taken"));
    }
    Ok(())
}

/// The length of a value as text.
fn value_len(attribute: &KeyValue) -> usize {
    match attribute.value.as_ref().and_then(|value| value.value.as_ref()) {
        None => 0,
        Some(Value::StringValue(text)) => text.len(),
        Some(Value::BoolValue(_) | Value::IntValue(_) | Value::DoubleValue(_)) => 8,
        // Lists and maps become text, which can be longer than they are: not made of what is too long
        // already.
        Some(_) => match attribute.encoded_len() {
            long @ LONGEST_VALUE.. => long,
            _ => convert::text(attribute.value.as_ref()).len(),
        },
    }
}

/// Checks a metric's name and unit.
///
/// # Errors
/// What is too long, in words.
pub(crate) fn metric(name: &str, unit: &str) -> Result<(), String> {
    match (name.len(), unit.len()) {
        (long, _) if long > LONGEST_NAME => {
            Err(format!("a metric's name of {long} bytes: at most {LONGEST_NAME} are taken"))
        }
        (_, long) if long > LONGEST_UNIT => {
            Err(format!("a metric's unit of {long} bytes: at most {LONGEST_UNIT} are taken"))
        }
        _ => Ok(()),
    }
}

/// `text`, cut to `most` bytes at a character.
pub(crate) fn cut(text: &str, most: usize) -> &str {
    &text[..text.floor_char_boundary(most)]
}

/// The memory that a series with these attributes, and a sender's of `shared` bytes, takes: two copies of its
/// key, its description, and what allocations and tables take.
pub(crate) fn series_bytes(attributes: &[KeyValue], shared: usize) -> usize {
    let own: usize = attributes.iter().map(|a| 2 * (a.key.len() + value_len(a)) + 128).sum();
    own + shared + 512
}

/// The part of each of a sender's series that is the sender's: keys are copied, texts are shared.
pub(crate) fn shared_bytes(attributes: &[KeyValue]) -> usize {
    attributes.iter().map(|a| a.key.len() + 80).sum()
}

#[cfg(test)]
mod tests {
    use opentelemetry_proto::tonic::common::v1::{AnyValue, ArrayValue};

    use super::*;

    fn text(length: usize) -> KeyValue {
        with(Value::StringValue("v".repeat(length)))
    }

    fn with(value: Value) -> KeyValue {
        KeyValue { key: "k".to_owned(), value: Some(AnyValue { value: Some(value) }), ..Default::default() }
    }

    #[test]
    fn attributes_are_limited_in_number_and_bytes() {
        for (good, bad, part) in [
            (vec![text(1); MOST_ATTRIBUTES], vec![text(1); MOST_ATTRIBUTES + 1], "129 attributes"),
            (vec![text(LONGEST_VALUE)], vec![text(LONGEST_VALUE + 1)], "attribute k has 4097 bytes"),
            (vec![text(4000); 2], vec![text(4000); 3], "attributes of 12003 bytes"),
        ] {
            assert_eq!(attributes(&good), Ok(()));
            let error = attributes(&bad).unwrap_err();
            assert!(error.contains(part), "{error}");
        }
    }

    #[test]
    fn a_list_counts_as_the_text_that_it_becomes() {
        let number = AnyValue { value: Some(Value::DoubleValue(1e300)) };
        let list = |length| with(Value::ArrayValue(ArrayValue { values: vec![number.clone(); length] }));
        assert_eq!(attributes(&[list(10)]), Ok(()));
        let error = attributes(&[list(100)]).unwrap_err();
        assert!(error.contains("attribute k has 30"), "{error}");
    }

    #[test]
    fn names_are_refused_and_descriptions_cut() {
        assert_eq!(metric(&"n".repeat(255), &"u".repeat(63)), Ok(()));
        assert!(metric(&"n".repeat(256), "J").unwrap_err().contains("name"));
        assert!(metric("n", &"u".repeat(64)).unwrap_err().contains("unit"));
        assert_eq!((cut("aé", 2), cut("aé", 3), cut("a", 9)), ("a", "aé", "a"));
    }
}
