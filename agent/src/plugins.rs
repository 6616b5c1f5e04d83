//! The plugins an agent is made of, and the one list of the standard ones.

use serde::Deserialize as _;
use wattrace_api::{Device, Error, Finding, Plugin, Setup};

/// A plugin with its type erased, so that a list can hold it.
#[derive(Clone, Copy)]
pub struct Registered {
    /// Its name, as in `[plugins.NAME]`.
    pub name: &'static str,
    /// One line about it.
    pub description: &'static str,
    /// Whether it runs when the configuration does not mention it.
    pub on_by_default: fn() -> bool,
    /// Whether it shows the machine to a person on the terminal.
    pub is_interactive: bool,
    /// Whether its configuration can make it talk to other machines.
    pub uses_network: bool,
    /// Its keys that say to whom it talks, if it is of use without the network.
    pub network_keys: &'static [&'static str],
    /// Whether its transforms change what outputs get of what was measured.
    pub shapes_output: bool,
    /// The device that its sources measure, if people ask for it where a machine lacks it.
    pub device: fn() -> Option<Device>,
    /// All its keys with their defaults.
    pub defaults: fn() -> Result<toml::Table, toml::ser::Error>,
    /// Whether a table is a valid configuration of it.
    pub check: fn(toml::Table) -> Result<(), toml::de::Error>,
    /// A valid configuration of it with its secrets hidden.
    pub hide_secrets: fn(toml::Table) -> toml::Table,
    /// Whether it could work here with a configuration, and what is missing.
    pub diagnose: fn(toml::Table) -> Vec<Finding>,
    /// Starts it with a configuration.
    pub start: fn(toml::Table, &mut Setup) -> Result<(), Error>,
}

impl std::fmt::Debug for Registered {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Registered").field("name", &self.name).finish_non_exhaustive()
    }
}

impl Registered {
    /// `P` for a list.
    pub fn of<P: Plugin>() -> Self {
        Self {
            name: P::NAME,
            description: P::DESCRIPTION,
            on_by_default: P::on_by_default,
            is_interactive: P::IS_INTERACTIVE,
            uses_network: P::USES_NETWORK,
            network_keys: P::NETWORK_KEYS,
            shapes_output: P::SHAPES_OUTPUT,
            device: || P::DEVICE,
            defaults: || toml::Table::try_from(P::Config::default()),
            check: |table| P::Config::deserialize(table).map(drop),
            // A `Secret` writes itself out hidden.
            hide_secrets: |table| {
                let config = P::Config::deserialize(table).ok();
                config.and_then(|c| toml::Table::try_from(c).ok()).unwrap_or_default()
            },
            diagnose: |table| P::Config::deserialize(table).map(|c| P::diagnose(&c)).unwrap_or_default(),
            start: |table, setup| P::start(P::Config::deserialize(table).map_err(Error::fatal)?, setup),
        }
    }
}

/// The standard plugins that were compiled in, each behind a cargo feature of its name. Their order is the
/// order of elements of one kind. Sources of usage open before meters. Of the transforms, `estimate` needs to
/// know which meters there are; attribution needs usage and energy, carbon the attributed energy, groups
/// everything that processes have; `budget` acts on it. Then come those that compute (formulas need every
/// consumer) and those that leave points out (`top` before `filter`, so that `other` sums everything).
/// `relabel` is last, since the others know metrics by their original names.
pub fn standard() -> Vec<Registered> {
    vec![
        #[cfg(feature = "sched")]
        Registered::of::<wattrace_sched::Sched>(),
        #[cfg(feature = "rapl")]
        Registered::of::<wattrace_rapl::Rapl>(),
        #[cfg(feature = "hwmon")]
        Registered::of::<wattrace_hwmon::Hwmon>(),
        #[cfg(feature = "cray")]
        Registered::of::<wattrace_cray::Cray>(),
        #[cfg(feature = "resctrl")]
        Registered::of::<wattrace_resctrl::Resctrl>(),
        #[cfg(feature = "battery")]
        Registered::of::<wattrace_battery::Battery>(),
        #[cfg(feature = "bmc")]
        Registered::of::<wattrace_bmc::Bmc>(),
        #[cfg(feature = "nvidia")]
        Registered::of::<wattrace_nvidia::Nvidia>(),
        #[cfg(feature = "drm")]
        Registered::of::<wattrace_drm::Drm>(),
        #[cfg(feature = "context")]
        Registered::of::<wattrace_context::Context>(),
        #[cfg(feature = "guest")]
        Registered::of::<wattrace_guest::HostShare>(),
        #[cfg(feature = "exec")]
        Registered::of::<wattrace_exec::Exec>(),
        #[cfg(feature = "otlp-receiver")]
        Registered::of::<wattrace_otlp_receiver::OtlpReceiver>(),
        #[cfg(feature = "simulator")]
        Registered::of::<wattrace_simulator::Simulator>(),
        #[cfg(feature = "estimate")]
        Registered::of::<wattrace_estimate::Estimate>(),
        #[cfg(feature = "attribution")]
        Registered::of::<wattrace_attribution::Attribution>(),
        #[cfg(feature = "carbon")]
        Registered::of::<wattrace_carbon::Carbon>(),
        #[cfg(feature = "groups")]
        Registered::of::<wattrace_groups::Groups>(),
        #[cfg(feature = "budget")]
        Registered::of::<wattrace_budget::Budget>(),
        #[cfg(feature = "formula")]
        Registered::of::<wattrace_formula::Formula>(),
        #[cfg(feature = "aggregate")]
        Registered::of::<wattrace_aggregate::Aggregate>(),
        #[cfg(feature = "top")]
        Registered::of::<wattrace_top::Top>(),
        #[cfg(feature = "filter")]
        Registered::of::<wattrace_filter::Filter>(),
        #[cfg(feature = "relabel")]
        Registered::of::<wattrace_relabel::Relabel>(),
        #[cfg(feature = "console")]
        Registered::of::<wattrace_console::Console>(),
        #[cfg(feature = "csv")]
        Registered::of::<wattrace_csv::Csv>(),
        #[cfg(feature = "jsonl")]
        Registered::of::<wattrace_jsonl::Jsonl>(),
        #[cfg(feature = "sqlite")]
        Registered::of::<wattrace_sqlite::Sqlite>(),
        #[cfg(feature = "prometheus")]
        Registered::of::<wattrace_prometheus::Prometheus>(),
        #[cfg(feature = "influx")]
        Registered::of::<wattrace_influx::Influx>(),
        #[cfg(feature = "postgres")]
        Registered::of::<wattrace_postgres::Postgres>(),
        #[cfg(feature = "parquet")]
        Registered::of::<wattrace_parquet::Parquet>(),
        #[cfg(feature = "otlp")]
        Registered::of::<wattrace_otlp::Otlp>(),
        #[cfg(feature = "traces")]
        Registered::of::<wattrace_traces::Traces>(),
        #[cfg(feature = "guest")]
        Registered::of::<wattrace_guest::GuestShare>(),
    ]
}
