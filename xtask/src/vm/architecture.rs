//! What differs between machines of the two processor architectures: the emulator, the board, the serial
//! ports and the kernel's parameters.

use std::path::Path;

/// A processor architecture.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Architecture {
    /// 64-bit x86.
    Amd64,
    /// 64-bit Arm.
    Arm64,
}

impl Architecture {
    /// This machine's.
    pub(crate) const HERE: Self = if cfg!(target_arch = "aarch64") { Self::Arm64 } else { Self::Amd64 };

    /// Its name in Debian's packages.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Amd64 => "amd64",
            Self::Arm64 => "arm64",
        }
    }

    /// Its emulator, and the Debian package that has it.
    pub(crate) fn emulator(self) -> (&'static str, &'static str) {
        match self {
            Self::Amd64 => ("qemu-system-x86_64", "qemu-system-x86"),
            Self::Arm64 => ("qemu-system-aarch64", "qemu-system-arm"),
        }
    }

    /// The emulator's options for the board and the processor. Of those that servers have, Arm's is the
    /// newest without pointer authentication, which is slow to emulate.
    pub(crate) fn board(self) -> &'static [&'static str] {
        match self {
            Self::Amd64 => &["-cpu", "max"],
            Self::Arm64 => &["-machine", "virt,gic-version=3", "-cpu", "neoverse-n1"],
        }
    }

    /// The emulator's options for a second serial port that is written to `file`. The board of Arm machines
    /// has one port only.
    pub(crate) fn second_port(self, file: &Path) -> Vec<String> {
        let file = file.display();
        match self {
            Self::Amd64 => vec!["-serial".to_owned(), format!("file:{file}")],
            Self::Arm64 => ["-chardev", &format!("file,id=second,path={file}")]
                .into_iter()
                .chain(["-device", "pci-serial,chardev=second"])
                .map(String::from)
                .collect(),
        }
    }

    /// What a kernel says that finds the board at fault. 6.1 says of Arm's, as it boots and whenever a CPU
    /// goes offline or comes back, that the hardware threads of a core do not share its scheduling domain;
    /// 5.10 and 6.12 do not say so. Nothing that is traced depends on these domains.
    pub(crate) fn faults_of_board(self) -> &'static [&'static str] {
        match self {
            Self::Amd64 => &[],
            Self::Arm64 => &["BUG: arch topology borken"],
        }
    }

    /// The kernel's parameters: the first port for its messages, and for `init.sh`, in its environment, the
    /// second one. Emulated time stamp counters of x86 are in step, but the kernel takes them for unreliable.
    pub(crate) fn parameters(self) -> &'static str {
        match self {
            Self::Amd64 => "console=ttyS0 second_port=/dev/ttyS1 tsc=reliable",
            Self::Arm64 => "console=ttyAMA0 second_port=/dev/ttyS0",
        }
    }
}
