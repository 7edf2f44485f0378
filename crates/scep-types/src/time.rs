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
