//! Finds the chassis of this machine in a Redfish service, and the paths of its power. A service may show
//! several: blades in an enclosure, drawers of disks. The energy of one that holds other machines, too, would
//! include theirs.

use serde_json::Value;

use super::answer::RequestError;
use super::client::{Client, ROOT};
use super::model::{self, Chassis, link, members};
use crate::config::Quantity;

/// More members than any collection has.
const MOST_MEMBERS: usize = 64;

/// Where a reading is.
#[derive(Clone, Debug)]
pub(crate) struct Location {
    /// The chassis.
    pub(crate) chassis: String,
    /// The paths: one, or those of all power supplies.
    pub(crate) paths: Vec<String>,
    /// What is read there.
    pub(crate) quantity: Quantity,
    /// How an answer is read.
    parse: Parse,
}

type Parse = fn(&Value) -> Option<i128>;

impl Location {
    /// The sum of the readings at all paths, in microwatts or microjoules; or why one of them is unknown.
    pub(crate) fn read(&self, client: &mut Client) -> Result<Result<i128, String>, RequestError> {
        let mut sum = 0;
        for path in &self.paths {
            match (self.parse)(&client.get(path)?) {
                Some(value) => sum += value,
                None => return Ok(Err(format!("{path}: has no number for {:?}", self.quantity))),
            }
        }
        // The server is running.
        Ok(if sum > 0 || self.quantity == Quantity::Energy { Ok(sum) } else { Err("0 W".to_owned()) })
    }
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

/// A search: the client, and what went wrong with parts of the service while others answered.
struct Search<'a> {
    client: &'a mut Client,
    /// Resources that are not shown to this account.
    forbidden: Vec<String>,
    /// A resource of the present chassis that may be read later.
    later: Option<RequestError>,
}

/// Searches the service for the chassis `wanted` or, if that is empty, for the only possible one.
pub(crate) fn discover(
    client: &mut Client,
    wanted: &str,
    quantity: Quantity,
) -> Result<Location, DiscoveryError> {
    let root = client.get(ROOT)?;
    let collection = link(&root, "Chassis").unwrap_or_else(|| "/redfish/v1/Chassis".to_owned());
    let all = client.get(&collection)?;
    let mut search = Search { client, forbidden: Vec::new(), later: None };
    let (mut metered, mut seen) = (Vec::new(), Vec::new());
    for path in search.all_members(all)? {
        let Some(chassis) = search.required(&path)?.as_ref().and_then(model::chassis) else { continue };
        seen.push(chassis.id.clone());
        if !wanted.is_empty() && chassis.id != wanted {
            continue;
        }
        search.later = None;
        match (search.locate(&chassis, quantity)?, search.later.take()) {
            (Some(location), _) => metered.push((chassis, location)),
            // It may be the one, or another reason why the choice is the user's.
            (None, Some(why)) => {
                let id = chassis.id;
                let remedy =
                    format!("; if it stays so and `{id}` is not this machine, set plugins.bmc.chassis");
                return Err(DiscoveryError::Request(RequestError::Later(format!("{why}{remedy}"))));
            }
            (None, None) => {}
        }
    }
    choose(metered, &seen, wanted).map_err(|mut why| {
        for forbidden in search.forbidden {
            why.push_str("; ");
            why.push_str(&forbidden);
        }
        DiscoveryError::Choice(why)
    })
}

impl Search<'_> {
    /// Where `chassis` reports the quantity `wanted`, or else the other one; `None`: neither.
    fn locate(&mut self, chassis: &Chassis, wanted: Quantity) -> Result<Option<Location>, RequestError> {
        let location =
            |paths, quantity, parse| Location { chassis: chassis.id.clone(), paths, quantity, parse };
        let mut found = Vec::new();
        for path in [&chassis.metrics, &chassis.power].into_iter().flatten() {
            let Some(answer) = self.optional(path)? else { continue };
            let readings: [(Quantity, Parse); 2] =
                [(Quantity::Power, model::microwatts), (Quantity::Energy, model::microjoules)];
            for (quantity, parse) in readings {
                if parse(&answer).is_some() {
                    found.push(location(vec![path.clone()], quantity, parse));
                }
            }
        }
        if found.is_empty()
            && let Some(subsystem) = &chassis.subsystem
            && let Some(paths) = self.supplies(subsystem)?
        {
            found.push(location(paths, Quantity::Power, model::input_microwatts));
        }
        // The sort is stable, so the newer resource stays first.
        found.sort_by_key(|location| location.quantity != wanted);
        Ok(found.into_iter().next())
    }

    /// The paths of what each power supply takes in; `None`: there are none, or one of them does not report
    /// it, so that the sum is unknown.
    fn supplies(&mut self, subsystem: &str) -> Result<Option<Vec<String>>, RequestError> {
        let Some(subsystem) = self.optional(subsystem)? else { return Ok(None) };
        let Some(collection) = link(&subsystem, "PowerSupplies") else { return Ok(None) };
        let Some(collection) = self.optional(&collection)? else { return Ok(None) };
        let mut paths = Vec::new();
        for path in self.all_members(collection)? {
            let Some(supply) = self.optional(&path)? else { return Ok(None) };
            if model::is_absent(&supply) {
                continue;
            }
            let Some(path) = link(&supply, "Metrics") else { return Ok(None) };
            let reads = self.optional(&path)?.is_some_and(|m| model::input_microwatts(&m).is_some());
            if !reads {
                return Ok(None);
            }
            paths.push(path);
        }
        Ok((!paths.is_empty()).then_some(paths))
    }

    /// The members of `collection`, on all its pages.
    fn all_members(&mut self, collection: Value) -> Result<Vec<String>, RequestError> {
        let mut all = Vec::new();
        let mut page = Some(collection);
        while let Some(shown) = page {
            let before = all.len();
            for member in members(&shown) {
                if all.len() < MOST_MEMBERS && !all.contains(&member) {
                    all.push(member);
                }
            }
            // A page without anything new would be followed forever.
            page = match model::next_page(&shown).filter(|_| all.len() > before) {
                Some(next) => self.required(&next)?,
                None => None,
            };
        }
        Ok(all)
    }

    /// The resource at `path`, without which the choice could be wrong. Not every chassis is shown to every
    /// account, so one that is not there is no error.
    fn required(&mut self, path: &str) -> Result<Option<Value>, RequestError> {
        match self.client.get(path) {
            Ok(answer) => Ok(Some(answer)),
            Err(RequestError::Absent(_)) => Ok(None),
            Err(RequestError::Forbidden(why)) => {
                self.forbidden.push(why);
                Ok(None)
            }
            Err(e) => Err(e),
        }
    }

    /// The resource at `path`, whose place another one may take: no chassis has all of them, and services
    /// answer with errors for some.
    fn optional(&mut self, path: &str) -> Result<Option<Value>, RequestError> {
        match self.required(path) {
            Err(e @ RequestError::Later(_)) => {
                self.later = Some(e);
                Ok(None)
            }
            answer => answer,
        }
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
            let location = Location {
                chassis: id.to_owned(),
                paths: vec![format!("/{id}")],
                quantity: Quantity::Power,
                parse: model::microwatts,
            };
            (Chassis { id: id.to_owned(), systems, ..Chassis::default() }, location)
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
