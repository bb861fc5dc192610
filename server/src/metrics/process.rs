//! What Linux knows of this process, from `/proc`; elsewhere nothing is known.

use std::fs;

/// Ticks a second in `/proc`: `USER_HZ`, the same on every architecture that Rust runs on.
const TICKS_PER_SECOND: f64 = 100.0;

/// What the operating system says.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Process {
    /// Memory that is in use and not swapped out, in bytes.
    pub(super) resident_bytes: Option<f64>,
    /// When the process began, in seconds of Unix time.
    pub(super) started: Option<f64>,
}

/// Asks the operating system.
pub(super) fn read() -> Process {
    let file = |path| fs::read_to_string(path).ok();
    let status = file("/proc/self/status");
    let (own, system) = (file("/proc/self/stat"), file("/proc/stat"));
    Process {
        resident_bytes: status.as_deref().and_then(resident_bytes),
        started: own
            .zip(system)
            .and_then(|(own, system)| started(&own, &system)),
    }
}

/// `VmRSS` of proc_pid_status(5), which is in kibibytes.
fn resident_bytes(status: &str) -> Option<f64> {
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kibibytes: f64 = line.strip_suffix("kB")?.trim().parse().ok()?;
    Some(kibibytes * 1024.0)
}

/// The 22nd field of proc_pid_stat(5), ticks after the `btime` of proc_stat(5).
fn started(own: &str, system: &str) -> Option<f64> {
    // The second field is the program's name in parentheses, in which anything may stand.
    let (_, after_name) = own.rsplit_once(')')?;
    let ticks: f64 = after_name.split_whitespace().nth(19)?.parse().ok()?;
    let boot = system
        .lines()
        .find_map(|line| line.strip_prefix("btime "))?;
    let boot: f64 = boot.trim().parse().ok()?;
    Some(boot + ticks / TICKS_PER_SECOND)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_files_of_proc_are_read() {
        let status = "Name:\tfoedus-server\nVmPeak:\t  9000 kB\nVmRSS:\t    1234 kB\nThreads:\t4\n";
        assert_eq!(resident_bytes(status), Some(1_263_616.0));
        let own = "42 (a ) (b) S 1 42 42 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 4 0 150 1000 300 9";
        assert_eq!(
            started(own, "cpu 1 2\nbtime 1700000000\nctxt 1\n"),
            Some(1_700_000_001.5)
        );
    }

    #[test]
    fn what_is_not_there_is_left_out() {
        assert_eq!(resident_bytes("Name:\tx\n"), None);
        assert_eq!(started("42 (x) S 1", "btime 1\n"), None);
        assert_eq!(started("", "ctxt 1\n"), None);
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn this_process_has_memory_and_began_before_now() {
        let Process {
            resident_bytes,
            started,
        } = read();
        assert!(resident_bytes.unwrap() > 1e5);
        let now = std::time::UNIX_EPOCH.elapsed().unwrap().as_secs_f64();
        // The machine's boot is known to the second.
        assert!(started.unwrap() <= now + 2.0);
    }
}
