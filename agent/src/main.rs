//! The standard agent.

fn main() -> std::process::ExitCode {
    wattrace::Agent::builder().standard_plugins().run()
}
