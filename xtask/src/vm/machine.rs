//! One virtual machine: boots a kernel into the tests and returns what they printed. The kernel's messages
//! have a serial port of their own, so that neither garbles the other.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result};

use super::architecture::Architecture;
use super::emulator::Emulator;
use super::kernels::Image;
use crate::process::read;
use crate::workspace;

/// What a machine looks like: two packages of two cores of two hardware threads.
const TOPOLOGY: &str = "8,sockets=2,cores=2,threads=2";
/// After this many seconds a machine hangs.
const PATIENCE: &str = "900";
/// A reboot (which ends the machine) instead of standing still after a panic, few messages. What protects
/// from speculation is slow to emulate.
const KERNEL: &str = "panic=-1 quiet mitigations=off";
/// What in the kernel's messages is a fault: a kernel program must not make the kernel complain.
const COMPLAINTS: [&str; 6] =
    ["BUG: ", "WARNING: ", "Kernel panic", "Oops: ", "self-detected stall", "blocked for more than"];

/// What a machine left.
pub(crate) struct Ran {
    /// What the tests printed.
    pub(crate) printed: String,
    /// What went wrong with the machine itself.
    pub(crate) faults: Vec<String>,
}

/// Boots `image` with `archive` as its file system, and waits until it powers off.
pub(crate) fn run(emulator: &Emulator, image: &Image, archive: &Path, accel: &str) -> Result<Ran> {
    let file = |kind: &str| workspace::vm().join(format!("{}.{kind}", image.series));
    let (console, printed) = (file("console"), file("tests"));
    for old in [&console, &printed] {
        fs::write(old, "").with_context(|| format!("cannot write {}", old.display()))?;
    }
    let architecture = image.series.architecture;
    // In the foreground, so that an interrupt reaches the machine as well.
    let mut qemu = Command::new("timeout");
    let (program, environment) = emulator.program();
    qemu.args(["--foreground", "--kill-after=5", PATIENCE])
        .arg(program)
        .envs(environment)
        .args(emulator.firmware())
        .args(["-nodefaults", "-no-user-config", "-display", "none", "-no-reboot"])
        .args(["-accel", accel, "-smp", TOPOLOGY, "-m", "2G"])
        .args(architecture.board())
        .args(["-serial", &format!("file:{}", console.display())])
        .args(architecture.second_port(&printed))
        .args(["-append", &command_line(image), "-kernel"])
        .arg(&image.path)
        .arg("-initrd")
        .arg(archive);
    let ended = read(&mut qemu);
    let mut faults = complaints(&text(&console)?, architecture);
    if let Err(error) = ended {
        faults.push(format!("it did not power off by itself (124: not within {PATIENCE} s): {error:#}"));
    }
    Ok(Ran { printed: text(&printed)?, faults })
}

fn command_line(image: &Image) -> String {
    let lockdown = if image.series.lockdown { " lockdown=confidentiality" } else { "" };
    format!("{} {KERNEL}{lockdown}", image.series.architecture.parameters())
}

fn text(path: &Path) -> Result<String> {
    let bytes = fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// The lines of the kernel's messages that tell a fault, except of the board.
fn complaints(console: &str, architecture: Architecture) -> Vec<String> {
    let of_board = |line: &str| architecture.faults_of_board().iter().any(|fault| line.contains(fault));
    let is_one = |line: &&str| COMPLAINTS.iter().any(|complaint| line.contains(complaint)) && !of_board(line);
    console.lines().filter(is_one).map(|line| format!("the kernel says: {line}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn complaints_of_the_kernel_are_found_and_mere_mentions_are_not() {
        let console = "[    0.1] AMD-Vi: functionality not available on this system - This is not a bug.\r\n\
                       [    4.2] BUG: scheduling while atomic: kernel/71/0x2\r\n\
                       [   46.7] reboot: Power down\r\n";
        assert_eq!(
            complaints(console, Architecture::Amd64),
            ["the kernel says: [    4.2] BUG: scheduling while atomic: kernel/71/0x2"]
        );
    }

    #[test]
    fn a_fault_of_the_board_of_one_architecture_is_no_fault_of_the_kernel_and_elsewhere_it_is() {
        let console = "[    0.5] BUG: arch topology borken\r\n\
                       [    0.6]      the SMT domain not a subset of the MC domain\r\n\
                       [    4.2] BUG: scheduling while atomic: kernel/71/0x2\r\n";
        let atomic = "the kernel says: [    4.2] BUG: scheduling while atomic: kernel/71/0x2";
        assert_eq!(complaints(console, Architecture::Arm64), [atomic]);
        assert_eq!(
            complaints(console, Architecture::Amd64),
            ["the kernel says: [    0.5] BUG: arch topology borken", atomic]
        );
    }
}
