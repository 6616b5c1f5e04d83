//! A container image: the agent, the libraries it is linked with, certificates of authorities, and nothing
//! else. It runs as a user of its own; the agent's file has the capabilities that it needs, and uses those
//! of them that the container is given.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use super::Release;
use super::tarball::tar;
use super::tree::{Tree, install, write};
use crate::process::{as_root, run_quietly};
use crate::vm::libraries;

/// Permitted and not effective: the agent starts without them too, and says what is missing.
const CAPABILITIES: &str = "cap_bpf,cap_perfmon,cap_sys_ptrace,cap_dac_read_search+p";
/// The user and the group, by number, so that Kubernetes can tell that it is not root.
const USER: &str = "65532";
/// Directories that belong to that user: the state, the control socket, and where relative paths begin.
const OWN: [&str; 2] = ["run/wattrace", "var/lib/wattrace"];
const AUTHORITIES: &str = "etc/ssl/certs/ca-certificates.crt";
/// Older libraries that NVIDIA's, which a runtime mounts, is linked with.
const OF_NVML: [&str; 3] = ["libdl.so.2", "libpthread.so.0", "librt.so.1"];

/// Makes the image; returns the path of its archive.
pub(super) fn make(tree: &Tree, release: &Release) -> Result<PathBuf> {
    let root = release.output.join("image");
    if root.exists() {
        // The agent's file in it may belong to root.
        run_quietly(as_root("rm").arg("-rf").arg(&root))?;
    }
    let agent = stage(tree, &root)?;
    run_quietly(as_root("setcap").arg(CAPABILITIES).arg(&agent))?;

    let layer = release.output.join("layer.tar");
    let mut archive = tar(release);
    archive.args(["--xattrs", "--xattrs-include=security.capability", "--create", "--file"]).arg(&layer);
    run_quietly(archive.args(["--exclude=./run", "--exclude=./var", "--directory"]).arg(&root).arg("."))?;
    let mut own = tar(release);
    own.args(["--owner", USER, "--group", USER, "--mode=0700", "--append", "--file"]).arg(&layer);
    run_quietly(own.arg("--directory").arg(&root).args(OWN))?;
    let archive = import(tree, release, &layer)?;
    fs::remove_file(&layer).with_context(|| format!("cannot remove {}", layer.display()))?;
    Ok(archive)
}

/// Stages the image's files below `root`; returns the path of the agent.
fn stage(tree: &Tree, root: &Path) -> Result<PathBuf> {
    let agent = root.join("usr/bin/wattrace");
    install(&tree.root.join("usr/bin/wattrace"), &agent, 0o755)?;
    let libraries = libraries(&agent);
    let Some(libc) = libraries.iter().find(|path| path.ends_with("libc.so.6")) else {
        bail!("an image is made on a machine of its own architecture: ldd finds no libraries of {agent:?}");
    };
    let of_nvml = OF_NVML.map(|name| libc.with_file_name(name));
    for library in libraries.iter().chain(of_nvml.iter().filter(|library| library.exists())) {
        install(library, &root.join(library.strip_prefix("/")?), 0o755)?;
    }
    let authorities = Path::new("/").join(AUTHORITIES);
    install(&authorities, &root.join(AUTHORITIES), 0o644).context("install the package ca-certificates")?;
    for license in ["LICENSE-MIT", "LICENSE-APACHE", "copyright"] {
        let path = Path::new("usr/share/doc/wattrace").join(license);
        install(&tree.root.join(&path), &root.join(&path), 0o644)?;
    }
    write(&root.join("etc/passwd"), format!("wattrace:x:{USER}:{USER}::/var/lib/wattrace:\n").as_bytes())?;
    write(&root.join("etc/group"), format!("wattrace:x:{USER}:\n").as_bytes())?;
    for directory in OWN {
        let directory = root.join(directory);
        fs::create_dir_all(&directory).with_context(|| format!("cannot make {}", directory.display()))?;
    }
    Ok(agent)
}

/// Makes an OCI archive of the layer, with Podman and a store of its own.
fn import(tree: &Tree, release: &Release, layer: &Path) -> Result<PathBuf> {
    let name = format!("wattrace:{}", release.version);
    let archive =
        release.output.join(format!("wattrace-{}-{}.oci.tar", release.version, tree.machine.debian));
    if archive.exists() {
        fs::remove_file(&archive).with_context(|| format!("cannot replace {}", archive.display()))?;
    }
    let store = release.output.join("store");
    let podman = || {
        let mut podman = as_root("podman");
        podman.arg("--root").arg(store.join("root")).arg("--runroot").arg(store.join("run"));
        podman.args(["--storage-driver", "vfs", "--events-backend", "file"]);
        podman
    };
    let changes = [
        format!("USER {USER}:{USER}"),
        "WORKDIR /var/lib/wattrace".to_owned(),
        r#"ENTRYPOINT ["/usr/bin/wattrace"]"#.to_owned(),
        r#"CMD ["run"]"#.to_owned(),
        "LABEL org.opencontainers.image.title=Wattrace".to_owned(),
        format!("LABEL org.opencontainers.image.version={}", release.version),
        "LABEL org.opencontainers.image.licenses=MIT-OR-Apache-2.0".to_owned(),
        "LABEL org.opencontainers.image.source=https://github.com/wattrace/wattrace".to_owned(),
    ];
    let mut import = podman();
    import.args(["import", "--quiet", "--os", "linux", "--arch", tree.machine.debian]);
    for change in &changes {
        import.arg("--change").arg(change);
    }
    run_quietly(import.arg(layer).arg(&name))?;
    let mut save = podman();
    save.args(["save", "--quiet", "--format", "oci-archive", "--output"]).arg(&archive);
    run_quietly(save.arg(&name))?;
    run_quietly(as_root("rm").arg("-rf").arg(&store))?;
    Ok(archive)
}
