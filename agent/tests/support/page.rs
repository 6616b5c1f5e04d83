//! Sums over the data of the page that `wattrace view` serves and `exec --html` writes.

use std::collections::BTreeMap;

use serde_json::Value;

/// Microjoules of each program and closing entry in the domains that totals count, and of their meters.
pub(crate) fn sums(data: &Value) -> (BTreeMap<String, u64>, u64) {
    let list = |value: &Value| value.as_array().unwrap().clone();
    let sum = |amounts: &Value| list(amounts).chunks(2).map(|pair| pair[1].as_u64().unwrap()).sum::<u64>();
    let domains = list(&data["domains"]);
    let counts = |domain: &Value| domain["in_total"].as_bool().unwrap();
    let measured = domains.iter().filter(|domain| counts(domain)).map(|domain| sum(&domain["measured_uj"]));
    let mut used = BTreeMap::new();
    for consumer in list(&data["consumers"]) {
        let kind = consumer["kind"].as_str().unwrap();
        let name = if kind == "process" { consumer["name"].as_str().unwrap() } else { kind };
        for pair in list(&consumer["used_uj"]) {
            if counts(&domains[usize::try_from(pair[0].as_u64().unwrap()).unwrap()]) {
                *used.entry(name.to_owned()).or_default() += sum(&pair[1]);
            }
        }
    }
    (used, measured.sum())
}
