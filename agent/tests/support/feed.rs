//! Points whose values are known, fed to the agent by a program of the plugin `exec`: counters and a gauge,
//! with texts that databases and formats have to escape.

use std::path::Path;
use std::time::SystemTime;

use serde_json::{Value, json};

/// Texts with all that separates, quotes or ends something somewhere.
pub(crate) const TEXTS: [&str; 8] = [
    "plain",
    "two words, and a comma",
    "key=value",
    "say \"hi\" and 'ho'",
    "line\nfeed\tand tab",
    "crab 🦀 früh 日本",
    r"system-a\x2db.slice",
    "100% {braces} [brackets] (x) \\, \\\\ ; NULL \\N",
];

/// Rounds of points.
pub(crate) const ROUNDS: u64 = 150;

/// All points.
pub(crate) const POINTS: usize = ROUNDS as usize * (TEXTS.len() + 1);

/// How many of them are in a file of jsonl.
pub(crate) fn points_in(file: &Path) -> usize {
    std::fs::read_to_string(file).unwrap_or_default().matches("\"metric\":\"fed.").count()
}

/// Microjoules of text number `text` in round `round`: cumulative, and large in one series.
pub(crate) fn microjoules(text: usize, round: u64) -> u64 {
    let offset = if text == 0 { 1_234_567_890_000 } else { 0 };
    offset + round * (text as u64 + 1) * 1_000_003
}

/// Writes the program's lines to `dir`, and returns the agent's arguments that run it: a round every
/// 50 ms.
pub(crate) fn arguments(dir: &Path) -> Vec<String> {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_nanos() as u64;
    let mut lines = String::new();
    let mut say = |line: Value| lines.push_str(&format!("{line}\n"));
    for round in 1..=ROUNDS {
        // Said, so that no two points of a series are in one millisecond.
        let time = now + round * 50_000_000;
        let mut points = Vec::new();
        for (number, text) in TEXTS.iter().enumerate() {
            let microjoules = microjoules(number, round);
            points.push(json!({
                "metric": "fed.energy",
                "value": format_microjoules(microjoules),
                "start_unix_nano": 1_700_000_000_000_000_000_u64,
                "time_unix_nano": time,
                "attributes": { "fed.text": text, "fed.number": number },
            }));
        }
        let temperature = round as f64 / 7.0;
        points.push(json!({ "metric": "fed.temperature", "value": temperature, "time_unix_nano": time }));
        say(json!({ "points": points }));
    }
    let file = dir.join("feed.jsonl");
    std::fs::write(&file, lines).unwrap();
    let script = dir.join("feed.sh");
    std::fs::write(
        &script,
        format!(
            "echo '{{\"wattrace\":\"exec/1\"}}'\n\
             echo '{{\"metric\":{{\"name\":\"fed.energy\",\"unit\":\"J\",\"kind\":\"counter\"}}}}'\n\
             echo '{{\"metric\":{{\"name\":\"fed.temperature\",\"unit\":\"Cel\",\"kind\":\"gauge\"}}}}'\n\
             while IFS= read -r line; do printf '%s\\n' \"$line\"; sleep 0.05; done <'{}'\n\
             while read -r line; do :; done\n",
            file.display()
        ),
    )
    .unwrap();
    let command = format!("[\"sh\", \"{}\"]", script.display());
    let source = format!("[{{ name = \"feed\", command = {command}, pace = \"own\", interval = \"20ms\" }}]");
    vec!["--set".to_owned(), format!("plugins.exec.sources={source}")]
}

/// A number of joules whose decimals are exact.
fn format_microjoules(microjoules: u64) -> Value {
    let text = format!("{}.{:06}", microjoules / 1_000_000, microjoules % 1_000_000);
    serde_json::from_str(&text).unwrap()
}
