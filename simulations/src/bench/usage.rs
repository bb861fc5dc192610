//! What a process has used: processor time and peak memory, from `/proc`.

use std::fs;

/// Clock ticks a second in `/proc`: 100 on every Linux that reports to programs.
const TICKS: f64 = 100.0;

/// Processor time of a process with all its threads so far, in seconds; 0 once it is gone.
pub(super) fn cpu_seconds(process: u32) -> f64 {
    let stat = fs::read_to_string(format!("/proc/{process}/stat")).unwrap_or_default();
    ticks_in(&stat).unwrap_or(0) as f64 / TICKS
}

/// User and system time are fields 14 and 15; the name, field 2, may have spaces and parentheses.
fn ticks_in(stat: &str) -> Option<u64> {
    let (_, fields) = stat.rsplit_once(')')?;
    let mut fields = fields.split_whitespace().skip(11);
    let mut next = || fields.next()?.parse::<u64>().ok();
    Some(next()? + next()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_times_are_found_behind_any_name() {
        let stat = "12 (a (b) c) S 1 12 12 0 -1 4194304 1 2 3 4 250 50 0 0 20 0 1 0 9 10";
        assert_eq!(ticks_in(stat), Some(300));
        assert_eq!(ticks_in("12 (a"), None);
        assert!(cpu_seconds(std::process::id()) >= 0.0);
    }
}
