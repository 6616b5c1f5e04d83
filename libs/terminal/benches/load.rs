//! What `wattrace top` costs with 10,000 processes that all run: CPU time per second of points, for reading
//! the messages, building up the model and drawing a screen, as a part of one core.

use std::hint::black_box;
use std::time::Duration;

use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use wattrace_terminal::{App, NoFacts, Theme, screen};
use wattrace_viewer::testing::Machine;
use wattrace_viewer::{Message, Model};

const PROCESSES: u32 = 10_000;
const SECONDS: u64 = 20;

/// CPU time of this process.
fn cpu_time() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

fn main() {
    let mut machine = Machine::with_processes(PROCESSES);
    let mut app = App::new(Model::new(Duration::from_secs(1)), "bench", Theme::Dark);
    let area = Rect::new(0, 0, 200, 60);
    let mut buffer = Buffer::empty(area);
    let (mut read, mut applied, mut drawn) = (Duration::ZERO, Duration::ZERO, Duration::ZERO);
    let (mut points, mut bytes, mut first) = (0, 0, Duration::ZERO);
    for second in 0..=SECONDS {
        let lines = machine.second().map(|message| serde_json::to_string(&message).unwrap_or_default());
        let begin = cpu_time();
        let messages: Vec<Message> = lines.iter().filter_map(|l| serde_json::from_str(l).ok()).collect();
        let after_reading = cpu_time();
        messages.iter().for_each(|message| _ = black_box(app.take(message)));
        let after_applying = cpu_time();
        screen::draw(&mut app, &mut NoFacts, area, &mut buffer);
        let end = cpu_time();
        if second == 0 {
            // Everything is described once.
            first = end - begin;
            continue;
        }
        points += messages.iter().map(Message::points).sum::<usize>();
        bytes += lines.iter().map(String::len).sum::<usize>();
        read += after_reading - begin;
        applied += after_applying - after_reading;
        drawn += end - after_applying;
    }
    let of_core = |time: Duration| time.as_secs_f64() / SECONDS as f64 * 100.0;
    let (points, bytes) = (points as u64 / SECONDS, bytes as u64 / SECONDS);
    println!("{PROCESSES} processes, {points} points and {bytes} bytes a second; of one core:");
    for (what, time) in [("read", read), ("apply", applied), ("draw 200x60", drawn)] {
        println!("  {what:<12} {:6.2} %", of_core(time));
    }
    println!("  {:<12} {:6.2} %", "together", of_core(read + applied + drawn));
    println!("the first second, with all descriptions: {first:.1?}");
}
