//! A file that is being written. Under a temporary name that no `*.parquet` matches it grows by whole row
//! groups; complete, it gets its own name. So who looks finds complete files only.
//!
//! After each row group a footer is written that covers all of them so far. The next row group follows
//! behind it, and readers of the complete file never look there. A file whose agent was killed is cut off
//! behind the last such footer, and complete with that: see `recovery`.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parquet::errors::ParquetError;
use parquet::file::metadata::{FileMetaData, ParquetMetaData, ParquetMetaDataWriter};
use parquet::file::writer::SerializedFileWriter;
use rustix::fs::{FlockOperation, OFlags, flock};
use wattrace_text_output::Place;

use crate::columns;
use crate::rows::Row;

/// Around a file's name while it is not complete.
pub(crate) const BEFORE: &str = ".";
pub(crate) const BEHIND: &str = ".partial";

/// A file that is being written.
pub(crate) struct PartialFile {
    writer: SerializedFileWriter<File>,
    /// The same file, for what the writer does not do.
    file: File,
    directory: PathBuf,
    name: String,
}

impl PartialFile {
    /// Creates a file that will be called `STEM.parquet`, or `STEM-2.parquet` if that exists, and so on.
    /// Whoever else sees it can tell by its lock that it is being written.
    ///
    /// # Errors
    /// Those of the file system.
    pub(crate) fn create(directory: &Path, stem: &str) -> io::Result<Self> {
        for number in 1.. {
            let suffix = if number == 1 { String::new() } else { format!("-{number}") };
            let name = format!("{stem}{suffix}.parquet");
            if directory.join(&name).try_exists()? {
                continue;
            }
            let place = Place::find(&directory.join(format!("{BEFORE}{name}{BEHIND}")))?;
            let file = match place.open(OFlags::CREATE | OFlags::EXCL | OFlags::RDWR) {
                Err(e) if e.kind() == io::ErrorKind::AlreadyExists => continue,
                opened => opened?,
            };
            flock(&file, FlockOperation::NonBlockingLockExclusive)?;
            let schema = columns::schema().map_err(io_error)?;
            let properties = Arc::new(columns::properties());
            let writer =
                SerializedFileWriter::new(file.try_clone()?, schema, properties).map_err(io_error)?;
            return Ok(Self { writer, file, directory: directory.to_owned(), name });
        }
        Err(io::ErrorKind::AlreadyExists.into())
    }

    /// Writes a row group and a footer, so that both outlive the agent and the machine.
    ///
    /// # Errors
    /// Those of the file system. The file is to be given up then ([`crate::recovery::recover`]).
    pub(crate) fn append(&mut self, rows: &[Row]) -> io::Result<()> {
        columns::write(&mut self.writer, rows).map_err(io_error)?;
        let groups = self.writer.flushed_row_groups().to_vec();
        let rows = groups.iter().map(|group| group.num_rows()).sum();
        let properties = self.writer.properties();
        let metadata = FileMetaData::new(
            properties.writer_version().as_num(),
            rows,
            Some(properties.created_by().to_owned()),
            properties.key_value_metadata().cloned(),
            Arc::new(self.writer.schema_descr().clone()),
            None,
        );
        let mut footer = Vec::new();
        let metadata = ParquetMetaData::new(metadata, groups);
        ParquetMetaDataWriter::new(&mut footer, &metadata).finish().map_err(io_error)?;
        self.writer.write_all(&footer)?;
        self.writer.flush()?;
        self.file.sync_data()
    }

    /// Its size.
    pub(crate) fn bytes(&self) -> u64 {
        self.writer.bytes_written() as u64
    }

    /// Where it is now.
    pub(crate) fn path(&self) -> PathBuf {
        self.directory.join(format!("{BEFORE}{}{BEHIND}", self.name))
    }

    /// Completes it. Returns where it is.
    ///
    /// # Errors
    /// Those of the file system.
    pub(crate) fn complete(self) -> io::Result<PathBuf> {
        // The last footer is all that is needed.
        let path = self.path();
        self.file.sync_all()?;
        give_name(&path, &self.directory, &self.name)
    }
}

/// Renames a complete file, so that it keeps the name after a power cut.
pub(crate) fn give_name(from: &Path, directory: &Path, name: &str) -> io::Result<PathBuf> {
    let path = directory.join(name);
    std::fs::rename(from, &path)?;
    File::open(directory)?.sync_all()?;
    Ok(path)
}

/// An error of the library: what the file system said, if it was that.
pub(crate) fn io_error(error: ParquetError) -> io::Error {
    match error {
        ParquetError::External(cause) => match cause.downcast::<io::Error>() {
            Ok(error) => *error,
            Err(cause) => io::Error::other(cause),
        },
        other => io::Error::other(other),
    }
}
