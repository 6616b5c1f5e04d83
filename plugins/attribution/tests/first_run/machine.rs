//! A machine of two CPUs whose energy is known, its meter, and what runs on it, in steps of 100 µs.

/// Nanoseconds of a step.
pub(crate) const STEP: u64 = 100_000;
const MILLISECOND: u64 = 1_000_000;

/// Microjoules that the meter counts by.
const UNIT: f64 = 1e6 / 16384.0;

/// Watts of a machine.
#[derive(Clone, Copy)]
pub(crate) struct Power {
    /// At no load.
    pub(crate) idle: f64,
    /// More for each busy CPU.
    pub(crate) busy: f64,
}

/// What runs beside the command.
#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Beside {
    /// The system and the agent: some bursts.
    Nothing,
    /// A process that is busy for half of the time, on the other CPU.
    Burner,
}

/// Who uses the machine. The first three are the command's.
pub(crate) const USERS: usize = 5;
const BURNER: usize = 3;
const SYSTEM: usize = 4;

pub(crate) struct Machine {
    power: Power,
    beside: Beside,
    random: u64,
    pub(crate) now: u64,
    /// CPU time of each user, and of nobody, ns.
    pub(crate) used: [u64; USERS],
    pub(crate) idle: u64,
    microjoules: f64,
    /// What the meter shows, and when it looks at the energy again.
    shown: f64,
    update: u64,
    /// Until when the burner and the system go on as they do, and whether they run.
    burner: (u64, bool),
    system: (u64, bool),
    /// Parts of CPU 0 that the command's processes take.
    pub(crate) command: [f64; 3],
    command_used: [f64; 3],
}

impl Machine {
    pub(crate) fn new(power: Power, beside: Beside, seed: u64) -> Self {
        Self {
            power,
            beside,
            random: seed,
            now: 0,
            used: [0; USERS],
            idle: 0,
            microjoules: 0.0,
            shown: 0.0,
            update: 0,
            burner: (0, false),
            system: (0, false),
            command: [0.0; 3],
            command_used: [0.0; 3],
        }
    }

    /// A number from 0 to 1.
    pub(crate) fn random(&mut self) -> f64 {
        self.random = self.random.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (self.random >> 33) as f64 / f64::from(1_u32 << 31)
    }

    /// A span around `mean`, by half of it at most.
    fn span(&mut self, mean: u64) -> u64 {
        (mean as f64 * (0.5 + self.random())) as u64
    }

    pub(crate) fn run_until(&mut self, time: u64) {
        while self.now < time {
            self.step();
        }
    }

    fn step(&mut self) {
        let (now, mut busy) = (self.now, 0);
        let mut charge = |used: &mut u64| {
            *used += STEP;
            busy += 1;
        };
        // CPU 0: the command's processes, each when it is most behind its part.
        let parts = self.command;
        if parts.iter().sum::<f64>() > 0.0 {
            for (used, part) in self.command_used.iter_mut().zip(parts) {
                *used += part;
            }
            let behind = |&a: &usize, &b: &usize| self.command_used[a].total_cmp(&self.command_used[b]);
            if let Some(next) = (0..3).max_by(behind).filter(|&next| self.command_used[next] >= 0.5) {
                self.command_used[next] -= 1.0;
                charge(&mut self.used[next]);
            }
        }
        // CPU 1: the burner, and bursts of the system that come before it.
        if self.system.1 {
            charge(&mut self.used[SYSTEM]);
        } else if self.burner.1 && self.beside == Beside::Burner {
            charge(&mut self.used[BURNER]);
        }
        if now >= self.system.0 {
            self.system.1 = !self.system.1;
            self.system.0 = now + self.span(if self.system.1 { 3 * STEP } else { 20 * MILLISECOND });
        }
        if now >= self.burner.0 {
            self.burner.1 = !self.burner.1;
            self.burner.0 = now + self.span(5 * MILLISECOND);
        }
        self.idle += (2 - busy) * STEP;
        let watts = self.power.idle + self.power.busy * busy as f64;
        self.microjoules += watts * STEP as f64 * 1e-3;
        self.now += STEP;
        if self.now >= self.update {
            self.shown = (self.microjoules / UNIT).floor() * UNIT;
            // Mean 1 ms, standard deviation 0.04 ms, as on a Broadwell server.
            let jitter: f64 = (0..12).map(|_| self.random()).sum::<f64>() - 6.0;
            self.update += (MILLISECOND as f64 * (1.0 + 0.04 * jitter)) as u64;
        }
    }

    /// What the meter shows, in microjoules.
    pub(crate) fn meter(&self) -> u64 {
        self.shown as u64
    }

    /// The true energy of the command's process, in joules.
    pub(crate) fn truth(&self, user: usize) -> f64 {
        self.used[user] as f64 * 1e-9 * self.power.busy
    }
}
