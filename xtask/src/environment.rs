//! Which environment variables programs started from here inherit. `cargo xtask` is itself started by cargo,
//! whose variables speak of xtask and of the toolchain that built it, neither of which is any business of the
//! eBPF build.

use std::env;
use std::process::Command;

/// The cargo that started us, with everything the user set for it. Variables about xtask are removed: some
/// build scripts depend on them, and would run again whenever cargo is called by hand after xtask.
pub(crate) fn host_cargo() -> Command {
    let mut cargo = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.current_dir(crate::workspace::root());
    forget(&mut cargo, of_xtask);
    cargo
}

/// Takes away what the cargo that started us added.
pub(crate) fn forget_cargo(command: &mut Command) -> &mut Command {
    forget(command, added_by_cargo)
}

/// Takes that away, and what the user set to choose or steer the compiler of the host.
pub(crate) fn forget_host_toolchain(command: &mut Command) -> &mut Command {
    forget(command, |name| added_by_cargo(name) || steers_compiler(name))
}

fn forget(command: &mut Command, which: impl Fn(&str) -> bool) -> &mut Command {
    for (name, _) in env::vars_os() {
        if name.to_str().is_some_and(&which) {
            command.env_remove(name);
        }
    }
    command
}

fn added_by_cargo(name: &str) -> bool {
    of_xtask(name) || matches!(name, "CARGO" | "RUST_RECURSION_COUNT") || name.starts_with("RUSTUP_TOOLCHAIN")
}

fn of_xtask(name: &str) -> bool {
    ["CARGO_MANIFEST_", "CARGO_PKG_"].iter().any(|prefix| name.starts_with(prefix))
}

fn steers_compiler(name: &str) -> bool {
    matches!(name, "RUSTFLAGS" | "RUSTDOCFLAGS" | "CARGO_ENCODED_RUSTFLAGS" | "CARGO_INCREMENTAL")
        || ["RUSTC", "CARGO_BUILD_", "CARGO_PROFILE_", "CARGO_TARGET_", "CARGO_UNSTABLE_"]
            .iter()
            .any(|prefix| name.starts_with(prefix))
}

/// The set variables that tell the agent something, for sudo to keep.
pub(crate) fn of_agent(names: impl Iterator<Item = String>) -> Vec<String> {
    let mut kept: Vec<_> = names
        .filter(|name| {
            matches!(name.as_str(), "NO_COLOR" | "TRACEPARENT" | "TRACESTATE")
                || ["OTEL_", "WATTRACE_", "RUST_LOG", "RUST_BACKTRACE"].iter().any(|p| name.starts_with(p))
        })
        .collect();
    kept.sort();
    kept
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ebpf_build_sees_no_compiler_but_its_own() {
        let leaks = |name: &str| added_by_cargo(name) || steers_compiler(name);
        for name in [
            "CARGO",
            "CARGO_MANIFEST_DIR",
            "CARGO_MANIFEST_PATH",
            "CARGO_PKG_VERSION",
            "CARGO_ENCODED_RUSTFLAGS",
            "CARGO_TARGET_DIR",
            "CARGO_BUILD_TARGET",
            "CARGO_BUILD_RUSTC_WRAPPER",
            "CARGO_PROFILE_RELEASE_DEBUG",
            "RUSTC",
            "RUSTC_WRAPPER",
            "RUSTC_BOOTSTRAP",
            "RUSTFLAGS",
            "RUSTUP_TOOLCHAIN",
        ] {
            assert!(leaks(name), "{name}");
        }
        for name in [
            "PATH",
            "HOME",
            "CARGO_HOME",
            "CARGO_HTTP_CAINFO",
            "CARGO_NET_OFFLINE",
            "RUSTUP_HOME",
            "RUST_LOG",
        ] {
            assert!(!leaks(name), "{name}");
        }
    }

    #[test]
    fn what_a_traced_command_was_given_stays() {
        assert!(!added_by_cargo("RUSTFLAGS") && !added_by_cargo("CARGO_TARGET_DIR"));
    }

    #[test]
    fn cargo_is_called_with_its_toolchain_but_without_our_package() {
        let forgotten: Vec<_> = host_cargo()
            .get_envs()
            .filter(|(_, value)| value.is_none())
            .map(|(name, _)| name.to_str().unwrap().to_owned())
            .collect();
        assert!(forgotten.contains(&"CARGO_MANIFEST_DIR".to_owned()), "{forgotten:?}");
        assert!(forgotten.iter().all(|name| of_xtask(name)), "{forgotten:?}");
    }

    #[test]
    fn sudo_keeps_what_speaks_to_the_agent() {
        let names = ["PATH", "OTEL_EXPORTER_OTLP_ENDPOINT", "LD_PRELOAD", "NO_COLOR"].map(String::from);
        assert_eq!(of_agent(names.into_iter()), ["NO_COLOR", "OTEL_EXPORTER_OTLP_ENDPOINT"]);
    }
}
