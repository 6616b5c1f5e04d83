//! What the plugin `groups` knows of cgroups and containers; nothing if the agent was built without it.

#[cfg(feature = "groups")]
pub(super) use with_groups::{attributes_of, container_id};
#[cfg(not(feature = "groups"))]
pub(super) use without_groups::{attributes_of, container_id};

#[cfg(feature = "groups")]
mod with_groups {
    use serde::Deserialize as _;
    use wattrace_api::{Attribute, Plugin as _};
    use wattrace_groups::{Groups, GroupsConfig};

    use crate::cli::failure::Failure;
    use crate::config::Config;

    /// The unit, the container, … of a process, by the text of `/proc/PID/cgroup`.
    pub(in crate::cli::watch) fn attributes_of(cgroups: &str) -> Vec<Attribute> {
        wattrace_groups::attributes_of(cgroups)
    }

    /// The id of a container by its name; `None`: no engine knows it.
    ///
    /// # Errors
    /// An engine does not answer.
    pub(in crate::cli::watch) async fn container_id(
        name: &str,
        config: &Config,
    ) -> Result<Option<String>, Failure> {
        let table = config.plugins.iter().find(|plugin| plugin.name == Groups::NAME);
        let table = table.map(|plugin| plugin.table.clone()).unwrap_or_default();
        let config = GroupsConfig::deserialize(table).map_err(Failure::usage)?;
        wattrace_groups::container_id(&config, name).await.map_err(Failure::new)
    }
}

#[cfg(not(feature = "groups"))]
mod without_groups {
    use wattrace_api::Attribute;

    use crate::cli::failure::Failure;
    use crate::config::Config;

    pub(in crate::cli::watch) fn attributes_of(_cgroups: &str) -> Vec<Attribute> {
        Vec::new()
    }

    pub(in crate::cli::watch) async fn container_id(
        _name: &str,
        _config: &Config,
    ) -> Result<Option<String>, Failure> {
        Ok(None)
    }
}
