//! Names of users, from the user database (files, LDAP, whatever nsswitch.conf says).

use nix::unistd::{Uid, User};
use wattrace_api::Attribute;

use super::lookup::{Answer, Subject};
use super::resolver::Resolver;
use crate::facts::{OWNER, USER_NAME};
use crate::level::Level;

/// The user database.
pub(crate) struct Users;

impl Resolver for Users {
    const NAMES: &'static str = "names of users";

    async fn resolve(&mut self, wanted: &[Subject]) -> Result<Vec<Answer>, String> {
        let ids: Vec<u32> = wanted
            .iter()
            .filter_map(|subject| if let Subject::User(id) = subject { Some(*id) } else { None })
            .collect();
        let look_up = move || ids.into_iter().filter_map(|id| Some((id, name(id)?))).collect::<Vec<_>>();
        // A directory service may be slow.
        let names = tokio::task::spawn_blocking(look_up).await.map_err(|e| e.to_string())?;
        let answer = |(id, name): (u32, String)| Answer {
            level: Level::User,
            key: id.to_string().into(),
            of_group: Vec::new(),
            of_processes: vec![Attribute::new(OWNER, name.clone()), Attribute::new(USER_NAME, name)],
        };
        Ok(names.into_iter().map(answer).collect())
    }
}

fn name(id: u32) -> Option<String> {
    User::from_uid(Uid::from_raw(id)).ok().flatten().map(|user| user.name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn root_has_a_name_and_an_unknown_user_has_none() {
        let answers = Users.resolve(&[Subject::User(0), Subject::User(3_999_999_999)]).await.unwrap();
        assert_eq!(answers.len(), 1);
        assert_eq!(&*answers[0].key, "0");
        let named: Vec<_> = answers[0].of_processes.iter().map(|a| (&*a.key, a.value.clone())).collect();
        assert_eq!(named, [("process.owner", "root".into()), ("process.real_user.name", "root".into())]);
    }
}
