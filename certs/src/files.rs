//! Files that appear whole or not at all, and private ones that nobody else may read.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use zeroize::Zeroizing;

use crate::IssueError;

/// Who may read a file.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Readers {
    /// Its owner alone: private keys.
    Owner,
    /// Everybody: certificates and lists.
    Everybody,
}

/// Writes a file that is not there yet.
pub(crate) fn create(path: &Path, text: &str, readers: Readers) -> Result<(), IssueError> {
    let draft = Draft::write(path, text, readers)?;
    // A hard link, unlike a rename, fails if the name is taken.
    match fs::hard_link(&draft.0, path) {
        Ok(()) => sync_folder(path),
        Err(cause) if cause.kind() == io::ErrorKind::AlreadyExists => Err(IssueError::Exists {
            path: path.to_owned(),
        }),
        Err(cause) => Err(failed("write", path, cause)),
    }
}

/// Writes a file in place of the one that may be there.
pub(crate) fn replace(path: &Path, text: &str, readers: Readers) -> Result<(), IssueError> {
    let draft = Draft::write(path, text, readers)?;
    fs::rename(&draft.0, path).map_err(|cause| failed("write", path, cause))?;
    sync_folder(path)
}

/// Reads a file. It may be a key, so that its content is wiped after use.
pub(crate) fn read(path: &Path) -> Result<Zeroizing<String>, IssueError> {
    fs::read_to_string(path)
        .map(Zeroizing::new)
        .map_err(|cause| failed("read", path, cause))
}

/// Returns the folder that a file is in, or would be.
pub(crate) fn folder_of(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}

/// Makes a folder for its owner only, and those above it, where they are not there yet.
pub(crate) fn private_folder(path: &Path) -> Result<(), IssueError> {
    let mut builder = fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    {
        use std::os::unix::fs::DirBuilderExt;
        builder.mode(0o700);
    }
    builder
        .create(path)
        .map_err(|cause| failed("write", path, cause))
}

/// Says that others may use a private key, and what to do, if they may.
#[cfg(unix)]
pub(crate) fn shared(key: &Path) -> Result<Option<String>, IssueError> {
    use std::os::unix::fs::PermissionsExt;

    let found = fs::metadata(key).map_err(|cause| failed("read", key, cause))?;
    let mode = found.permissions().mode() & 0o777;
    let path = key.display();
    Ok((mode & 0o077 != 0).then(|| {
        format!("others on this machine may use its key, which has mode {mode:o}: run `chmod 600 {path}`")
    }))
}

/// Says nothing where files have no modes.
#[cfg(not(unix))]
pub(crate) fn shared(_key: &Path) -> Result<Option<String>, IssueError> {
    Ok(None)
}

/// Wraps what the system said.
pub(crate) fn failed(doing: &'static str, path: &Path, cause: io::Error) -> IssueError {
    IssueError::File {
        doing,
        path: path.to_owned(),
        cause,
    }
}

/// A complete file under a temporary name; removed when dropped, unless it was renamed.
struct Draft(PathBuf);

impl Draft {
    fn write(path: &Path, text: &str, readers: Readers) -> Result<Self, IssueError> {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let draft = path.with_file_name(format!(".{name}.{}", std::process::id()));
        let written = || -> io::Result<()> {
            let mut file = open(&draft, readers)?;
            file.write_all(text.as_bytes())?;
            file.sync_all()
        };
        let guard = Self(draft.clone());
        written().map_err(|cause| failed("write", path, cause))?;
        Ok(guard)
    }
}

impl Drop for Draft {
    fn drop(&mut self) {
        // Gone already if it was renamed.
        let _ = fs::remove_file(&self.0);
    }
}

fn open(path: &Path, readers: Readers) -> io::Result<File> {
    // Left over from a process of the same number that was killed.
    let _ = fs::remove_file(path);
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    {
        use std::os::unix::fs::OpenOptionsExt;
        options.mode(match readers {
            Readers::Owner => 0o600,
            Readers::Everybody => 0o644,
        });
    }
    #[cfg(not(unix))]
    let _ = readers;
    options.open(path)
}

/// Makes the new name survive a power cut. Only Unix can open a folder.
fn sync_folder(path: &Path) -> Result<(), IssueError> {
    if !cfg!(unix) {
        return Ok(());
    }
    let folder = folder_of(path);
    File::open(folder)
        .and_then(|folder| folder.sync_all())
        .map_err(|cause| failed("write", folder, cause))
}
