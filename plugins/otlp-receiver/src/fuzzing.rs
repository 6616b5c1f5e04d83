//! For fuzzing: everything that parses bytes of senders. It must return soon and without a panic, whatever it
//! is given.

use wattrace_api::{Batch, Clock, Registry, Timestamp};

use crate::budget::Budget;
use crate::config::{OtlpReceiverConfig, Settings};
use crate::decode::{IN_FLIGHT, decode};
use crate::gateway::Gateway;
use crate::sequence::Sequence;

/// A request's header up to the first zero, then its body, which is received twice, and then as the next
/// request.
pub fn request(bytes: &[u8]) {
    let config = OtlpReceiverConfig { max_senders: 4, max_series: 16, max_pending: 64, ..Default::default() };
    let (registry, clock) = (Registry::new(), Clock::manual(Timestamp(10_000_000_000)));
    let gateway = Settings::resolve(config)
        .and_then(|settings| Gateway::new(&settings, registry.clone(), clock.clone()));
    let Ok(gateway) = gateway else { return };
    let (header, body) = match bytes.iter().position(|&byte| byte == 0) {
        Some(at) => (&bytes[..at], &bytes[at + 1..]),
        None => (&[][..], bytes),
    };
    let mut sequence: Option<Sequence> = std::str::from_utf8(header).ok().and_then(|text| text.parse().ok());
    let budget = Budget::new(IN_FLIGHT << 20);
    let Ok(request) = decode(body.to_vec().into(), 1 << 20, &budget.reservation()) else { return };
    let mut batch = Batch::default();
    for second in 11..14 {
        clock.set(Timestamp(second * 1_000_000_000));
        _ = gateway.receive(request.clone(), sequence.as_ref());
        if second == 12 {
            sequence.iter_mut().for_each(|sequence| sequence.number = sequence.number.saturating_add(1));
            gateway.hand_over(false, &mut batch);
        }
    }
    // Everything has been idle for long.
    clock.set(Timestamp(1_000_000_000_000_000));
    gateway.hand_over(true, &mut batch);
    let windows = batch.segments().map(|segment| segment.window);
    windows.for_each(|window| assert!(window.start <= window.end, "a window does not end before it begins"));
}
