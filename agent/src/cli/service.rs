//! What a service manager such as systemd learns from `run`: that the agent is ready, that it reloads or
//! stops, and that points still flow, which the watchdog of its unit waits for. Without a service manager
//! nothing happens. The unit is config/systemd/wattrace.service.

use std::sync::Arc;
use std::time::Duration;

use sd_notify::NotifyState;
use tokio::task::JoinHandle;
use tokio::time::{MissedTickBehavior, interval};
use tracing::warn;
use wattrace_api::ElementKind;

use crate::pipeline::control::Control;
use crate::pipeline::health::{Health, State};

/// The running agent, as its service manager sees it. Dropping it ends the signs of life.
pub(super) struct Service {
    signs_of_life: Option<JoinHandle<()>>,
}

impl Service {
    /// Reports that the agent is ready. A watchdog of the unit gets a sign of life twice in its time.
    pub(super) fn ready(control: Control) -> Self {
        notify(&[NotifyState::Ready, NotifyState::Status(&summary(&control.health()))]);
        let timeout = sd_notify::watchdog_enabled().filter(|timeout| !timeout.is_zero());
        Self { signs_of_life: timeout.map(|timeout| tokio::spawn(give_signs(control, timeout / 2))) }
    }

    /// Reports that the agent stops.
    pub(super) fn stopping(&self) {
        notify(&[NotifyState::Stopping]);
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        if let Some(task) = self.signs_of_life.take() {
            task.abort();
        }
    }
}

/// Reports that the agent reloads, until `reload` has ended.
pub(super) async fn reloading(reload: impl Future<Output = ()>) {
    if let Ok(now) = NotifyState::monotonic_usec_now() {
        notify(&[NotifyState::Reloading, now]);
    }
    reload.await;
    notify(&[NotifyState::Ready]);
}

/// Gives signs of life for as long as points can pass.
async fn give_signs(control: Control, every: Duration) {
    let mut ticks = interval(every.max(Duration::from_millis(1)));
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        if points_can_pass(&control.health()) {
            notify(&[NotifyState::Watchdog]);
        }
    }
}

/// Whether no transform is stuck: all points pass them. A source or an output that is stuck holds up nobody
/// else, so a restart would cost more than it gives.
fn points_can_pass(health: &[Arc<Health>]) -> bool {
    health.iter().all(|h| h.kind != ElementKind::Transform || h.stuck_since().is_none())
}

/// What runs, for `systemctl status`.
fn summary(health: &[Arc<Health>]) -> String {
    let running = |kind| health.iter().filter(|h| h.kind == kind && h.state() == State::Running).count();
    format!("sources: {}, outputs: {}", running(ElementKind::Source), running(ElementKind::Output))
}

fn notify(state: &[NotifyState]) {
    if let Err(e) = sd_notify::notify(state) {
        warn!("the service manager cannot be notified through NOTIFY_SOCKET: {e}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use wattrace_api::Clock;

    fn stuck(kind: ElementKind) -> Arc<Health> {
        let health = Health::new(kind, "plugin", "element", Duration::ZERO, Clock::system());
        let busy = health.busy();
        // Any time is longer than no patience.
        while health.stuck_since().is_none() {
            health.check();
        }
        // What is stuck is noticed to have returned by the next check, which does not come.
        drop(busy);
        health
    }

    #[test]
    fn only_a_stuck_transform_ends_the_signs_of_life() {
        let well = Health::new(ElementKind::Transform, "plugin", "well", Duration::ZERO, Clock::system());
        let others = [well, stuck(ElementKind::Source), stuck(ElementKind::Output)];
        assert!(points_can_pass(&others));
        let with_transform: Vec<_> = others.into_iter().chain([stuck(ElementKind::Transform)]).collect();
        assert!(!points_can_pass(&with_transform));
    }
}
