//! Which chassis of a Redfish service is this machine, and where its power is told. A service may show
//! several: blades in an enclosure, drawers of disks; one that holds other machines as well would charge this
//! one with theirs.

use serde_json::Value;

use super::client::{Client, Trouble};
use super::model::{self, Chassis, link, members};
use crate::config::Reading;

/// More chassis than any one service shows.
const MOST_CHASSIS: usize = 64;

/// Where the reading is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    /// The chassis.
    pub(crate) chassis: String,
    /// The address.
    pub(crate) path: String,
    /// What is there.
    pub(crate) reading: Reading,
}

/// Why there is no place.
pub(crate) enum Nowhere {
    /// The service did not answer.
    Trouble(Trouble),
    /// It has none, or several, and what to do about it.
    Choice(String),
}

impl From<Trouble> for Nowhere {
    fn from(trouble: Trouble) -> Self {
        Nowhere::Trouble(trouble)
    }
}

/// Looks through the service for the chassis `wanted`, or, if that is empty, for the only one that can be
/// meant.
pub(crate) fn discover(client: &mut Client, wanted: &str, reading: Reading) -> Result<Place, Nowhere> {
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
        if let Some(place) = place(client, &chassis, reading)? {
            metered.push((chassis, place));
        }
    }
    choose(metered, &seen, wanted).map_err(Nowhere::Choice)
}

/// Where `chassis` tells what is wanted, or else the other; `None` if it tells neither.
fn place(client: &mut Client, chassis: &Chassis, wanted: Reading) -> Result<Option<Place>, Trouble> {
    let mut found = Vec::new();
    for path in [&chassis.metrics, &chassis.power].into_iter().flatten() {
        let Some(answer) = skip_absent(client.get(path))? else { continue };
        for (reading, told) in
            [(Reading::Power, model::microwatts(&answer)), (Reading::Energy, model::microjoules(&answer))]
        {
            if told.is_some() {
                found.push(Place { chassis: chassis.id.clone(), path: path.clone(), reading });
            }
        }
    }
    // The first stays first among equals: the newer resource.
    found.sort_by_key(|place| place.reading != wanted);
    Ok(found.into_iter().next())
}

/// One chassis has no power and another does: that some addresses lead nowhere is usual.
fn skip_absent(answer: Result<Value, Trouble>) -> Result<Option<Value>, Trouble> {
    match answer {
        Ok(answer) => Ok(Some(answer)),
        Err(Trouble::Absent(_)) => Ok(None),
        Err(trouble) => Err(trouble),
    }
}

/// The one of `metered` that is this machine. `seen` are the ids of all chassis.
fn choose(metered: Vec<(Chassis, Place)>, seen: &[String], wanted: &str) -> Result<Place, String> {
    let names = |of: &[(Chassis, Place)]| of.iter().map(|(c, _)| c.id.clone()).collect::<Vec<_>>().join(", ");
    if !wanted.is_empty() {
        let known = seen.iter().any(|id| id == wanted);
        let why = if known { "tells no power" } else { "is none of the chassis" };
        return metered
            .into_iter()
            .next()
            .map(|(_, place)| place)
            .ok_or_else(|| format!("plugins.bmc.chassis: `{wanted}` {why} ({})", seen.join(", ")));
    }
    let all = names(&metered);
    let one_system = |(chassis, _): &(Chassis, Place)| chassis.systems == Some(1);
    let candidates = match metered.len() {
        0 | 1 => metered,
        _ => metered.into_iter().filter(one_system).collect(),
    };
    let mut candidates = candidates.into_iter();
    match (candidates.next(), candidates.next()) {
        (Some((chassis, _)), None) if chassis.systems.is_some_and(|n| n > 1) => {
            let id = chassis.id;
            Err(format!(
                "chassis `{id}` holds several computers; if its power is wanted all the same, plugins.bmc.chassis = \"{id}\""
            ))
        }
        (Some((_, place)), None) => Ok(place),
        (None, _) if all.is_empty() => Err(format!("no chassis tells its power ({})", seen.join(", "))),
        _ => Err(format!(
            "several chassis tell their power: name this machine's as plugins.bmc.chassis ({all})"
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn metered(of: &[(&str, Option<usize>)]) -> Vec<(Chassis, Place)> {
        let one = |&(id, systems): &(&str, Option<usize>)| {
            let place = Place { chassis: id.to_owned(), path: format!("/{id}"), reading: Reading::Power };
            (Chassis { id: id.to_owned(), metrics: None, power: None, systems }, place)
        };
        of.iter().map(one).collect()
    }

    fn chosen(of: &[(&str, Option<usize>)], wanted: &str) -> Result<String, String> {
        let seen = ["A".to_owned(), "B".to_owned()];
        choose(metered(of), &seen, wanted).map(|place| place.chassis)
    }

    #[test]
    fn the_only_one_is_meant_or_the_only_one_with_one_computer() {
        assert_eq!(chosen(&[("A", None)], ""), Ok("A".to_owned()));
        assert_eq!(chosen(&[("A", Some(4)), ("B", Some(1))], ""), Ok("B".to_owned()));
        assert_eq!(chosen(&[("A", Some(0)), ("B", Some(1))], ""), Ok("B".to_owned()));
        assert_eq!(chosen(&[("B", Some(4))], "B"), Ok("B".to_owned()));
    }

    #[test]
    fn where_it_can_t_be_told_the_user_is_asked() {
        for (of, wanted, says) in [
            (&[][..], "", "no chassis tells its power (A, B)"),
            (&[("A", Some(4))], "", "chassis `A` holds several computers"),
            (&[("A", Some(1)), ("B", Some(1))], "", "name this machine's as plugins.bmc.chassis (A, B)"),
            (&[("A", None), ("B", None)], "", "name this machine's as plugins.bmc.chassis (A, B)"),
            (&[], "B", "`B` tells no power"),
            (&[], "C", "`C` is none of the chassis (A, B)"),
        ] {
            let why = chosen(of, wanted).unwrap_err();
            assert!(why.contains(says), "{why}");
        }
    }
}
