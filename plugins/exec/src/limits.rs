//! Bounds on the texts that a program sends: each point keeps its texts for as long as its series is open,
//! here and in every output. docs/exec-plugins.md lists them.

use std::collections::BTreeMap;

use wattrace_api::{Attribute, AttributeValue};
use wattrace_ingest::PointError;

use crate::wire::{ConsumerName, ResourceName, Scalar};

/// Most bytes of an attribute's key, and of an id of a resource or consumer.
const MOST_KEY: usize = 256;
/// Most bytes of an attribute's value.
const MOST_VALUE: usize = 4096;
/// Most attributes of a point, and of a consumer.
const MOST_ATTRIBUTES: usize = 64;
/// Most bytes of a consumer's attributes.
const MOST_OF_CONSUMER: usize = 8192;
/// Most bytes of the names of all open series of a program, with their consumers' attributes.
pub(crate) const MOST_OF_PROGRAM: usize = 8 << 20;

/// Refuses a point whose texts are too long.
///
/// # Errors
/// Which text, and its bound.
pub(crate) fn check(
    resource: &ResourceName<'_>,
    consumer: Option<&ConsumerName<'_>>,
    attributes: &BTreeMap<String, Scalar>,
) -> Result<(), PointError> {
    let within = |what, len: usize, limit| {
        if len <= limit { Ok(()) } else { Err(PointError::TooLong { what, limit }) }
    };
    within("type of its resource", resource.kind.len(), MOST_KEY)?;
    within("id of its resource", resource.id.len(), MOST_KEY)?;
    within("id of its consumer", consumer.map_or(0, |consumer| consumer.id.len()), MOST_VALUE)?;
    if attributes.len() > MOST_ATTRIBUTES {
        return Err(PointError::TooMany { what: "attributes", limit: MOST_ATTRIBUTES });
    }
    for (key, value) in attributes {
        within("key of an attribute", key.len(), MOST_KEY)?;
        if let Scalar::Str(text) = value {
            within("value of an attribute", text.len(), MOST_VALUE)?;
        }
    }
    Ok(())
}

/// Refuses attributes of a consumer that would be too many or too long with those it has.
///
/// # Errors
/// Which bound.
pub(crate) fn check_consumer(known: &[Attribute], changed: &[Attribute]) -> Result<(), PointError> {
    let stays = known.iter().filter(|old| !changed.iter().any(|new| new.key == old.key));
    let (mut count, mut bytes) = (0, 0);
    for attribute in stays.chain(changed) {
        count += 1;
        bytes += attribute.key.len();
        if let AttributeValue::Str(text) = &attribute.value {
            bytes += text.len();
        }
    }
    if count > MOST_ATTRIBUTES {
        return Err(PointError::TooMany { what: "attributes of its consumer", limit: MOST_ATTRIBUTES });
    }
    if bytes > MOST_OF_CONSUMER {
        return Err(PointError::TooLong {
            what: "text of its consumer's attributes",
            limit: MOST_OF_CONSUMER,
        });
    }
    Ok(())
}
