//! Libraries in C that are preloaded into programs under test: made where a test has its files, by the compiler that the README asks for.

use std::{fs, path::Path, process::Command};

/// Makes a library in a folder of these files, each with its name; those that end with ".h" are included by others.
///
/// # Panics
/// Panics with the compiler's words if it cannot be made.
pub(crate) fn compile(folder: &Path, library: &Path, sources: &[(&str, &str)]) {
    for (name, source) in sources {
        fs::write(folder.join(name), source).expect("the temporary folder can be written to");
    }
    let compiled = sources.iter().filter(|(name, _)| name.ends_with(".c"));
    let made = Command::new("cc")
        .args(["-shared", "-fPIC", "-O1", "-o"])
        .arg(library)
        .args(compiled.map(|(name, _)| folder.join(name)))
        .output()
        .expect("the C compiler that the README asks for starts");
    let said = String::from_utf8_lossy(&made.stderr);
    assert!(made.status.success(), "{said}");
}

/// A path as a program's environment has it.
pub(crate) fn text(path: &Path) -> String {
    path.to_str()
        .expect("temporary folders are UTF-8")
        .to_owned()
}
