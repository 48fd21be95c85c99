//! Times as the wallet writes them: Beijing time, always +08:00. Source: wechatpay-v2 §5.14.

use compact_str::CompactString;

/// A moment in Beijing.
pub(crate) struct Beijing {
    year: i64,
    month: i64,
    day: i64,
    second_of_day: i64,
    /// Days since 1970-01-01 in Beijing.
    pub(crate) day_number: i64,
}

impl Beijing {
    /// The moment `unix_ms`, in Unix milliseconds.
    pub(crate) fn at(unix_ms: i64) -> Self {
        let local_s = unix_ms.div_euclid(1000) + 8 * 3600;
        let day_number = local_s.div_euclid(86_400);
        // Days to civil date, on years that begin in March so that the leap day comes last.
        let shifted = day_number + 719_468;
        let era = shifted.div_euclid(146_097);
        let day_of_era = shifted.rem_euclid(146_097);
        let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
        let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
        let march_month = (5 * day_of_year + 2) / 153;
        let month = if march_month < 10 { march_month + 3 } else { march_month - 9 };
        Self {
            year: year_of_era + era * 400 + i64::from(month <= 2),
            month,
            day: day_of_year - (153 * march_month + 2) / 5 + 1,
            second_of_day: local_s.rem_euclid(86_400),
            day_number,
        }
    }

    /// `yyyyMMdd`.
    pub(crate) fn date(&self) -> String {
        format!("{:04}{:02}{:02}", self.year, self.month, self.day)
    }

    /// `yyyyMMddHHmmss`, the form of `time_end`.
    pub(crate) fn compact(&self) -> CompactString {
        let (hour, minute, second) = self.clock();
        let mut text = [b'0'; 14];
        let (century, year) = (self.year.div_euclid(100), self.year.rem_euclid(100));
        let pairs = [century, year, self.month, self.day, hour, minute, second];
        for (place, pair) in text.chunks_exact_mut(2).zip(pairs) {
            for (digit, of) in place.iter_mut().zip([pair / 10, pair % 10]) {
                *digit += u8::try_from(of).unwrap_or_default();
            }
        }
        CompactString::from_utf8_lossy(&text)
    }

    /// `yyyy-MM-dd HH:mm:ss`, the form of `refund_success_time_$n`.
    pub(crate) fn dashed(&self) -> String {
        let (hour, minute, second) = self.clock();
        let Self { year, month, day, .. } = self;
        format!("{year:04}-{month:02}-{day:02} {hour:02}:{minute:02}:{second:02}")
    }

    const fn clock(&self) -> (i64, i64, i64) {
        (self.second_of_day / 3600, self.second_of_day / 60 % 60, self.second_of_day % 60)
    }
}

#[cfg(test)]
mod tests {
    use super::Beijing;

    #[test]
    fn unix_time_becomes_beijing_time() {
        for (unix_ms, expected) in [
            (0, "19700101080000"),
            (1_795_400_103_000, "20261123101503"),
            (951_753_599_999, "20000228235959"),
            (951_753_600_000, "20000229000000"),
            (1_798_732_800_000, "20270101000000"),
        ] {
            assert_eq!(Beijing::at(unix_ms).compact(), expected, "{unix_ms}");
        }
        assert_eq!(Beijing::at(1_795_400_103_000).dashed(), "2026-11-23 10:15:03");
        assert_eq!(
            Beijing::at(951_753_600_000).day_number,
            Beijing::at(951_753_599_999).day_number + 1,
            "the day changes at midnight in Beijing"
        );
    }
}
