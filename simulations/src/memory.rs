//! Memory of this process: its peak, from `/proc/self/status`, and the pages that it is made of.

use std::io;

/// The largest resident set so far in bytes (`VmHWM`), or `None` where the system does not tell.
#[must_use]
pub fn peak_bytes() -> Option<u64> {
    peak_in(&std::fs::read_to_string("/proc/self/status").ok()?)
}

/// Has this process's memory consist of small pages from now on.
///
/// The allocator asks for pages of 2 MB, which training is faster with. A thousand participants in one process take several each
/// and fill none; foedus-server's allocator does not ask for them.
///
/// # Errors
/// The operating system's reason.
#[cfg(target_os = "linux")]
pub(crate) fn avoid_huge_pages() -> io::Result<()> {
    Ok(rustix::thread::disable_transparent_huge_pages(true)?)
}

/// Does nothing where the size of pages is the system's affair.
///
/// # Errors
/// Never.
#[cfg(not(target_os = "linux"))]
pub(crate) fn avoid_huge_pages() -> io::Result<()> {
    Ok(())
}

fn peak_in(status: &str) -> Option<u64> {
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmHWM:"))?;
    let kibibytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kibibytes.checked_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_peak_is_read_from_its_line() {
        assert_eq!(
            peak_in("VmPeak:\t 9 kB\nVmHWM:\t  1234 kB\nVmRSS:\t 1 kB\n"),
            Some(1_263_616)
        );
        assert_eq!(peak_in("VmPeak:\t 9 kB\n"), None);
        assert_eq!(peak_in("VmHWM:\t many kB\n"), None);
    }
}
