//! Where a configured path leads, without following a symbolic link that somebody else may have put there.
//!
//! The agent often runs as root, and a file to write may lie in a directory such as /tmp. Whoever can write
//! that directory could make the path lead to any file. So a link in a directory that others can write is
//! refused, wherever it stands in the path; links elsewhere (/var/run, /dev/stdout) are followed. `file` and
//! the plugin `sqlite` open what is found.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};

use rustix::fs::{
    AtFlags, Dir, DirEntry, FileType, Mode, OFlags, RenameFlags, Stat, fstat, fstatfs, openat, readlinkat,
    renameat, renameat_with, statat, unlinkat,
};

/// Most links in a path, as in the kernel.
const MOST_LINKS: u32 = 40;
/// The file system of /proc, in whose links the kernel finds what no path names (a pipe).
const PROC: u64 = 0x9fa0;

/// Permissions of a new file: its owner writes, its group reads.
const NEW_FILE: Mode = Mode::from_bits_retain(0o640);

/// A directory, and the name of a file in it, which need not exist.
#[derive(Debug)]
pub struct Place {
    directory: OwnedFd,
    resolved: PathBuf,
    name: OsString,
    /// Whether the name is a link of /proc, which only the kernel can follow.
    is_kernel_link: bool,
}

impl Place {
    /// Finds where `path` leads.
    ///
    /// # Errors
    /// Those of the directories on the way; a link in a directory that others can write.
    pub fn find(path: &Path) -> io::Result<Self> {
        let here = if path.is_absolute() { PathBuf::from("/") } else { std::env::current_dir()? };
        let (directory, name) = (open_directory(&here)?, OsString::new());
        let mut place = Self { directory, resolved: here, name, is_kernel_link: false };
        let mut links = 0;
        // What is left of the path, its next part last.
        let mut left = parts(path);
        while let Some(part) = left.pop() {
            place.name = part;
            if place.enter_if_root_or_parent()? {
                continue;
            }
            let is_link = place.stat()?.is_some_and(|stat| kind(&stat) == FileType::Symlink);
            if is_link {
                place.refuse_if_others_write()?;
                links += 1;
                if links > MOST_LINKS {
                    return Err(rustix::io::Errno::LOOP.into());
                }
                place.is_kernel_link = fstatfs(&place.directory)?.f_type as u64 == PROC;
                if !place.is_kernel_link {
                    let target = readlinkat(&place.directory, &place.name, Vec::new())?;
                    left.extend(parts(Path::new(OsStr::from_bytes(target.as_bytes()))));
                    continue;
                }
            }
            if left.is_empty() {
                return Ok(place);
            }
            place.enter()?;
        }
        Err(io::Error::new(io::ErrorKind::IsADirectory, "it names a directory"))
    }

    /// The path of what was found; apart from its last part it leads through no link.
    pub fn path(&self) -> PathBuf {
        self.resolved.join(&self.name)
    }

    /// The kind of what is there now; `None` if there is nothing.
    ///
    /// # Errors
    /// Those of the system call.
    pub fn kind(&self) -> io::Result<Option<FileType>> {
        let flags = if self.is_kernel_link { AtFlags::empty() } else { AtFlags::SYMLINK_NOFOLLOW };
        match statat(&self.directory, &self.name, flags) {
            Ok(stat) => Ok(Some(kind(&stat))),
            Err(rustix::io::Errno::NOENT) => Ok(None),
            Err(e) => Err(e.into()),
        }
    }

    /// Opens it. A new file is readable by its owner and group alone.
    ///
    /// # Errors
    /// Those of the system call.
    pub fn open(&self, flags: OFlags) -> io::Result<File> {
        let no_link = if self.is_kernel_link { OFlags::empty() } else { OFlags::NOFOLLOW };
        let flags = flags | no_link | OFlags::CLOEXEC | OFlags::NOCTTY;
        Ok(openat(&self.directory, &self.name, flags, NEW_FILE)?.into())
    }

    /// The file `name` in the same directory.
    ///
    /// # Errors
    /// Those of the system call.
    pub fn sibling(&self, name: OsString) -> io::Result<Self> {
        let (directory, resolved) = (self.directory.try_clone()?, self.resolved.clone());
        Ok(Self { directory, resolved, name, is_kernel_link: false })
    }

    /// The names of all files in the directory.
    ///
    /// # Errors
    /// Those of the system calls.
    pub fn siblings(&self) -> io::Result<Vec<OsString>> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let directory = Dir::new(openat(&self.directory, ".", flags, Mode::empty())?)?;
        let name = |entry: rustix::io::Result<DirEntry>| {
            Ok(OsStr::from_bytes(entry?.file_name().to_bytes()).to_owned())
        };
        directory.map(name).collect()
    }

    /// Gives it another name, which must be free.
    ///
    /// # Errors
    /// Those of the system call.
    pub fn rename_to(&self, to: &Self) -> io::Result<()> {
        let rename =
            renameat_with(&self.directory, &self.name, &to.directory, &to.name, RenameFlags::NOREPLACE);
        match rename {
            // Some file systems cannot check it in the same step.
            Err(rustix::io::Errno::INVAL) if to.kind()?.is_none() => {
                Ok(renameat(&self.directory, &self.name, &to.directory, &to.name)?)
            }
            result => Ok(result?),
        }
    }

    /// Deletes it.
    ///
    /// # Errors
    /// Those of the system call.
    pub fn remove(&self) -> io::Result<()> {
        Ok(unlinkat(&self.directory, &self.name, AtFlags::empty())?)
    }

    fn stat(&self) -> io::Result<Option<Stat>> {
        match statat(&self.directory, &self.name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => Ok(Some(stat)),
            Err(rustix::io::Errno::NOENT) => Ok(None),
            Err(e) => Err(e.into()),
        }
    }

    /// Goes into the directory that the name is.
    fn enter(&mut self) -> io::Result<()> {
        let no_link = if self.is_kernel_link { OFlags::empty() } else { OFlags::NOFOLLOW };
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC | no_link;
        self.directory = openat(&self.directory, &self.name, flags, Mode::empty())?;
        self.resolved.push(&self.name);
        self.is_kernel_link = false;
        Ok(())
    }

    fn enter_if_root_or_parent(&mut self) -> io::Result<bool> {
        let is_root = self.name == "/";
        if is_root {
            self.resolved = PathBuf::from("/");
        } else if self.name == ".." {
            self.resolved.pop();
        } else {
            return Ok(false);
        }
        let path = if is_root { "/" } else { ".." };
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        self.directory = openat(&self.directory, path, flags, Mode::empty())?;
        Ok(true)
    }

    /// Refuses a link in a directory that somebody beside us and root can write.
    fn refuse_if_others_write(&self) -> io::Result<()> {
        let stat = fstat(&self.directory)?;
        let is_ours = stat.st_uid == 0 || stat.st_uid == rustix::process::geteuid().as_raw();
        if is_ours && stat.st_mode & 0o022 == 0 {
            return Ok(());
        }
        let (path, directory) = (self.path(), &self.resolved);
        Err(io::Error::other(format!(
            "{} is a symbolic link, which is not followed because others can write {}: name the file itself",
            path.display(),
            directory.display()
        )))
    }
}

fn open_directory(path: &Path) -> io::Result<OwnedFd> {
    Ok(rustix::fs::open(path, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?)
}

fn kind(stat: &Stat) -> FileType {
    FileType::from_raw_mode(stat.st_mode)
}

/// The parts of `path`, its first one last; the root is `/`.
fn parts(path: &Path) -> Vec<OsString> {
    let all = path.components().filter(|part| *part != Component::CurDir);
    let mut parts: Vec<_> = all.map(|part| part.as_os_str().to_owned()).collect();
    parts.reverse();
    parts
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::{PermissionsExt, symlink};

    fn mode(path: &Path, mode: u32) {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
    }

    #[test]
    fn links_are_followed_where_nobody_else_can_put_them() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().canonicalize().unwrap();
        std::fs::create_dir_all(root.join("a/b")).unwrap();
        symlink("a/../a/./b", root.join("to-b")).unwrap();
        symlink(root.join("to-b/file"), root.join("to-file")).unwrap();
        assert_eq!(Place::find(&root.join("to-b/file")).unwrap().path(), root.join("a/b/file"));
        assert_eq!(Place::find(&root.join("to-file")).unwrap().path(), root.join("a/b/file"));
        symlink("circle", root.join("circle")).unwrap();
        assert!(Place::find(&root.join("circle")).is_err());
        assert!(Place::find(&root.join("none/file")).is_err());
        assert!(Place::find(Path::new("/")).is_err());
    }

    #[test]
    fn a_link_in_a_directory_that_others_can_write_is_refused_at_any_place_in_the_path() {
        let dir = tempfile::tempdir().unwrap();
        let (shared, target) = (dir.path().join("shared"), dir.path().join("target"));
        std::fs::create_dir_all(&shared).unwrap();
        std::fs::create_dir_all(&target).unwrap();
        symlink(&target, shared.join("directory")).unwrap();
        symlink(target.join("file"), shared.join("file")).unwrap();
        // A link that is ours, into the directory with theirs.
        symlink(shared.join("file"), dir.path().join("ours")).unwrap();
        let paths = [shared.join("directory/file"), shared.join("file"), dir.path().join("ours")];
        for shared_mode in [0o777, 0o1777, 0o775] {
            mode(&shared, shared_mode);
            for path in &paths {
                let error = Place::find(path).unwrap_err().to_string();
                assert!(error.contains("symbolic link") && error.contains("name the file itself"), "{error}");
            }
            assert!(Place::find(&shared.join("plain")).is_ok(), "a file there is no link");
        }
        mode(&shared, 0o755);
        assert!(paths.iter().all(|path| Place::find(path).is_ok()));
    }

    #[test]
    fn standard_output_is_found_through_the_links_of_proc() {
        let place = Place::find(Path::new("/dev/stdout")).unwrap();
        assert!(place.kind().unwrap().is_some());
        let directory = Place::find(Path::new("/proc/self/cwd/file")).unwrap();
        assert_eq!(directory.name, "file");
    }

    #[test]
    fn a_new_file_is_readable_by_its_owner_and_group_alone() {
        let dir = tempfile::tempdir().unwrap();
        let place = Place::find(&dir.path().join("new")).unwrap();
        assert_eq!(place.kind().unwrap(), None);
        let file = place.open(OFlags::CREATE | OFlags::WRONLY).unwrap();
        assert_eq!(file.metadata().unwrap().permissions().mode() & 0o777, 0o640);
        assert_eq!(place.kind().unwrap(), Some(FileType::RegularFile));
    }
}
