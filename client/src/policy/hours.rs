//! Opening hours: when a site takes part in anything.
//!
//! Windows such as "mon-fri 19:00-06:00" in a named time zone, so that they follow daylight saving. One that ends before it
//! begins goes over midnight and belongs to the day that it begins on.

use std::{fmt, str::FromStr};

use jiff::{Timestamp, civil::Weekday, tz::TimeZone};
use serde::{Deserialize, Deserializer, de::Error as _};

/// When a site is open.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct OpeningHours {
    zone: TimeZone,
    windows: Vec<Window>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawHours {
    time_zone: String,
    open: Vec<Window>,
}

/// Days of the week and minutes of the day.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
struct Window {
    /// Of the week, Monday first.
    days: [bool; 7],
    from_minute: u32,
    /// At most 24 hours; before `from_minute` it is on the next day.
    to_minute: u32,
}

impl OpeningHours {
    /// Whether the site is open at this instant.
    pub(super) fn is_open(&self, now: Timestamp) -> bool {
        let local = now.to_zoned_datetime(self.zone.clone());
        let today = index(local.weekday());
        let minute = local.hour().unsigned_abs() as u32 * 60 + local.minute().unsigned_abs() as u32;
        self.windows
            .iter()
            .any(|window| window.holds(today, minute))
    }

    /// The instant as people at the site read it.
    pub(super) fn local(&self, now: Timestamp) -> String {
        let local = now.to_zoned_datetime(self.zone.clone());
        let (day, time) = (DAYS[index(local.weekday())], local.time());
        format!("{day} {:02}:{:02}", time.hour(), time.minute())
    }
}

impl fmt::Display for OpeningHours {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let windows: Vec<_> = self.windows.iter().map(ToString::to_string).collect();
        write!(f, "{}", windows.join(", "))?;
        match self.zone.iana_name() {
            Some(name) => write!(f, " ({name})"),
            None => Ok(()),
        }
    }
}

impl<'de> Deserialize<'de> for OpeningHours {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let RawHours { time_zone, open } = RawHours::deserialize(deserializer)?;
        let zone = TimeZone::get(&time_zone).map_err(|_| {
            D::Error::custom(format!(
                "this machine knows no time zone {time_zone:?}: write one like \"Europe/Berlin\" or \"UTC\""
            ))
        })?;
        Ok(Self {
            zone,
            windows: open,
        })
    }
}

impl Window {
    fn holds(&self, today: usize, minute: u32) -> bool {
        let Self {
            days,
            from_minute,
            to_minute,
        } = *self;
        if from_minute < to_minute {
            return days[today] && from_minute <= minute && minute < to_minute;
        }
        let yesterday = (today + 6) % 7;
        (days[today] && from_minute <= minute) || (days[yesterday] && minute < to_minute)
    }
}

impl FromStr for Window {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let refused = || {
            format!(
                "{text:?} is no opening time: write it like \"mon-fri 19:00-06:00\" or \"sun 00:00-24:00\""
            )
        };
        let (days, times) = text.split_once(' ').ok_or_else(refused)?;
        let (from, to) = times.split_once('-').ok_or_else(refused)?;
        let day = |name: &str| DAYS.iter().position(|known| *known == name);
        let (first, last) = days.split_once('-').unwrap_or((days, days));
        let (first, last) = day(first).zip(day(last)).ok_or_else(refused)?;
        let (from_minute, to_minute) = minute_of(from).zip(minute_of(to)).ok_or_else(refused)?;
        if from_minute == to_minute || from_minute == 24 * 60 {
            return Err(refused());
        }
        let mut window = Self {
            days: [false; 7],
            from_minute,
            to_minute,
        };
        // From Friday to Monday goes over the end of the week.
        let length = (last + 7 - first) % 7;
        for step in 0..=length {
            window.days[(first + step) % 7] = true;
        }
        Ok(window)
    }
}

impl fmt::Display for Window {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let named: Vec<_> = DAYS
            .iter()
            .zip(self.days)
            .filter_map(|(name, open)| open.then_some(*name))
            .collect();
        let clock = |minute: u32| format!("{:02}:{:02}", minute / 60, minute % 60);
        write!(
            f,
            "{} {}-{}",
            named.join("/"),
            clock(self.from_minute),
            clock(self.to_minute)
        )
    }
}

impl<'de> Deserialize<'de> for Window {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?
            .parse()
            .map_err(D::Error::custom)
    }
}

/// Reads "19:30"; "24:00" is the end of the day.
fn minute_of(text: &str) -> Option<u32> {
    let (hour, minute) = text.split_once(':')?;
    let two_digits = |part: &str| {
        (part.len() == 2)
            .then(|| part.parse::<u32>().ok())
            .flatten()
    };
    let (hour, minute) = two_digits(hour).zip(two_digits(minute))?;
    let whole = hour * 60 + minute;
    (minute < 60 && whole <= 24 * 60).then_some(whole)
}

fn index(day: Weekday) -> usize {
    usize::from(day.to_monday_zero_offset().unsigned_abs())
}

const DAYS: [&str; 7] = ["mon", "tue", "wed", "thu", "fri", "sat", "sun"];

#[cfg(test)]
mod tests {
    use super::*;

    fn hours(open: &[&str]) -> OpeningHours {
        OpeningHours {
            zone: TimeZone::get("Europe/Berlin").unwrap(),
            windows: open.iter().map(|window| window.parse().unwrap()).collect(),
        }
    }

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    #[test]
    fn a_night_belongs_to_the_day_it_begins_on() {
        // 27 November 2026 is a Friday; Berlin is an hour ahead of UTC.
        let hours = hours(&["mon-fri 19:00-06:00"]);
        for (instant, open) in [
            ("2026-11-27T17:59:59Z", false),
            ("2026-11-27T18:00:00Z", true),
            ("2026-11-28T04:59:59Z", true),
            ("2026-11-28T05:00:00Z", false),
            ("2026-11-28T20:00:00Z", false),
            ("2026-11-30T03:00:00Z", false),
        ] {
            assert_eq!(hours.is_open(at(instant)), open, "{instant}");
        }
    }

    #[test]
    fn windows_follow_daylight_saving() {
        let hours = hours(&["sun 03:00-04:00"]);
        // On 29 March 2026 clocks in Berlin go from 02:00 to 03:00.
        assert!(!hours.is_open(at("2026-03-29T00:59:00Z")));
        assert!(hours.is_open(at("2026-03-29T01:00:00Z")));
        assert!(!hours.is_open(at("2026-03-22T01:30:00Z")));
    }

    #[test]
    fn days_may_go_over_the_end_of_the_week() {
        let hours = hours(&["sat-mon 00:00-24:00"]);
        assert!(
            hours.is_open(at("2026-11-29T12:00:00Z")) && hours.is_open(at("2026-11-30T12:00:00Z"))
        );
        assert!(!hours.is_open(at("2026-12-01T12:00:00Z")));
    }

    #[test]
    fn what_is_no_window_is_refused_with_an_example() {
        for text in [
            "mon",
            "mon 9:00-10:00",
            "mon 09:00-09:00",
            "mon 09:60-10:00",
            "mon 00:00-24:01",
            "day 01:00-02:00",
            "mon 24:00-01:00",
        ] {
            let refused = text.parse::<Window>().unwrap_err();
            assert!(refused.contains("mon-fri 19:00-06:00"), "{refused}");
        }
    }
}
