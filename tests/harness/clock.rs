//! A wall clock that a test moves while programs run: ahead, and back again, as a wrong time server or a person would.
//!
//! The programs know nothing of it: a library that is preloaded into them moves what the system says (`clock/wall.c`). Time that passes is
//! not touched. Where there is no glibc, there is nothing to preload it into.

use std::{
    fs::OpenOptions,
    io::Write as _,
    path::{Path, PathBuf},
    time::Duration,
};

use crate::preload::{self, text};

const LIBRARY: &str = "wall.so";
const SOURCE: (&str, &str) = ("wall.c", include_str!("clock/wall.c"));

/// One day.
pub const DAY: Duration = Duration::from_hours(24);

/// A clock that programs go by that are started with it.
#[derive(Debug)]
pub struct Clock {
    library: PathBuf,
    moved: PathBuf,
}

impl Clock {
    /// Makes one that is right, in a folder.
    ///
    /// # Panics
    /// Panics if nothing can be written there, or with the compiler's words.
    pub fn create(folder: &Path) -> Self {
        let clock = Self {
            library: folder.join(LIBRARY),
            moved: folder.join("clock"),
        };
        preload::compile(folder, &clock.library, &[SOURCE]);
        clock.write(0);
        clock
    }

    /// Puts it so far ahead of the right time.
    ///
    /// # Panics
    /// Panics if its file cannot be written.
    pub fn put_ahead(&self, by: Duration) {
        self.write(seconds(by));
    }

    /// Puts it so far behind.
    ///
    /// # Panics
    /// Panics if its file cannot be written.
    pub fn put_back(&self, by: Duration) {
        self.write(-seconds(by));
    }

    /// Gives it the right time again.
    ///
    /// # Panics
    /// Panics if its file cannot be written.
    pub fn put_right(&self) {
        self.write(0);
    }

    /// The environment of a program that goes by it.
    pub fn environment(&self) -> [(&'static str, String); 2] {
        [
            ("LD_PRELOAD", text(&self.library)),
            ("FOEDUS_CLOCK", text(&self.moved)),
        ]
    }

    /// In place: the programs have the file mapped, and it must not be empty for a moment.
    fn write(&self, seconds: i64) {
        let mut file = OpenOptions::new();
        let file = file
            .create(true)
            .truncate(false)
            .write(true)
            .open(&self.moved);
        file.and_then(|mut file| file.write_all(&seconds.to_ne_bytes()))
            .expect("the temporary folder can be written to");
    }
}

fn seconds(by: Duration) -> i64 {
    i64::try_from(by.as_secs()).expect("tests move clocks by years")
}
