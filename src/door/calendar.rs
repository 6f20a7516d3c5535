//! When a schedule is open: weekly windows and holidays in the local time of the door. Pure.
//!
//! Windows are read as a clock on the wall beside the door reads them. In the night when clocks go back, an
//! hour that happens twice is open twice; in the night when they go forward, what lies in the missing hour
//! does not happen. A window that ends before it begins runs over midnight and belongs to the day it begins on.

use jiff::civil::{self, Date, Weekday};
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::clock::UnixMillis;

/// Minutes of a day.
const DAY_MINUTES: u16 = 24 * 60;
/// Changes are looked for this many days ahead: holidays come once a year.
const LOOK_AHEAD_DAYS: i32 = 400;

/// A day of the week.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Day {
    /// Monday.
    Mon,
    /// Tuesday.
    Tue,
    /// Wednesday.
    Wed,
    /// Thursday.
    Thu,
    /// Friday.
    Fri,
    /// Saturday.
    Sat,
    /// Sunday.
    Sun,
}

impl Day {
    /// Every day, Monday first.
    pub const ALL: [Self; 7] = [Self::Mon, Self::Tue, Self::Wed, Self::Thu, Self::Fri, Self::Sat, Self::Sun];

    fn of(date: Date) -> Self {
        match date.weekday() {
            Weekday::Monday => Self::Mon,
            Weekday::Tuesday => Self::Tue,
            Weekday::Wednesday => Self::Wed,
            Weekday::Thursday => Self::Thu,
            Weekday::Friday => Self::Fri,
            Weekday::Saturday => Self::Sat,
            Weekday::Sunday => Self::Sun,
        }
    }
}

/// Minutes since midnight, up to 24:00.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct TimeOfDay(u16);

impl TimeOfDay {
    /// Reads `HH:MM`, `24:00` included.
    pub fn parse(text: &str) -> Option<Self> {
        let (hours, minutes) = text.split_once(':')?;
        let number = |text: &str| -> Option<u16> {
            (text.len() == 2 && text.bytes().all(|b| b.is_ascii_digit())).then(|| text.parse().ok())?
        };
        let (hours, minutes) = (number(hours)?, number(minutes)?);
        let total = hours * 60 + minutes;
        (minutes < 60 && total <= DAY_MINUTES).then_some(Self(total))
    }
}

/// From when to when, on which days.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Window {
    /// Days it begins on.
    pub days: Vec<Day>,
    /// First minute it is open.
    pub from: TimeOfDay,
    /// First minute it is closed again; at or before `from` on the next day.
    pub to: TimeOfDay,
}

/// What becomes of a schedule on a holiday.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum OnHolidays {
    /// Windows do not begin on a holiday.
    #[default]
    Closed,
    /// A holiday is a day like any other.
    AsUsual,
    /// Windows begin on holidays only.
    Only,
}

/// A day without work, once or every year.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Holiday {
    /// This date.
    Once(Date),
    /// This day of every year.
    Yearly {
        /// 1 to 12.
        month: i8,
        /// 1 to 31.
        day: i8,
    },
}

impl Holiday {
    /// Reads `YYYY-MM-DD` or `MM-DD`.
    pub fn parse(text: &str) -> Option<Self> {
        let digits = |text: &str, len: usize| text.len() == len && text.bytes().all(|b| b.is_ascii_digit());
        let parts: Vec<&str> = text.split('-').collect();
        match parts.as_slice() {
            [year, month, day] if digits(year, 4) && digits(month, 2) && digits(day, 2) => {
                Date::new(year.parse().ok()?, month.parse().ok()?, day.parse().ok()?).ok().map(Self::Once)
            }
            [month, day] if digits(month, 2) && digits(day, 2) => {
                // In a leap year, so that 29 February is a day.
                let date = Date::new(2024, month.parse().ok()?, day.parse().ok()?).ok()?;
                Some(Self::Yearly { month: date.month(), day: date.day() })
            }
            _ => None,
        }
    }

    fn is(self, date: Date) -> bool {
        match self {
            Self::Once(once) => once == date,
            Self::Yearly { month, day } => (date.month(), date.day()) == (month, day),
        }
    }
}

/// Windows of a week.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Schedule {
    /// When it is open.
    pub windows: Vec<Window>,
    /// What holidays change.
    pub on_holidays: OnHolidays,
}

/// Local time and holidays of the door.
#[derive(Clone, Debug, PartialEq)]
pub struct Calendar {
    /// Where the door is.
    pub zone: TimeZone,
    /// Its holidays.
    pub holidays: Vec<Holiday>,
}

impl Calendar {
    /// In the zone of this IANA name, such as `Europe/Berlin`; none where there is no such zone.
    pub fn new(zone: &str, holidays: Vec<Holiday>) -> Option<Self> {
        // Names only: jiff would take POSIX rules and file names too.
        let plain = zone.bytes().all(|b| b.is_ascii_alphanumeric() || b"/_+-".contains(&b));
        let zone = TimeZone::get(zone).ok().filter(|_| plain)?;
        Some(Self { zone, holidays })
    }

    fn local(&self, at: UnixMillis) -> Option<civil::DateTime> {
        Some(self.zone.to_datetime(Timestamp::from_millisecond(at.0).ok()?))
    }

    /// The time of the wall clock beside the door: hour and minute.
    pub fn hour_and_minute(&self, at: UnixMillis) -> Option<(u8, u8)> {
        let local = self.local(at)?;
        Some((local.hour().unsigned_abs(), local.minute().unsigned_abs()))
    }

    /// The time of the clock beside the door, to be read: weekday, date, time, and the hours from UTC.
    pub fn local_text(&self, at: UnixMillis) -> Option<String> {
        let instant = Timestamp::from_millisecond(at.0).ok()?;
        let (local, offset) = (self.zone.to_datetime(instant), self.zone.to_offset(instant).seconds());
        let (sign, minutes) = (if offset < 0 { '-' } else { '+' }, offset.abs() / 60);
        Some(format!(
            "{:?} {} {:02}:{:02} {sign}{:02}:{:02}",
            Day::of(local.date()),
            local.date(),
            local.hour(),
            local.minute(),
            minutes / 60,
            minutes % 60
        ))
    }

    fn begins_on(&self, schedule: &Schedule, window: &Window, date: Date) -> bool {
        let holiday = self.holidays.iter().any(|holiday| holiday.is(date));
        let may = match schedule.on_holidays {
            OnHolidays::Closed => !holiday,
            OnHolidays::AsUsual => true,
            OnHolidays::Only => holiday,
        };
        may && window.days.contains(&Day::of(date))
    }

    /// Whether a schedule is open. A time that is no time of any calendar is closed.
    pub fn is_open(&self, schedule: &Schedule, at: UnixMillis) -> bool {
        let Some(local) = self.local(at) else { return false };
        let (today, minute) = (local.date(), local.hour() as u16 * 60 + local.minute() as u16);
        let yesterday = today.yesterday().ok();
        schedule.windows.iter().any(|window| {
            let (from, to) = (window.from.0, window.to.0);
            let begun_today = self.begins_on(schedule, window, today);
            if from < to {
                return begun_today && (from..to).contains(&minute);
            }
            let begun_yesterday = yesterday.is_some_and(|date| self.begins_on(schedule, window, date));
            (begun_today && minute >= from) || (begun_yesterday && minute < to)
        })
    }

    /// When a schedule opens or closes next; none where that is not within a year.
    pub fn next_change(&self, schedule: &Schedule, now: UnixMillis) -> Option<UnixMillis> {
        let open = self.is_open(schedule, now);
        let mut day = self.local(now)?.date().yesterday().ok()?;
        // By day, so that the nearest change is found before a year of days is gone through.
        for _ in 0..LOOK_AHEAD_DAYS {
            let mut candidates = self.edges(schedule, day);
            candidates.sort_unstable();
            let changed = candidates.into_iter().find(|at| *at > now && self.is_open(schedule, *at) != open);
            if changed.is_some() {
                return changed;
            }
            day = day.tomorrow().ok()?;
        }
        None
    }

    /// Instants of a local day at which something may change: edges of windows, midnight, and clocks being
    /// set.
    fn edges(&self, schedule: &Schedule, day: Date) -> Vec<UnixMillis> {
        let mut minutes = vec![0];
        minutes.extend(schedule.windows.iter().flat_map(|window| [window.from.0, window.to.0]));
        let mut found = Vec::new();
        for minute in minutes.into_iter().filter(|minute| *minute < DAY_MINUTES) {
            let time = civil::time((minute / 60) as i8, (minute % 60) as i8, 0, 0);
            let ambiguous = self.zone.to_ambiguous_timestamp(day.to_datetime(time));
            for at in [ambiguous.earlier(), ambiguous.later()].into_iter().flatten() {
                found.push(UnixMillis(at.as_millisecond()));
            }
        }
        let midnight = self.zone.to_ambiguous_timestamp(day.to_datetime(civil::Time::midnight()));
        if let Ok(start) = midnight.earlier() {
            let end = start + SignedDuration::from_hours(27);
            let set = self.zone.following(start - SignedDuration::from_secs(1));
            let set = set.map(|transition| transition.timestamp()).take_while(|at| *at <= end);
            found.extend(set.map(|at| UnixMillis(at.as_millisecond())));
        }
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> UnixMillis {
        UnixMillis(text.parse::<Timestamp>().unwrap().as_millisecond())
    }

    fn berlin(holidays: &[&str]) -> Calendar {
        Calendar::new("Europe/Berlin", holidays.iter().map(|h| Holiday::parse(h).unwrap()).collect()).unwrap()
    }

    fn schedule(days: &[Day], from: &str, to: &str) -> Schedule {
        let window = Window {
            days: days.to_vec(),
            from: TimeOfDay::parse(from).unwrap(),
            to: TimeOfDay::parse(to).unwrap(),
        };
        Schedule { windows: vec![window], on_holidays: OnHolidays::Closed }
    }

    #[test]
    fn window_is_open_from_its_first_minute_to_before_its_last() {
        let (calendar, office) = (berlin(&[]), schedule(&[Day::Mon], "08:00", "18:00"));
        // 2026-11-30 is a Monday; Berlin is an hour ahead of UTC.
        for (time, open) in [
            ("2026-11-30T06:59:59.999Z", false),
            ("2026-11-30T07:00:00Z", true),
            ("2026-11-30T16:59:59.999Z", true),
            ("2026-11-30T17:00:00Z", false),
            ("2026-12-01T09:00:00Z", false),
        ] {
            assert_eq!(calendar.is_open(&office, at(time)), open, "{time}");
        }
    }

    #[test]
    fn window_over_midnight_belongs_to_the_day_it_begins_on() {
        let night = schedule(&[Day::Fri], "22:00", "06:00");
        let calendar = berlin(&["2026-12-04"]);
        assert!(calendar.is_open(&night, at("2026-11-28T04:59:00Z")), "Saturday 05:59");
        assert!(!calendar.is_open(&night, at("2026-11-28T05:00:00Z")), "Saturday 06:00");
        assert!(!calendar.is_open(&night, at("2026-12-05T04:00:00Z")), "begun on a holiday");
    }

    #[test]
    fn clocks_that_are_set_move_the_window_with_them() {
        let (calendar, early) = (berlin(&[]), schedule(&[Day::Sun], "02:15", "02:45"));
        // 2026-10-25: 02:30 happens at 00:30 and at 01:30 UTC.
        for time in ["2026-10-25T00:30:00Z", "2026-10-25T01:30:00Z"] {
            assert!(calendar.is_open(&early, at(time)), "{time}");
        }
        assert!(!calendar.is_open(&early, at("2026-10-25T00:50:00Z")));
        // 2026-03-29: there is no 02:30.
        for minute in 0..180 {
            let time = UnixMillis(at("2026-03-29T00:00:00Z").0 + minute * 60_000);
            assert!(!calendar.is_open(&early, time));
        }
    }

    #[test]
    fn holidays_close_open_or_change_nothing() {
        let calendar = berlin(&["12-25", "2026-11-30"]);
        let mut office = schedule(&Day::ALL, "08:00", "18:00");
        let times = ["2026-12-25T09:00:00Z", "2031-12-25T09:00:00Z", "2026-11-30T09:00:00Z"];
        for (rule, open) in
            [(OnHolidays::Closed, false), (OnHolidays::AsUsual, true), (OnHolidays::Only, true)]
        {
            office.on_holidays = rule;
            for time in times {
                assert_eq!(calendar.is_open(&office, at(time)), open, "{time}");
            }
        }
        assert!(
            !calendar.is_open(&office, at("2027-11-30T09:00:00Z")),
            "a usual day where only holidays count"
        );
    }

    #[test]
    fn next_change_is_found_in_the_nights_when_clocks_are_set_too() {
        let calendar = berlin(&[]);
        for (schedule, now, then) in [
            (schedule(&[Day::Mon], "08:00", "18:00"), "2026-11-28T00:00:00Z", Some("2026-11-30T07:00:00Z")),
            (schedule(&[Day::Mon], "08:00", "18:00"), "2026-11-30T12:00:00Z", Some("2026-11-30T17:00:00Z")),
            (schedule(&[Day::Sun], "01:00", "03:00"), "2026-10-24T23:30:00Z", Some("2026-10-25T02:00:00Z")),
            (schedule(&[Day::Sun], "01:00", "03:00"), "2026-03-29T00:30:00Z", Some("2026-03-29T01:00:00Z")),
            (schedule(&Day::ALL, "00:00", "24:00"), "2026-11-28T00:00:00Z", None),
        ] {
            assert_eq!(calendar.next_change(&schedule, at(now)), then.map(at), "{now}");
        }
    }

    #[test]
    fn what_is_no_time_day_or_zone_is_refused() {
        for text in ["", "8:00", "08:60", "24:01", "25:00", "08:00:00", "+8:00", "aa:bb"] {
            assert_eq!(TimeOfDay::parse(text), None, "{text}");
        }
        for text in ["", "2026-02-29", "13-01", "00-10", "2026-1-1", "26-01-01", "a-b"] {
            assert_eq!(Holiday::parse(text), None, "{text}");
        }
        assert_eq!(Holiday::parse("02-29"), Some(Holiday::Yearly { month: 2, day: 29 }));
        for zone in ["", "Mars/Olympus", "CET-1CEST", "../etc/passwd", "Europe/Berlin "] {
            assert_eq!(Calendar::new(zone, Vec::new()), None, "{zone}");
        }
    }
}
