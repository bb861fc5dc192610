//! Keeps keys and seeds in memory out of files: a crash leaves no core, and no other process of the user may look inside.

use std::io;

/// Forbids core files of this process, and on Linux that anybody but the superuser reads its memory.
///
/// A program calls it first, before it reads a key. Swap is the operating system's: encrypt it.
///
/// # Errors
/// The operating system's reason.
#[cfg(unix)]
pub fn keep_memory_private() -> io::Result<()> {
    use rustix::process::{Resource, Rlimit, setrlimit};

    let none = Rlimit {
        current: Some(0),
        maximum: Some(0),
    };
    setrlimit(Resource::Core, none)?;
    // A core that goes to a program instead of a file (`core_pattern`) does not ask for the limit.
    #[cfg(target_os = "linux")]
    rustix::process::set_dumpable_behavior(rustix::process::DumpableBehavior::NotDumpable)?;
    Ok(())
}

/// Does nothing where there are no core files.
///
/// # Errors
/// Never.
#[cfg(not(unix))]
pub fn keep_memory_private() -> io::Result<()> {
    Ok(())
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use rustix::process::{DumpableBehavior, dumpable_behavior, getrlimit};

    use super::*;

    #[test]
    fn neither_a_core_file_nor_another_process_has_this_ones_memory() {
        keep_memory_private().unwrap();
        let core = getrlimit(rustix::process::Resource::Core);
        assert_eq!((core.current, core.maximum), (Some(0), Some(0)));
        assert_eq!(dumpable_behavior().unwrap(), DumpableBehavior::NotDumpable);
    }
}
