//! The death of a program at an exact point: before its n-th change to certain files.
//!
//! The programs know nothing of it: a library that is preloaded into them counts what they do to files (`death/die_at_change.c`), and
//! takes back what a power cut would (`death/unsynced.c`). It can also tell the program that its disk is full, of which it has to end
//! by itself. Where there is no glibc, there is nothing to preload it into.

use std::{fs, path::Path};

use crate::preload::{self, text};

/// What preloads, counts and takes back.
const SOURCES: [(&str, &str); 3] = [
    ("die_at_change.c", include_str!("death/die_at_change.c")),
    ("unsynced.c", include_str!("death/unsynced.c")),
    ("unsynced.h", include_str!("death/unsynced.h")),
];
const LIBRARY: &str = "die_at_change.so";
/// Where files are that a program removed without syncing the folder they were in.
const REMOVED: &str = "removed-unsynced";

/// When a program dies, and by what.
#[derive(Clone, Copy, Debug)]
pub struct Death {
    /// Before which change, counted from 1.
    pub at: u32,
    /// What the paths of the files have in them whose changes count.
    pub below: &'static str,
    /// What else it takes.
    pub by: Cause,
}

/// What a program dies of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// `kill -9`: what it wrote stays.
    Kill,
    /// Its machine loses power: whatever it did not sync is lost, in files and in folders.
    PowerCut,
    /// The same on a file system that has names on disk before what is under them: unsynced contents are lost, and no more.
    TornNames,
    /// Nothing takes room any more: it ends by itself, or it had nothing more to write. It says [`DISK_IS_FULL`] when that begins.
    FullDisk,
}

/// What is in the output of a program of [`Cause::FullDisk`] that came to the point from which its disk was full.
pub const DISK_IS_FULL: &str = "from now on the disk is full";

impl Cause {
    /// Every cause that is sudden.
    pub const SUDDEN: [Self; 3] = [Self::Kill, Self::PowerCut, Self::TornNames];

    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Kill => "kill",
            Self::PowerCut => "power-cut",
            Self::TornNames => "torn-names",
            Self::FullDisk => "full-disk",
        }
    }
}

impl Death {
    /// The environment of a program that is to die, with the library in `folder`, below which all of its files are.
    ///
    /// # Panics
    /// Panics with the compiler's words if the library cannot be made.
    pub(crate) fn environment(&self, folder: &Path) -> [(&'static str, String); 6] {
        let (library, removed) = (folder.join(LIBRARY), folder.join(REMOVED));
        if !library.exists() {
            preload::compile(folder, &library, &SOURCES);
            fs::create_dir(&removed).expect("the temporary folder can be written to");
        }
        [
            ("LD_PRELOAD", text(&library)),
            ("FOEDUS_DIE_AT", self.at.to_string()),
            ("FOEDUS_DIE_BELOW", self.below.to_owned()),
            ("FOEDUS_DIE_BY", self.by.name().to_owned()),
            ("FOEDUS_DIE_ROOT", text(folder)),
            ("FOEDUS_DIE_REMOVED", text(&removed)),
        ]
    }
}
