//! From encoded spans to an encoded `ExportTraceServiceRequest`. Spans are encoded when they are over, since
//! that is how they take the least memory while they wait; here they are only put together.

use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::transform::common::tonic::ResourceAttributesWithSchema;
use prost::{Message, encode_length_delimiter, length_delimiter_len};

use crate::queue::QueuedSpan;
use crate::span;

/// Keys of length-delimited fields 1 and 2.
const FIELD_1: u8 = 1 << 3 | 2;
const FIELD_2: u8 = 2 << 3 | 2;

/// What all requests have in common, encoded: the resource, and who made the spans.
pub(crate) struct Envelope {
    resource: Vec<u8>,
    scope: Vec<u8>,
}

impl Envelope {
    /// Requests about `resource`.
    pub(crate) fn new(resource: &opentelemetry_sdk::Resource) -> Self {
        let described = ResourceAttributesWithSchema::from(resource);
        let resource = Resource { attributes: described.attributes.0, ..Resource::default() };
        let scope: opentelemetry_proto::tonic::common::v1::InstrumentationScope =
            (span::scope(), None).into();
        Self { resource: resource.encode_to_vec(), scope: scope.encode_to_vec() }
    }

    /// A request with `spans`.
    pub(crate) fn request(&self, spans: &[QueuedSpan]) -> Vec<u8> {
        // message ScopeSpans { InstrumentationScope scope = 1; repeated Span spans = 2; … }
        let spans_len =
            |scope_len| spans.iter().fold(scope_len, |sum, span| sum + field_len(span.encoded.len()));
        let scope_spans = spans_len(field_len(self.scope.len()));
        // message ResourceSpans { Resource resource = 1; repeated ScopeSpans scope_spans = 2; … }
        let resource_spans = field_len(self.resource.len()) + field_len(scope_spans);
        let mut request = Vec::with_capacity(field_len(resource_spans));
        // message ExportTraceServiceRequest { repeated ResourceSpans resource_spans = 1; }
        begin(&mut request, FIELD_1, resource_spans);
        field(&mut request, FIELD_1, &self.resource);
        begin(&mut request, FIELD_2, scope_spans);
        field(&mut request, FIELD_1, &self.scope);
        spans.iter().for_each(|span| field(&mut request, FIELD_2, &span.encoded));
        request
    }
}

fn field_len(len: usize) -> usize {
    1 + length_delimiter_len(len) + len
}

fn begin(out: &mut Vec<u8>, key: u8, len: usize) {
    out.push(key);
    // A `Vec` has room for everything.
    _ = encode_length_delimiter(len, out);
}

fn field(out: &mut Vec<u8>, key: u8, bytes: &[u8]) {
    begin(out, key, bytes.len());
    out.extend_from_slice(bytes);
}

#[cfg(test)]
mod tests {
    use opentelemetry::KeyValue;
    use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
    use opentelemetry_proto::tonic::trace::v1::Span;

    use super::*;

    #[test]
    fn a_request_is_what_an_encoder_of_the_whole_makes() {
        let resource = opentelemetry_sdk::Resource::builder_empty()
            .with_attribute(KeyValue::new("service.name", "wattrace"))
            .build();
        // Lengths of one and of two bytes.
        let names = ["cc1", &"x".repeat(200)];
        let spans: Vec<_> = names
            .iter()
            .map(|name| {
                let span = Span { name: (*name).to_owned(), span_id: vec![1; 8], ..Span::default() };
                QueuedSpan { encoded: span.encode_to_vec().into(), microjoules: 0 }
            })
            .collect();
        let envelope = Envelope::new(&resource);
        let request = envelope.request(&spans);
        let decoded = ExportTraceServiceRequest::decode(&*request).unwrap();
        assert_eq!(decoded.encode_to_vec(), request);
        let [of_resource] = &decoded.resource_spans[..] else { panic!("{decoded:?}") };
        assert_eq!(of_resource.resource.as_ref().unwrap().attributes[0].key, "service.name");
        let [of_scope] = &of_resource.scope_spans[..] else { panic!("{decoded:?}") };
        assert_eq!(of_scope.scope.as_ref().unwrap().name, "wattrace");
        assert_eq!(of_scope.spans.iter().map(|span| span.name.as_str()).collect::<Vec<_>>(), names);
    }
}
