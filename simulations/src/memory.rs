//! Peak resident memory of this process, from `/proc/self/status`.

/// The largest resident set so far in bytes (`VmHWM`), or `None` where the system does not tell.
#[must_use]
pub fn peak_bytes() -> Option<u64> {
    peak_in(&std::fs::read_to_string("/proc/self/status").ok()?)
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
