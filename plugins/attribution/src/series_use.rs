//! What a series is to attribution: usage of hardware, memory held on a device, a meter, or nothing.
//! `transform.rs` decides it when it first sees the series, and passes its points to the books accordingly.

use wattrace_api::{ConsumerKind, Increments, ResourceKind, Role, Series, Usage, Value, Window};

use crate::amounts::Quantity;
use crate::books::{Books, CORES, PACKAGES, UsageRecords, UsedAmount, User};

/// What a series is used for.
#[derive(Debug)]
pub(crate) enum SeriesUse {
    /// An amount of usage.
    Usage { timeline: usize, location: u32, quantity: Quantity, user: User, increments: Increments },
    /// Memory held on a device.
    HeldMemory { timeline: usize, slot: usize },
    /// The meter of an account.
    Meter { account: usize },
    /// Not used.
    None,
}

impl SeriesUse {
    /// What a series about a consumer is used for. Acquires a slot for the consumer.
    pub(crate) fn of_consumer(series: &Series, records: &mut UsageRecords) -> SeriesUse {
        Self::of_usage(series, records).unwrap_or(SeriesUse::None)
    }

    fn of_usage(series: &Series, records: &mut UsageRecords) -> Option<SeriesUse> {
        let (Role::Usage(usage), Some(consumer)) = (series.role, &series.consumer) else { return None };
        let resource = &series.resource;
        let (timeline, location, quantity) = match (usage, &resource.kind) {
            (Usage::GpuMemory, _) => {
                let timeline = records.timelines.of_device(resource);
                return Some(SeriesUse::HeldMemory { timeline, slot: records.consumers.acquire(consumer) });
            }
            (Usage::GpuTime, _) => (records.timelines.of_device(resource), 0, Quantity::Time),
            (Usage::CoreTime, ResourceKind::Core) => {
                (CORES, resource.id.strip_prefix("cpu-")?.parse().ok()?, Quantity::Time)
            }
            (usage, ResourceKind::Package) => {
                (PACKAGES, resource.id.parse().ok()?, Quantity::on_package(usage)?)
            }
            _ => return None,
        };
        let user = match consumer.kind() {
            ConsumerKind::Process | ConsumerKind::Irq | ConsumerKind::Other => {
                User::Consumer(records.consumers.acquire(consumer) as u32)
            }
            ConsumerKind::Thread if timeline == PACKAGES => {
                User::Thread(records.consumers.acquire(consumer) as u32)
            }
            ConsumerKind::Idle => User::Idle,
            ConsumerKind::Unattributed => User::Unattributed,
            // A group's usage is the sum of its processes', which count already.
            _ => return None,
        };
        // The latest possible observer: a first point counts only if the series began within its window.
        let increments = Increments::within_windows(series);
        Some(SeriesUse::Usage { timeline, location, quantity, user, increments })
    }

    /// Passes a point to the books.
    pub(crate) fn take(&mut self, window: Window, value: Value, books: &mut Books) {
        match self {
            SeriesUse::Usage { timeline, location, quantity, user, increments } => {
                let amount = increments.next(window, value);
                let used = UsedAmount { user: *user, location: *location, quantity: *quantity, amount };
                books.usage.timelines.get_mut(*timeline).stage(used);
            }
            SeriesUse::HeldMemory { timeline, slot } => {
                books.usage.hold(*timeline, *slot, value.gauge() as u64)
            }
            SeriesUse::Meter { account } => books.measure(*account, window, value),
            SeriesUse::None => {}
        }
    }
}
