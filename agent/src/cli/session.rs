//! What `run` and `exec` share: from a configuration to a running pipeline, and from its end to what must be
//! said of it.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use tracing::info;
use wattrace_api::{Clock, Output, Registry, Setup};

use super::Failure;
use crate::config::Config;
use crate::observe;
use crate::pipeline::Pipeline;
use crate::pipeline::health::{Health, State};
use crate::plugins::Registered;

/// The Tokio runtime: two workers are plenty, since outputs have threads of their own.
pub(super) fn runtime() -> Result<tokio::runtime::Runtime, Failure> {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .thread_name("wattrace")
        .enable_all()
        .build()
        .map_err(|e| Failure::new(format!("cannot start the async runtime: {e}")))
}

/// Starts every enabled plugin but those in `without`, and the pipeline with their elements and `output`.
pub(super) fn start<O: Output + 'static>(
    config: &Config,
    plugins: &[Registered],
    without: &[&str],
    output: Option<impl FnMut(&Arc<Registry>) -> O + Send + 'static>,
    runtime: &tokio::runtime::Handle,
) -> Result<Pipeline, Failure> {
    let mut setup = Setup::new(Registry::new(), Clock::system(), runtime.clone());
    start_plugins(config, plugins, without, &mut setup)?;
    setup.enter("agent");
    let observed = observe::add(&mut setup);
    if let Some(mut make) = output {
        let registry = setup.registry();
        setup.output("command", move || Ok(make(&registry)));
    }
    let pipeline = Pipeline::start(setup, config.agent.pipeline(plugins.iter().map(|p| p.name).collect()));
    observed.watch(pipeline.control());
    for health in pipeline.health() {
        info!("{}: {}", health.name, health.state());
    }
    Ok(pipeline)
}

/// Starts every enabled plugin but those in `without`: their elements are added to `setup`.
pub(super) fn start_plugins(
    config: &Config,
    plugins: &[Registered],
    without: &[&str],
    setup: &mut Setup,
) -> Result<(), Failure> {
    for plugin in &config.plugins {
        let Some(registered) = plugins.iter().find(|p| p.name == plugin.name) else { continue };
        if plugin.enabled && !without.contains(&plugin.name) {
            setup.enter(plugin.name);
            (registered.start)(plugin.table.clone(), setup).map_err(Failure::usage)?;
        }
    }
    Ok(())
}

/// Why nothing can be measured: what each of the plugins' sources lacks.
pub(super) fn nothing_to_measure(health: &[Arc<Health>]) -> Failure {
    let lacking = |h: &&Arc<Health>| h.name.starts_with("source/") && h.state() != State::Running;
    let reasons: Vec<_> =
        health.iter().filter(lacking).map(|h| format!("  {} is {}", h.name, h.state())).collect();
    if reasons.is_empty() {
        return Failure::new(
            "nothing can be measured: no plugin with a source is enabled (sched and rapl are; `wattrace plugins list`)",
        );
    }
    Failure::new(format!("nothing can be measured here.\n{}", reasons.join("\n")))
}

/// Says on stderr what is not there, once, with its remedy.
pub(super) fn report_missing(health: &[Arc<Health>]) {
    for h in health.iter().filter(|h| matches!(h.state(), State::Gone(_))) {
        eprintln!("wattrace: {} is {}", h.name, h.state());
    }
}

/// Says on stderr what was lost where, once everything has stopped.
pub(super) fn report_losses(health: &[Arc<Health>]) {
    for h in health {
        let lost = h.lost.load(Relaxed);
        if lost > 0 {
            eprintln!("wattrace: {}: {lost} points were lost", h.name);
        }
        let missed = h.missed.load(Relaxed);
        if missed > 0 {
            info!("{}: {missed} ticks did not take place; the windows after them span them", h.name);
        }
    }
}
