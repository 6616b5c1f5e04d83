//! Leaves a file for a new one, under a name of its own. The file is renamed before lines are written, and
//! they begin the new one, so no line is lost or doubled. `archive` compresses and deletes what was left.

use std::io;

use crate::archive::{Archive, Names};
use crate::output_path::OutputPath;
use crate::place::Place;
use crate::rotation::Rotation;

/// Rotates one output's file.
pub(crate) struct Rotator {
    rotation: Rotation,
    path: OutputPath,
    archive: Archive,
    /// The last name's time, in seconds since the Unix epoch: names ascend, even if the clock is set back.
    last: u64,
}

impl Rotator {
    /// For the file at `path`, which is open. Takes up what an earlier run left.
    pub(crate) fn new(rotation: Rotation, path: OutputPath) -> Self {
        let archive = Archive::start(rotation, path.clone());
        archive.tidy();
        Self { rotation, path, archive, last: 0 }
    }

    /// Whether a file of `size` bytes, begun at `began`, is to be left at `now`.
    pub(crate) fn is_due(&self, size: u64, began: u64, now: u64) -> bool {
        self.rotation.is_due(size, began, now)
    }

    /// Renames the file. Its old name is free then.
    ///
    /// # Errors
    /// Those of the file system.
    pub(crate) fn rename(&mut self, now: u64) -> io::Result<Renamed> {
        let place = Place::find(&self.path.path)?;
        let names = Names::of(&place);
        let newest = names.list(&place)?.last().map_or(0, |rotated| rotated.second);
        let second = (now / 1_000_000_000).max(self.last + 1).max(newest + 1);
        let away = place.sibling(names.name(second).into())?;
        place.rename_to(&away)?;
        self.last = second;
        Ok(Renamed { place, away })
    }

    /// The renamed file is closed: it can be compressed.
    pub(crate) fn left(&self) {
        self.archive.tidy();
    }
}

/// A file that has been renamed.
pub(crate) struct Renamed {
    place: Place,
    away: Place,
}

impl Renamed {
    /// Gives it its old name again, if that is still free.
    pub(crate) fn undo(self) {
        // Otherwise the file is followed to the path, as if somebody else had renamed it.
        let _: io::Result<()> = self.away.rename_to(&self.place);
    }
}
