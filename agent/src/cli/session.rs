//! What the commands that trace share: start the plugins, start the pipeline with their elements, and report
//! what was lost. `missing.rs` reports what is missing.

use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, OnceLock};

use tokio::runtime::{Builder, Handle, Runtime};
use tracing::info;
use wattrace_api::{Clock, ElementKind, Host, Registry, Timestamp, Transform};

use super::failure::Failure;
use crate::config::Config;
use crate::observe;
use crate::pipeline::Pipeline;
use crate::pipeline::health::{Health, State};
use crate::plugins::Registered;

/// The async runtime. Two workers are enough, since elements have threads of their own.
pub(super) fn runtime() -> Result<Runtime, Failure> {
    Builder::new_multi_thread()
        .worker_threads(2)
        .thread_name("wattrace")
        .enable_all()
        .build()
        .map_err(|e| Failure::new(format!("cannot start the async runtime: {e}")))
}

/// Starts those of `plugins` that `config` enables. Their elements are not open yet.
pub(super) fn start_plugins(
    config: &Config,
    plugins: &[Registered],
    runtime: &Handle,
) -> Result<Host, Failure> {
    let mut host = Host::new(Registry::new(), Clock::system(), runtime.clone());
    start_each(&mut host, config, plugins)?;
    Ok(host)
}

fn start_each(host: &mut Host, config: &Config, plugins: &[Registered]) -> Result<(), Failure> {
    for plugin in config.plugins.iter().filter(|plugin| plugin.enabled) {
        let Some(registered) = plugins.iter().find(|p| p.name == plugin.name) else { continue };
        let start = |setup: &mut _| (registered.start)(plugin.table.clone(), setup);
        host.start(plugin.name, start).map_err(Failure::usage)?;
    }
    Ok(())
}

/// Which outputs of the configuration run beside a command that counts energy itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outputs {
    /// None: they are about the machine, and not the command's.
    None,
    /// Those of this plugin.
    Of(&'static str),
    /// All of them, behind the transforms that change what they get.
    All,
}

/// Starts plugins for a command that counts energy itself: the transform that `counter` opens sees every
/// batch before the transforms that change what outputs get. These run only with all outputs.
pub(super) fn start_counting<T: Transform + 'static>(
    config: &mut Config,
    plugins: &[Registered],
    runtime: &Handle,
    outputs: Outputs,
    counter: impl Fn(Arc<Registry>, Timestamp) -> T + Send + 'static,
) -> Result<Host, Failure> {
    let shaping = plugins.iter().position(|p| p.shapes_output).unwrap_or(plugins.len());
    let (measuring, shaping) = plugins.split_at(shaping);
    let mut host = start_plugins(config, measuring, runtime)?;
    let (registry, since) = (host.registry().clone(), host.clock().now());
    host.start(observe::PLUGIN, |setup| {
        setup.transform("command", move || Ok(counter(registry.clone(), since)));
        Ok(())
    })
    .map_err(Failure::new)?;
    let shaping: Vec<_> =
        shaping.iter().copied().filter(|p| outputs == Outputs::All || !p.shapes_output).collect();
    start_each(&mut host, config, &shaping)?;
    if outputs != Outputs::All {
        let runs = |plugin| outputs == Outputs::Of(plugin);
        host.retain(|element| element.spec.kind() != ElementKind::Output || runs(element.plugin));
        config.agent.outputs.clear();
    }
    Ok(host)
}

/// Starts the pipeline with the elements of `host`, and the source of the agent's own metrics.
pub(super) fn start_pipeline(mut host: Host, config: &Config) -> Result<Pipeline, Failure> {
    let control = Arc::new(OnceLock::new());
    let observed = control.clone();
    host.start(observe::PLUGIN, |setup| {
        observe::add_source(setup, observed);
        Ok(())
    })
    .map_err(Failure::new)?;
    let order = config.plugins.iter().map(|p| p.name).collect();
    let pipeline = Pipeline::start(host, config.agent.pipeline(order));
    // It is empty: nothing else sets it.
    let _ = control.set(pipeline.control());
    for health in pipeline.health() {
        info!("{}: {}", health.name, health.state());
    }
    Ok(pipeline)
}

/// The names of the plugins that the user asked for, by a setting or on the command line.
pub(super) fn asked_for(config: &Config) -> Vec<&'static str> {
    config.plugins.iter().filter(|plugin| plugin.is_asked_for).map(|plugin| plugin.name).collect()
}

/// Reports on stderr which elements of the plugins in `asked_for` have failed from the beginning, after
/// everything has stopped. Returns whether there are any.
pub(super) fn report_failed(health: &[Arc<Health>], asked_for: &[&str]) -> bool {
    // KIND/PLUGIN/ELEMENT
    let is_asked_for = |h: &Health| h.name.split('/').nth(1).is_some_and(|name| asked_for.contains(&name));
    let mut any = false;
    for h in health.iter().filter(|h| is_asked_for(h) && !h.was_open.load(Relaxed)) {
        match h.state() {
            State::Failing(why) => {
                eprintln!("wattrace: {} has never worked: {why}", h.name);
                any = true;
            }
            // The start has said so.
            State::Gone(_) => any |= h.is_denied.load(Relaxed),
            _ => {}
        }
    }
    any
}

/// Reports on stderr which points were lost where, after everything has stopped. Returns whether an output
/// lost what matters: all of its points, or the last ones, which are the totals.
pub(super) fn report_losses(health: &[Arc<Health>]) -> bool {
    for h in health {
        let lost = h.lost.load(Relaxed);
        if lost > 0 {
            eprintln!("wattrace: {}: {lost} points were lost", h.name);
        }
        let missed = h.missed.load(Relaxed);
        if missed > 0 {
            info!("{}: missed {missed} ticks; the windows that follow span them", h.name);
        }
    }
    health.iter().any(|h| has_failed(h))
}

/// Whether an output ended with its last points lost, or never had success. A lost point in between costs
/// nothing, since counters are cumulative.
fn has_failed(health: &Health) -> bool {
    let lost = health.lost.load(Relaxed);
    let lost_all = lost >= health.points_in.load(Relaxed);
    let lost_last = matches!(health.state(), State::Failing(_));
    health.kind == ElementKind::Output && lost > 0 && (lost_all || lost_last)
}
