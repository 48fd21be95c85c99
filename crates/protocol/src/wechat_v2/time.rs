//! Times on the wire: civil time at +08:00, whatever the machine's zone, ⇄ Unix seconds.
//!
//! Source: wechatpay-v2 §5 no. 6 and 14. China has had no other offset since 1991.

use crate::ids::Text;

/// Beijing's offset from UTC, in seconds.
const OFFSET_S: i64 = 8 * 3600;
const DAY_S: i64 = 86_400;

/// Reads `yyyyMMddHHmmss` (`time_end`, `time_start`) as Unix seconds; `None` unless it is a real moment.
#[must_use]
pub fn parse_compact(text: &str) -> Option<i64> {
    let digits: &[u8; 14] = text.as_bytes().try_into().ok()?;
    moment(&[
        number(&digits[..4])?,
        number(&digits[4..6])?,
        number(&digits[6..8])?,
        number(&digits[8..10])?,
        number(&digits[10..12])?,
        number(&digits[12..])?,
    ])
}

/// Reads `yyyy-MM-dd HH:mm:ss` (`refund_success_time_$n`) as Unix seconds; `None` unless it is a real moment.
#[must_use]
pub fn parse_spaced(text: &str) -> Option<i64> {
    let bytes: &[u8; 19] = text.as_bytes().try_into().ok()?;
    let [_, _, _, _, b'-', _, _, b'-', _, _, b' ', _, _, b':', _, _, b':', _, _] = bytes else { return None };
    moment(&[
        number(&bytes[..4])?,
        number(&bytes[5..7])?,
        number(&bytes[8..10])?,
        number(&bytes[11..13])?,
        number(&bytes[14..16])?,
        number(&bytes[17..])?,
    ])
}

/// Writes Unix seconds as `yyyyMMddHHmmss`; `None` outside the years 1 to 9999.
#[must_use]
pub fn format_compact(unix_s: i64) -> Option<Text<14>> {
    let [year, month, day, hour, minute, second] = civil(unix_s)?;
    Text::new(&format!("{year:04}{month:02}{day:02}{hour:02}{minute:02}{second:02}")).ok()
}

/// Writes Unix seconds as `yyyy-MM-dd HH:mm:ss`; `None` outside the years 1 to 9999.
#[must_use]
pub fn format_spaced(unix_s: i64) -> Option<Text<19>> {
    let [year, month, day, hour, minute, second] = civil(unix_s)?;
    Text::new(&format!("{year:04}-{month:02}-{day:02} {hour:02}:{minute:02}:{second:02}")).ok()
}

/// Digits and nothing else.
fn number(digits: &[u8]) -> Option<i64> {
    digits.iter().try_fold(0_i64, |sum, digit| {
        let digit = char::from(*digit).to_digit(10)?;
        sum.checked_mul(10)?.checked_add(i64::from(digit))
    })
}

/// Unix seconds of year, month, day, hour, minute and second in Beijing.
fn moment(&[year, month, day, hour, minute, second]: &[i64; 6]) -> Option<i64> {
    let real = year >= 1
        && (1..=12).contains(&month)
        && (1..=month_days(year, month)).contains(&day)
        && hour < 24
        && minute < 60
        && second < 60;
    if !real {
        return None;
    }
    let minutes = hour.checked_mul(60)?.checked_add(minute)?;
    let seconds = minutes.checked_mul(60)?.checked_add(second)?;
    days(year, month, day)?.checked_mul(DAY_S)?.checked_add(seconds)?.checked_sub(OFFSET_S)
}

fn month_days(year: i64, month: i64) -> i64 {
    let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    match month {
        2 if leap => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

/// Days from 1970-01-01. Years are counted from March, so that the leap day is the last of its year.
fn days(year: i64, month: i64, day: i64) -> Option<i64> {
    let year = if month > 2 { year } else { year.checked_sub(1)? };
    let month = month.checked_add(9)? % 12;
    let leap_days = (year / 4).checked_sub(year / 100)?.checked_add(year / 400)?;
    let before = year.checked_mul(365)?.checked_add(leap_days)?.checked_add(month_start(month)?)?;
    // 719,468 days lie between the first of March of year 0 and 1970-01-01.
    before.checked_add(day)?.checked_sub(1 + 719_468)
}

/// Days from the first of March to the first of a month that is counted from March.
fn month_start(month: i64) -> Option<i64> {
    Some(month.checked_mul(153)?.checked_add(2)? / 5)
}

/// Year, month, day, hour, minute and second in Beijing.
fn civil(unix_s: i64) -> Option<[i64; 6]> {
    let local = unix_s.checked_add(OFFSET_S)?;
    let (day, second) = (local.div_euclid(DAY_S), local.rem_euclid(DAY_S));
    let day = day.checked_add(719_468)?;
    let (era, day) = (day.div_euclid(146_097), day.rem_euclid(146_097));
    let leap_days = (day / 1460).checked_sub(day / 36_524)?.checked_add(day / 146_096)?;
    let year = day.checked_sub(leap_days)? / 365;
    let year_start = year.checked_mul(365)?.checked_add((year / 4).checked_sub(year / 100)?)?;
    let day = day.checked_sub(year_start)?;
    let month = day.checked_mul(5)?.checked_add(2)? / 153;
    let day = day.checked_sub(month_start(month)?)?.checked_add(1)?;
    let month = if month < 10 { month.checked_add(3)? } else { month.checked_sub(9)? };
    let year = era.checked_mul(400)?.checked_add(year)?.checked_add(i64::from(month <= 2))?;
    (1..=9999).contains(&year).then_some([year, month, day, second / 3600, second / 60 % 60, second % 60])
}

#[cfg(test)]
mod tests {
    use proptest::prelude::{prop_assert, prop_assert_eq, proptest};

    use super::{civil, days, format_compact, format_spaced, month_days, parse_compact, parse_spaced};

    #[test]
    fn known_moments() {
        let _covers = covers::covers(&["CK-06"]);
        for (compact, spaced, unix_s) in [
            ("19700101080000", "1970-01-01 08:00:00", 0),
            ("19700101000000", "1970-01-01 00:00:00", -28_800),
            ("20261123101503", "2026-11-23 10:15:03", 1_795_400_103),
            ("20240229235959", "2024-02-29 23:59:59", 1_709_222_399),
            ("20000301000000", "2000-03-01 00:00:00", 951_840_000),
            ("99991231235959", "9999-12-31 23:59:59", 253_402_271_999),
        ] {
            assert_eq!(parse_compact(compact), Some(unix_s), "{compact}");
            assert_eq!(parse_spaced(spaced), Some(unix_s), "{spaced}");
            assert_eq!(format_compact(unix_s).expect("in range").as_str(), compact);
            assert_eq!(format_spaced(unix_s).expect("in range").as_str(), spaced);
        }
    }

    #[test]
    fn what_is_no_moment() {
        let _covers = covers::covers(&["CK-06"]);
        for text in [
            "",
            "2026112310150",
            "202611231015030",
            "20261323101503",
            "20260023101503",
            "20261100101503",
            "20261131101503",
            "20230229101503",
            "19000229101503",
            "20261123241503",
            "20261123106003",
            "20261123101560",
            "2026112310150 ",
            "+0261123101503",
            "00001123101503",
            "２0261123101",
        ] {
            assert_eq!(parse_compact(text), None, "{text:?}");
        }
        for text in ["2026-11-23T10:15:03", "2026-11-23 10:15:3", "20261123101503", "2026/11/23 10:15:03"] {
            assert_eq!(parse_spaced(text), None, "{text:?}");
        }
        assert!(format_compact(253_402_272_000).is_none());
        assert!(format_compact(i64::MAX).is_none() && format_compact(i64::MIN).is_none());
    }

    #[test]
    fn days_follow_one_another() {
        let _covers = covers::covers(&["CK-06"]);
        let mut expected = days(1, 1, 1).expect("in range");
        for year in 1..=2400 {
            for month in 1..=12 {
                for day in 1..=month_days(year, month) {
                    assert_eq!(days(year, month, day), Some(expected), "{year}-{month}-{day}");
                    assert_eq!(civil(expected * 86_400 - 28_800), Some([year, month, day, 0, 0, 0]));
                    expected += 1;
                }
            }
        }
        assert_eq!(days(1970, 1, 1), Some(0));
    }

    proptest! {
        #[test]
        fn formatting_is_undone_by_parsing(unix_s in -62_135_596_800i64..253_402_272_000) {
            let compact = format_compact(unix_s).expect("in range");
            let spaced = format_spaced(unix_s).expect("in range");
            prop_assert_eq!(parse_compact(compact.as_str()), Some(unix_s));
            prop_assert_eq!(parse_spaced(spaced.as_str()), Some(unix_s));
        }

        #[test]
        fn parsing_is_undone_by_formatting(text in "[0-9]{14}") {
            let formatted = parse_compact(&text).map(|unix_s| format_compact(unix_s).expect("in range"));
            prop_assert!(formatted.is_none_or(|formatted| formatted.as_str() == text));
        }
    }
}
