//! Time as an argument: libraries take a [`Timestamp`], and only the outermost layer has a [`Clock`].

use core::fmt;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Seconds since 1970-01-01T00:00:00Z, leap seconds not counted. All arithmetic saturates.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(i64);

impl Timestamp {
    /// The latest instant GeneralizedTime can hold: 9999-12-31T23:59:59Z (RFC 5280, 4.1.2.5).
    pub const MAX: Self = Self(253_402_300_799);
    /// 1970-01-01T00:00:00Z.
    pub const EPOCH: Self = Self(0);

    /// From seconds since the epoch, clamped to 1970..=9999.
    #[must_use]
    pub const fn from_seconds(seconds: i64) -> Self {
        if seconds < 0 {
            Self::EPOCH
        } else if seconds > Self::MAX.0 {
            Self::MAX
        } else {
            Self(seconds)
        }
    }

    /// Seconds since the epoch.
    #[must_use]
    pub const fn seconds(self) -> i64 {
        self.0
    }

    /// This instant and `by` later.
    #[must_use]
    pub fn plus(self, by: Duration) -> Self {
        Self::from_seconds(self.0.saturating_add(i64::try_from(by.as_secs()).unwrap_or(i64::MAX)))
    }

    /// This instant and `by` earlier.
    #[must_use]
    pub fn minus(self, by: Duration) -> Self {
        Self::from_seconds(self.0.saturating_sub(i64::try_from(by.as_secs()).unwrap_or(i64::MAX)))
    }

    /// How long after `earlier` this is; zero when it is not after it.
    #[must_use]
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_secs(u64::try_from(self.0.saturating_sub(earlier.0)).unwrap_or(0))
    }

    /// Year, month, day, hour, minute, second (UTC, proleptic Gregorian).
    #[must_use]
    pub fn civil(self) -> (u16, u8, u8, u8, u8, u8) {
        // Days to date by the era method; every value fits, as the range is 1970..=9999.
        let days = self.0.div_euclid(86_400);
        let rest = self.0.rem_euclid(86_400);
        let z = days.saturating_add(719_468);
        let era = z.div_euclid(146_097);
        let doe = z.rem_euclid(146_097);
        let yoe = doe
            .saturating_sub(doe / 1_460)
            .saturating_add(doe / 36_524)
            .saturating_sub(doe / 146_096)
            / 365;
        let doy = doe.saturating_sub(
            yoe.saturating_mul(365).saturating_add(yoe / 4).saturating_sub(yoe / 100),
        );
        let mp = doy.saturating_mul(5).saturating_add(2) / 153;
        let day =
            doy.saturating_sub(mp.saturating_mul(153).saturating_add(2) / 5).saturating_add(1);
        let month = if mp < 10 { mp.saturating_add(3) } else { mp.saturating_sub(9) };
        let year =
            yoe.saturating_add(era.saturating_mul(400)).saturating_add(i64::from(month <= 2));
        let narrow = |v: i64| u8::try_from(v).unwrap_or(0);
        (
            u16::try_from(year).unwrap_or(9999),
            narrow(month),
            narrow(day),
            narrow(rest / 3_600),
            narrow(rest % 3_600 / 60),
            narrow(rest % 60),
        )
    }

    /// From a UTC calendar date; `None` when it is no date or outside 1970..=9999.
    #[must_use]
    pub fn from_civil(y: u16, mo: u8, d: u8, h: u8, mi: u8, s: u8) -> Option<Self> {
        if !(1970..=9999).contains(&y) || !(1..=12).contains(&mo) || h > 23 || mi > 59 || s > 59 {
            return None;
        }
        let (year, month, day) = (i64::from(y), i64::from(mo), i64::from(d));
        let shifted = if month <= 2 { year.saturating_sub(1) } else { year };
        let era = shifted.div_euclid(400);
        let yoe = shifted.rem_euclid(400);
        let mp = if month > 2 { month.saturating_sub(3) } else { month.saturating_add(9) };
        let doy =
            (mp.saturating_mul(153).saturating_add(2) / 5).saturating_add(day).saturating_sub(1);
        let doe = yoe
            .saturating_mul(365)
            .saturating_add(yoe / 4)
            .saturating_sub(yoe / 100)
            .saturating_add(doy);
        let days = era.saturating_mul(146_097).saturating_add(doe).saturating_sub(719_468);
        let seconds = days
            .saturating_mul(86_400)
            .saturating_add(i64::from(h).saturating_mul(3_600))
            .saturating_add(i64::from(mi).saturating_mul(60))
            .saturating_add(i64::from(s));
        let stamp = Self::from_seconds(seconds);
        // A day past the month's end comes back as another date.
        (stamp.civil() == (y, mo, d, h, mi, s)).then_some(stamp)
    }
}

impl fmt::Display for Timestamp {
    /// RFC 3339 in UTC.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (y, mo, d, h, mi, s) = self.civil();
        write!(f, "{y:04}-{mo:02}-{d:02}T{h:02}:{mi:02}:{s:02}Z")
    }
}

/// A text that is no instant.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not an instant of the form 2026-01-31T23:59:59Z")]
pub struct TimestampError;

impl core::str::FromStr for Timestamp {
    type Err = TimestampError;

    /// RFC 3339 in UTC to the second: what `Display` writes.
    fn from_str(text: &str) -> Result<Self, TimestampError> {
        let number = |range: core::ops::Range<usize>| -> Result<u16, TimestampError> {
            let digits = text.get(range).ok_or(TimestampError)?;
            if !digits.bytes().all(|b| b.is_ascii_digit()) {
                return Err(TimestampError);
            }
            digits.parse().map_err(|_| TimestampError)
        };
        let small = |range| u8::try_from(number(range)?).map_err(|_| TimestampError);
        let stamp = Self::from_civil(
            number(0..4)?,
            small(5..7)?,
            small(8..10)?,
            small(11..13)?,
            small(14..16)?,
            small(17..19)?,
        )
        .ok_or(TimestampError)?;
        // The separators: whatever else was there does not come out again.
        if stamp.to_string() == text { Ok(stamp) } else { Err(TimestampError) }
    }
}

/// A text that is no length of time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a length of time like 90s, 60m, 24h or 365d")]
pub struct DurationError;

/// Reads a whole number of seconds, minutes, hours or days: `90s`, `60m`, `24h`, `365d`.
///
/// # Errors
/// When it is anything else, or over 100 years.
pub fn parse_duration(text: &str) -> Result<Duration, DurationError> {
    let unit = match text.as_bytes().last() {
        Some(b's') => 1,
        Some(b'm') => 60,
        Some(b'h') => 3_600,
        Some(b'd') => 86_400,
        _ => return Err(DurationError),
    };
    let digits = text.get(..text.len().saturating_sub(1)).ok_or(DurationError)?;
    if !digits.bytes().all(|b| b.is_ascii_digit()) {
        return Err(DurationError);
    }
    let count: u64 = digits.parse().map_err(|_| DurationError)?;
    let seconds = count.checked_mul(unit).filter(|s| *s <= 36_525 * 86_400).ok_or(DurationError)?;
    Ok(Duration::from_secs(seconds))
}

/// Writes a length of time as [`parse_duration`] reads it, in the largest unit that divides it.
#[must_use]
pub fn format_duration(duration: Duration) -> String {
    let seconds = duration.as_secs();
    match seconds {
        0 => "0s".to_owned(),
        s if s % 86_400 == 0 => format!("{}d", s / 86_400),
        s if s % 3_600 == 0 => format!("{}h", s / 3_600),
        s if s % 60 == 0 => format!("{}m", s / 60),
        s => format!("{s}s"),
    }
}

impl From<SystemTime> for Timestamp {
    fn from(time: SystemTime) -> Self {
        let seconds = time.duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs());
        Self::from_seconds(i64::try_from(seconds).unwrap_or(i64::MAX))
    }
}

/// Where the outermost layer gets the time from; tests fix it.
pub trait Clock: Send + Sync + fmt::Debug {
    /// The present instant.
    fn now(&self) -> Timestamp;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn instants_and_lengths_read_back_and_nothing_else_is_read() {
        let stamp = Timestamp::from_seconds(1_795_507_200);
        assert_eq!(stamp.to_string().parse(), Ok(stamp));
        for bad in [
            "",
            "2026-11-24",
            "2026-11-24T08:00:00+01:00",
            "2026-13-01T00:00:00Z",
            "2026-11-24 08:00:00Z",
        ] {
            assert_eq!(bad.parse::<Timestamp>(), Err(TimestampError), "{bad}");
        }
        for text in ["90s", "61m", "5h", "365d"] {
            assert_eq!(format_duration(parse_duration(text).unwrap()), text);
        }
        for bad in ["", "5", "m", "-5m", "5 m", "5w", "99999999999d", "1.5h"] {
            assert_eq!(parse_duration(bad), Err(DurationError), "{bad}");
        }
    }

    #[test]
    fn civil_dates_survive_the_round_trip() {
        for seconds in (0..Timestamp::MAX.seconds()).step_by(86_399 * 97) {
            let stamp = Timestamp::from_seconds(seconds);
            let (y, mo, d, h, mi, s) = stamp.civil();
            assert_eq!(Timestamp::from_civil(y, mo, d, h, mi, s), Some(stamp));
        }
        assert_eq!(Timestamp::from_civil(2026, 11, 24, 8, 0, 0).unwrap().seconds(), 1_795_507_200);
        assert_eq!(Timestamp::from_civil(2023, 2, 29, 0, 0, 0), None);
        assert_eq!(Timestamp::MAX.to_string(), "9999-12-31T23:59:59Z");
    }
}
