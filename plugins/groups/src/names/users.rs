//! Users' names, from the user database (files, LDAP, whatever nsswitch.conf says).

use nix::unistd::{Uid, User};
use wattrace_api::Attribute;

use super::asker::Oracle;
use super::{Answer, Subject};
use crate::config::Level;
use crate::facts::USER_NAME;

/// The user database.
pub(crate) struct Users;

impl Oracle for Users {
    const NAMES: &'static str = "names of users";

    async fn answer(&mut self, wanted: &[Subject]) -> Result<Vec<Answer>, String> {
        let ids: Vec<u32> = wanted
            .iter()
            .filter_map(|subject| if let Subject::User(id) = subject { Some(*id) } else { None })
            .collect();
        let look_up = move || ids.into_iter().filter_map(|id| Some((id, name(id)?))).collect::<Vec<_>>();
        // A directory service may let us wait.
        let names = tokio::task::spawn_blocking(look_up).await.map_err(|e| e.to_string())?;
        let answer = |(id, name): (u32, String)| Answer {
            level: Level::User,
            key: id.to_string().into(),
            of_group: Vec::new(),
            of_processes: vec![Attribute::new(USER_NAME, name)],
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
    async fn root_has_a_name_and_nobody_in_particular_has_none() {
        let answers = Users.answer(&[Subject::User(0), Subject::User(3_999_999_999)]).await.unwrap();
        assert_eq!(answers.len(), 1);
        assert_eq!((&*answers[0].key, &answers[0].of_processes[0].value), ("0", &"root".into()));
    }
}
