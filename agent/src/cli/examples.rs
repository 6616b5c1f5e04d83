//! What `--help` says behind the options: examples, and what exit codes mean. `agent/tests/book.rs` runs the
//! examples.

/// Of `wattrace` itself.
pub(super) const WATTRACE: &str = "\
Begin with:
  wattrace doctor
  wattrace exec -- sleep 1
  wattrace run --duration 10s

Tracing needs root, or CAP_BPF, CAP_PERFMON, CAP_SYS_PTRACE and
CAP_DAC_READ_SEARCH; doctor has the command that gives them.
Messages go to standard error, data to standard output.
Exit codes: 0 done; 1 failed; 2 the command line or the configuration is
wrong. `wattrace COMMAND --help` names others.";

pub(super) const RUN: &str = "\
Examples:
  wattrace run --duration 10s
  wattrace run -s plugins.jsonl.path=energy.jsonl
  wattrace run -s plugins.sqlite.path=energy.db
  wattrace run -s plugins.prometheus.enabled=true

Without --duration it runs until Ctrl-C or SIGTERM; SIGHUP reads the
configuration again. `wattrace config init` writes all keys, explained.
Exit code 1: nothing can be measured, a plugin that was asked for failed from
start to end, or an output has lost its totals.";

pub(super) const EXEC: &str = "\
Examples:
  wattrace exec -- make -j8
  wattrace exec --format json --output report.json -- ./bench
  wattrace exec --repeat 5 --warmup 1 -- ./bench
  wattrace exec --budget 50J -- ./bench

The report goes to standard error, JSON to standard output. Joules that are
not measured by a meter are labelled (estimated).
Exit codes: the command's; 128 + N: signal N ended it; 3: --max-joules or
--budget was exceeded; 125: wattrace failed; 126: the command cannot be
executed; 127: it was not found.";

pub(super) const WATCH: &str = "\
Examples:
  wattrace watch --duration 10s 1
  wattrace watch postgres
  wattrace watch unit:nginx
  wattrace watch --format json --output report.json container:web

A pid is watched with its descendants and until it ends; a name until Ctrl-C;
a unit, a container or a cgroup until it has no more processes.
Exit codes: 1: there is no such process, or nothing can be measured.";

pub(super) const TOP: &str = "\
Examples:
  wattrace top --once
  wattrace top --once --by program --format json

On a terminal it runs until q; ? shows the keys. It shows the points of a
running agent, and traces by itself if there is none.
Exit code 1: nothing can be measured, or the agent may not be asked.";

pub(super) const DOCTOR: &str = "\
Examples:
  wattrace doctor
  wattrace doctor --report findings.json
  wattrace doctor --fix
  wattrace doctor --config wattrace.toml

ok: as it should be; without: missing and not needed; MISSING: needed.
Exit code 1: an enabled plugin cannot work here.";

#[cfg(feature = "sqlite")]
pub(super) const VIEW: &str = "\
Examples:
  wattrace view energy.db
  wattrace view --port 8000 energy.db
  wattrace view --socket /run/wattrace/control.sock

Prints the page's address, and serves it on this machine until Ctrl-C. The
address has a token that keeps other users out. A database comes from
`wattrace run -s plugins.sqlite.path=energy.db`; without one, the page shows
the running agent. `wattrace exec --html report.html` writes such a page.
Exit code 1: no such database, no agent, or the port is taken.";

#[cfg(all(feature = "sched", feature = "estimate"))]
pub(super) const CALIBRATE: &str = "\
Examples:
  wattrace calibrate
  wattrace calibrate --duration 5min --output xeon.toml

Loads the CPUs step by step: run it on a machine that has a meter and does
nothing else. On a machine without one, with the same processors, the key
plugins.estimate.profile names the file.
Exit code 1: no meter, or nothing can be measured.";

pub(super) const COMPARE: &str = "\
Examples:
  wattrace compare --runs 6 './bench' 'nice ./bench'
  wattrace compare --git main..HEAD --build 'make' './bench'
  wattrace compare --max-increase 2% before.json after.json

Runs are made in pairs, each in random order, until the question is answered.
Exit codes: 3: a gate was exceeded; 4: with --strict, the noise was too large
to decide; 1: a command, a build or the measurement failed.";

#[cfg(feature = "sqlite")]
pub(super) const QUERY: &str = "\
Examples:
  wattrace query --db energy.db
  wattrace query --db energy.db --from -2h --by unit
  wattrace query --db energy.db --from yesterday --to today --by user
  wattrace query --db energy.db --format json

The rows sum to what the meters counted in the span.";

pub(super) const CONTROL: &str = "\
Examples:
  wattrace control status
  wattrace control status 'output/*'
  wattrace control set-interval 'source/sched/*' 500ms
  wattrace control reload

An ELEMENT is kind/plugin/element, with * for any text. Only the agent's user
and root may connect.
Exit codes: 1: no agent listens, no element matches, or not in time; 2: the
request is wrong.";

pub(super) const CONFIG: &str = "\
Examples:
  wattrace config init
  wattrace config check --config wattrace.toml
  wattrace config show --set plugins.rapl.interval=100ms";

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    /// The words of a line, as a shell takes them apart.
    fn words(line: &str) -> Vec<String> {
        let parts = line.split('\'').enumerate();
        let words = parts.flat_map(|(number, part)| match number % 2 {
            0 => part.split_whitespace().map(str::to_owned).collect::<Vec<_>>(),
            _ => vec![part.to_owned()],
        });
        words.collect()
    }

    #[test]
    fn every_example_of_every_command_is_a_command_line() {
        let mut cli = crate::cli::Cli::command();
        cli.build();
        let mut helps = vec![(String::new(), cli.get_after_help().map(ToString::to_string))];
        helps.extend(cli.get_subcommands().map(|command| {
            (command.get_name().to_owned(), command.get_after_help().map(ToString::to_string))
        }));
        let without: Vec<_> = helps.iter().filter(|(_, help)| help.is_none()).map(|(name, _)| name).collect();
        assert_eq!(without, ["plugins", "completions", "man", "help"], "commands without examples");
        let mut count = 0;
        for (name, help) in helps {
            for line in help.iter().flat_map(|help| help.lines()) {
                let Some(example) = line.strip_prefix("  ").filter(|line| line.starts_with("wattrace "))
                else {
                    continue;
                };
                let is_own = name.is_empty() || example.starts_with(&format!("wattrace {name}"));
                assert!(is_own, "{name}: {example}");
                let parsed = cli.clone().try_get_matches_from(words(example));
                assert!(parsed.is_ok(), "{name}: {example}: {}", parsed.unwrap_err());
                count += 1;
            }
        }
        assert!(count > 25, "only {count} examples");
    }
}
