//! A cpio archive of files and the folders they are in, as the kernel unpacks it into its first file system.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use cpio::newc::{Builder, ModeFileType, trailer};

/// A file of an archive.
pub(crate) struct Entry {
    name: PathBuf,
    mode: u32,
    content: Vec<u8>,
}

impl Entry {
    /// A file with `content`.
    pub(crate) fn new(name: &str, mode: u32, content: impl Into<Vec<u8>>) -> Self {
        Self { name: name.into(), mode, content: content.into() }
    }

    /// The file at `path`, links followed, as `name`.
    pub(crate) fn read(path: &Path, name: &Path) -> Result<Self> {
        let read = || Ok::<_, std::io::Error>((fs::read(path)?, fs::metadata(path)?.permissions().mode()));
        let (content, mode) = read().with_context(|| format!("cannot read {}", path.display()))?;
        Ok(Self { name: name.to_owned(), mode: mode & 0o777, content })
    }
}

/// Writes an archive of `entries`, whose names are absolute.
pub(crate) fn write(archive: &Path, entries: Vec<Entry>) -> Result<()> {
    let mut out = BufWriter::new(File::create(archive)?);
    let mut folders = BTreeSet::new();
    for entry in entries {
        let name = entry.name.strip_prefix("/")?;
        // The kernel makes no folders by itself. Outermost first; the last of the ancestors is the root.
        let mut above: Vec<_> = name.ancestors().skip(1).collect();
        above.pop();
        for folder in above.into_iter().rev() {
            if folders.insert(folder.to_owned()) {
                let builder = header(folder, 0o755, ModeFileType::Directory);
                builder.write(&mut out, 0).finish()?;
            }
        }
        let size = u32::try_from(entry.content.len()).context("a file of 4 GiB or more")?;
        let mut file = header(name, entry.mode, ModeFileType::Regular).write(&mut out, size);
        file.write_all(&entry.content)?;
        file.finish()?;
    }
    trailer(&mut out)?.flush().map_err(Into::into)
}

fn header(name: &Path, mode: u32, kind: ModeFileType) -> Builder {
    Builder::new(&name.to_string_lossy()).mode(mode).set_mode_file_type(kind)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folders_come_once_and_before_what_is_in_them() {
        let path = std::env::temp_dir().join(format!("wattrace-xtask-{}.cpio", std::process::id()));
        let entries = vec![
            Entry::new("/init", 0o755, "#!"),
            Entry::new("/usr/bin/seq", 0o755, "seq"),
            Entry::new("/usr/bin/true", 0o644, "true"),
        ];
        write(&path, entries).unwrap();
        let mut list = Vec::new();
        let mut rest = File::open(&path).unwrap();
        loop {
            let mut reader = cpio::newc::Reader::new(rest).unwrap();
            if reader.entry().is_trailer() {
                break;
            }
            let (name, mode) = (reader.entry().name().to_owned(), reader.entry().mode());
            let mut content = String::new();
            std::io::Read::read_to_string(&mut reader, &mut content).unwrap();
            list.push(format!("{name} {mode:o} {content}"));
            rest = reader.finish().unwrap();
        }
        fs::remove_file(&path).unwrap();
        assert_eq!(
            list,
            [
                "init 100755 #!",
                "usr 40755 ",
                "usr/bin 40755 ",
                "usr/bin/seq 100755 seq",
                "usr/bin/true 100644 true"
            ]
        );
    }

    #[test]
    fn a_file_that_is_not_there_is_named() {
        let Err(error) = Entry::read(Path::new("/no/such"), Path::new("/x")) else { panic!("it was read") };
        assert!(error.to_string().contains("/no/such"), "{error}");
    }
}
