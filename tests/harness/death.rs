//! The death of a program at an exact point: before its n-th change to certain files, as if by `kill -9`.
//!
//! The programs know nothing of it: a library that is preloaded into them counts what they do to files
//! (`die_at_change.c`). Where there is no glibc, there is nothing to preload it into.

use std::{path::Path, process::Command};

/// What preloads and counts.
const SOURCE: &str = include_str!("die_at_change.c");
const LIBRARY: &str = "die_at_change.so";

/// When a program dies.
#[derive(Clone, Copy, Debug)]
pub struct Death {
    /// Before which change, counted from 1.
    pub at: u32,
    /// What the paths of the files have in them whose changes count.
    pub below: &'static str,
}

impl Death {
    /// The environment of a program that is to die, with the library in `folder`.
    ///
    /// # Panics
    /// Panics with the compiler's words if the library cannot be made.
    pub(crate) fn environment(&self, folder: &Path) -> [(&'static str, String); 3] {
        let library = folder.join(LIBRARY);
        if !library.exists() {
            compile(folder, &library);
        }
        let library = library.to_str().expect("temporary folders are UTF-8");
        [
            ("LD_PRELOAD", library.to_owned()),
            ("FOEDUS_DIE_AT", self.at.to_string()),
            ("FOEDUS_DIE_BELOW", self.below.to_owned()),
        ]
    }
}

fn compile(folder: &Path, library: &Path) {
    let source = folder.join("die_at_change.c");
    std::fs::write(&source, SOURCE).expect("the temporary folder can be written to");
    let made = Command::new("cc")
        .args(["-shared", "-fPIC", "-O1", "-o"])
        .args([library, &source])
        .output()
        .expect("the C compiler that the README asks for starts");
    let said = String::from_utf8_lossy(&made.stderr);
    assert!(made.status.success(), "{said}");
}
