//! The namespaces in which this process runs, as far as they decide what its rights are worth and what its
//! pids mean, and the remedies in each. `requirements.rs` makes findings of them.

use wattrace_procfs::namespace::{pids_are_private, users_are_private};

/// Where this process runs. The default is the initial namespaces, not as root.
#[derive(Clone, Copy, Debug, Default)]
pub struct Namespaces {
    /// Its user namespace is not the initial one: its capabilities hold only within it.
    pub private_users: bool,
    /// Its PID namespace is not the initial one: the kernel programs know processes by other pids.
    pub private_pids: bool,
    /// Its user id is 0.
    pub is_root: bool,
}

impl Namespaces {
    /// Those of this process.
    pub fn gather() -> Self {
        Self {
            private_users: users_are_private(),
            private_pids: pids_are_private(),
            // SAFETY: the call has no preconditions.
            is_root: unsafe { libc::geteuid() } == 0,
        }
    }

    /// What is found of the pids.
    pub(crate) fn describe_pids(self) -> &'static str {
        match self.private_pids {
            false => "the initial PID namespace",
            true => {
                "a private PID namespace (a container): processes appear with the host's ids, and those that \
                 ran before have no path"
            }
        }
    }

    /// What is found where the permission to load eBPF programs is missing, and the remedy.
    pub(crate) fn without_permission(self) -> (&'static str, &'static str) {
        if self.private_users {
            return (
                "this is a user namespace (a rootless container, or `unshare -U`): its capabilities do not \
                 count for eBPF",
                "run it outside, as root; a container must be started by root, without a user namespace \
                 (`sudo podman run`, Docker without userns-remap)",
            );
        }
        if self.is_root {
            return (
                "root without CAP_BPF and CAP_PERFMON, as in a container",
                "start the container with `--cap-add BPF --cap-add PERFMON --cap-add SYS_PTRACE --cap-add \
                 DAC_READ_SEARCH --pid=host` (Docker, Podman), or with these in \
                 securityContext.capabilities.add and `hostPID: true` (Kubernetes)",
            );
        }
        (
            "neither root nor CAP_BPF with CAP_PERFMON",
            "run with sudo, or once: `sudo setcap \
             cap_bpf,cap_perfmon,cap_sys_ptrace,cap_dac_read_search+ep $(command -v wattrace)`",
        )
    }
}
