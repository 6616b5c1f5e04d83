//! Finds the chassis of this machine in a Redfish service, and the path of its power. A service may show
//! several: blades in an enclosure, drawers of disks. The energy of one that holds other machines, too, would
//! include theirs.

use serde_json::Value;

use super::client::{Client, RequestError};
use super::model::{self, Chassis, link, members};
use crate::config::Quantity;

/// More chassis than any service shows.
const MOST_CHASSIS: usize = 64;

/// Where a reading is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Location {
    /// The chassis.
    pub(crate) chassis: String,
    /// The path.
    pub(crate) path: String,
    /// What is read there.
    pub(crate) quantity: Quantity,
}

/// Why no reading was found.
pub(crate) enum DiscoveryError {
    /// The service did not answer.
    Request(RequestError),
    /// There is none, or several; with the remedy.
    Choice(String),
}

impl From<RequestError> for DiscoveryError {
    fn from(error: RequestError) -> Self {
        DiscoveryError::Request(error)
    }
}

/// Searches the service for the chassis `wanted` or, if that is empty, for the only possible one.
pub(crate) fn discover(
    client: &mut Client,
    wanted: &str,
    quantity: Quantity,
) -> Result<Location, DiscoveryError> {
    let root = client.get("/redfish/v1/")?;
    let collection = link(&root, "Chassis").unwrap_or_else(|| "/redfish/v1/Chassis".to_owned());
    let mut metered = Vec::new();
    let mut seen = Vec::new();
    for path in members(&client.get(&collection)?).into_iter().take(MOST_CHASSIS) {
        let answer = skip_absent(client.get(&path))?;
        let Some(chassis) = answer.as_ref().and_then(model::chassis) else { continue };
        seen.push(chassis.id.clone());
        if !wanted.is_empty() && chassis.id != wanted {
            continue;
        }
        if let Some(location) = locate(client, &chassis, quantity)? {
            metered.push((chassis, location));
        }
    }
    choose(metered, &seen, wanted).map_err(DiscoveryError::Choice)
}

/// Where `chassis` reports the quantity `wanted`, or else the other one; `None`: neither.
fn locate(
    client: &mut Client,
    chassis: &Chassis,
    wanted: Quantity,
) -> Result<Option<Location>, RequestError> {
    let mut found = Vec::new();
    for path in [&chassis.metrics, &chassis.power].into_iter().flatten() {
        let Some(answer) = skip_absent(client.get(path))? else { continue };
        let (power, energy) = (model::microwatts(&answer), model::microjoules(&answer));
        for (quantity, value) in [(Quantity::Power, power), (Quantity::Energy, energy)] {
            if value.is_some() {
                found.push(Location { chassis: chassis.id.clone(), path: path.clone(), quantity });
            }
        }
    }
    // The sort is stable, so the newer resource stays first.
    found.sort_by_key(|location| location.quantity != wanted);
    Ok(found.into_iter().next())
}

/// Not every chassis has power, so a path that does not exist is no error.
fn skip_absent(answer: Result<Value, RequestError>) -> Result<Option<Value>, RequestError> {
    match answer {
        Ok(answer) => Ok(Some(answer)),
        Err(RequestError::Absent(_)) => Ok(None),
        Err(e) => Err(e),
    }
}

/// The location of this machine among those `metered`. `seen` are the ids of all chassis.
fn choose(metered: Vec<(Chassis, Location)>, seen: &[String], wanted: &str) -> Result<Location, String> {
    let names =
        |of: &[(Chassis, Location)]| of.iter().map(|(c, _)| c.id.clone()).collect::<Vec<_>>().join(", ");
    if !wanted.is_empty() {
        let known = seen.iter().any(|id| id == wanted);
        let why = if known { "reports no power" } else { "is not among the chassis" };
        return metered
            .into_iter()
            .next()
            .map(|(_, location)| location)
            .ok_or_else(|| format!("plugins.bmc.chassis: `{wanted}` {why} ({})", seen.join(", ")));
    }
    let all = names(&metered);
    let one_system = |(chassis, _): &(Chassis, Location)| chassis.systems == Some(1);
    let candidates = match metered.len() {
        0 | 1 => metered,
        _ => metered.into_iter().filter(one_system).collect(),
    };
    let mut candidates = candidates.into_iter();
    match (candidates.next(), candidates.next()) {
        (Some((chassis, _)), None) if chassis.systems.is_some_and(|n| n > 1) => {
            let id = chassis.id;
            Err(format!(
                "chassis `{id}` holds several computers; to read it anyway, set \
                 plugins.bmc.chassis = \"{id}\""
            ))
        }
        (Some((_, location)), None) => Ok(location),
        (None, _) if all.is_empty() => Err(format!("no chassis reports its power ({})", seen.join(", "))),
        _ => Err(format!("several chassis report power: name this machine's as plugins.bmc.chassis ({all})")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn metered(of: &[(&str, Option<usize>)]) -> Vec<(Chassis, Location)> {
        let one = |&(id, systems): &(&str, Option<usize>)| {
            let location =
                Location { chassis: id.to_owned(), path: format!("/{id}"), quantity: Quantity::Power };
            (Chassis { id: id.to_owned(), metrics: None, power: None, systems }, location)
        };
        of.iter().map(one).collect()
    }

    fn chosen(of: &[(&str, Option<usize>)], wanted: &str) -> Result<String, String> {
        let seen = ["A".to_owned(), "B".to_owned()];
        choose(metered(of), &seen, wanted).map(|location| location.chassis)
    }

    #[test]
    fn the_only_chassis_is_chosen_or_the_only_one_with_one_computer() {
        assert_eq!(chosen(&[("A", None)], ""), Ok("A".to_owned()));
        assert_eq!(chosen(&[("A", Some(4)), ("B", Some(1))], ""), Ok("B".to_owned()));
        assert_eq!(chosen(&[("A", Some(0)), ("B", Some(1))], ""), Ok("B".to_owned()));
        assert_eq!(chosen(&[("B", Some(4))], "B"), Ok("B".to_owned()));
    }

    #[test]
    fn an_ambiguous_choice_is_left_to_the_user() {
        for (of, wanted, says) in [
            (&[][..], "", "no chassis reports its power (A, B)"),
            (&[("A", Some(4))], "", "chassis `A` holds several computers"),
            (&[("A", Some(1)), ("B", Some(1))], "", "name this machine's as plugins.bmc.chassis (A, B)"),
            (&[("A", None), ("B", None)], "", "name this machine's as plugins.bmc.chassis (A, B)"),
            (&[], "B", "`B` reports no power"),
            (&[], "C", "`C` is not among the chassis (A, B)"),
        ] {
            let why = chosen(of, wanted).unwrap_err();
            assert!(why.contains(says), "{why}");
        }
    }
}
