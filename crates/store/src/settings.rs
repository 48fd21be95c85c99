//! What a merchant may set for itself, as one small text beside its row.
//!
//! A setting that is not set is not stored: its default may change, and that of the configuration applies. A name
//! that this version does not know closes the merchant rather than being left out: what it asks for would not be
//! done (INV-29). So another setting is another line in [`Settings::read`], and no other schema.

use std::fmt::Write as _;

use state_machine::absence::AbsentTill;
use state_machine::rescan::RescanRule;
use thiserror::Error;

/// The first word of a stored text.
const VERSION: &str = "v1";

/// The longest time that a pay request may be held, in milliseconds: shorter than a stop waits by default, so that
/// no till is cut off. Published clients read for 8 s (official Java SDK) to 10 s unless they are told otherwise:
/// longer holds are for tills that were. Source: wechatpay-v2 §1.4.
pub const HOLD_MS_MAX: u32 = 30_000;
/// The shortest time that a pay request may be held: below, nothing but the wallet's first word would come in time.
pub const HOLD_MS_MIN: u32 = 1_000;
/// The longest time that a query may wait: a second under the shortest read deadline that a published client has by
/// itself, 8 s. Source: wechatpay-v2 §1.4.
pub const LONG_POLL_MS_MAX: u32 = 7_000;
/// How long a query waits where a merchant has set nothing: a second under 5 s, the shortest read deadline that is
/// recommended for queries. Source: wechatpay-v2 §1.4.
pub const LONG_POLL_MS: u32 = 4_000;

/// The most requests that a merchant may be allowed in a second, and at once; as many as the configuration may say.
pub const RATE_MAX: u32 = 100_000;
/// The shortest time after which a till may count as absent, in milliseconds: tills ask every 5 to 10 s, and one that
/// misses a turn is not gone. Source: wechatpay-v2 §4.3.
pub const ABSENT_AFTER_MS_MIN: u32 = 15_000;
/// How long a till may be absent where nobody has said anything else, in milliseconds.
pub const ABSENT_AFTER_MS: u32 = 60_000;
/// The longest such time: the customer stands there, and payments that nobody asks about stay in memory for as long.
pub const ABSENT_AFTER_MS_MAX: u32 = 600_000;

/// The shortest time for which the same till and amount may count as the same sale, in milliseconds: the cashier sees
/// nothing for as long before scanning again.
pub const RESCAN_WINDOW_MS_MIN: u32 = 15_000;
/// How long that is where nobody has said anything else, in milliseconds.
pub const RESCAN_WINDOW_MS: u32 = 90_000;
/// The longest such time: the next customer may well want the same.
pub const RESCAN_WINDOW_MS_MAX: u32 = 600_000;

/// What a merchant has set; `None` where it has not.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Settings {
    /// In hold mode: how long a pay request waits for a definite outcome, [`HOLD_MS_MIN`] to [`HOLD_MS_MAX`].
    pub hold_ms: Option<u32>,
    /// How long a query of an open payment waits for its outcome, 0 to [`LONG_POLL_MS_MAX`]; 0 answers at once.
    pub long_poll_ms: Option<u32>,
    /// Requests in a second, averaged over [`Settings::burst`]; 1 to [`RATE_MAX`].
    pub per_second: Option<u32>,
    /// Requests at once; 1 to [`RATE_MAX`].
    pub burst: Option<u32>,
    /// Its tills are only served on connections that showed one of these client certificates (SHA-256 of each); two
    /// while one replaces the other. `None` twice: any connection will do.
    pub client_certificates: [Option<[u8; 32]>; 2],
    /// What becomes of money that no till asks about.
    pub absent_till: Option<AbsentTill>,
    /// How long after the proof of a payment its till counts as absent, [`ABSENT_AFTER_MS_MIN`] to
    /// [`ABSENT_AFTER_MS_MAX`].
    pub absent_after_ms: Option<u32>,
    /// What becomes of a second payment of the same till for the same amount.
    pub rescan: Option<RescanRule>,
    /// For how long after the first, [`RESCAN_WINDOW_MS_MIN`] to [`RESCAN_WINDOW_MS_MAX`].
    pub rescan_window_ms: Option<u32>,
}

/// The names under which [`Settings::client_certificates`] are stored.
const CERTIFICATES: [&str; 2] = ["client_certificate", "client_certificate_2"];

/// The name under which [`Settings::absent_till`] is stored.
const ABSENT_TILL: &str = "absent_till";
/// The name under which [`Settings::rescan`] is stored.
const RESCAN: &str = "rescan";

/// Bytes as hexadecimal digits.
struct Digits([u8; 32]);

impl std::fmt::Display for Digits {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// A setting outside of its bounds. Nothing was stored.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
#[error("{name} is {value}{unit}; it must be {least} to {most}{unit}: {why}")]
pub struct SettingError {
    /// Which.
    pub name: &'static str,
    /// What it was to be.
    pub value: u32,
    /// What is behind the number.
    pub unit: &'static str,
    /// The least that is taken.
    pub least: u32,
    /// The most that is taken.
    pub most: u32,
    /// What the bounds are for.
    pub why: &'static str,
}

impl Settings {
    /// Checks every bound.
    ///
    /// # Errors
    ///
    /// [`SettingError`] for the first that does not hold.
    pub fn check(&self) -> Result<(), SettingError> {
        let within = |name, value: Option<u32>, unit, [least, most]: [u32; 2], why| match value {
            Some(value) if !(least..=most).contains(&value) => {
                Err(SettingError { name, value, unit, least, most, why })
            }
            Some(_) | None => Ok(()),
        };
        let hold = "the till must still be reading when the answer comes, and a stop waits for it";
        let poll = "published clients stop reading after 8 s";
        within("hold", self.hold_ms, " ms", [HOLD_MS_MIN, HOLD_MS_MAX], hold)?;
        within("long poll", self.long_poll_ms, " ms", [0, LONG_POLL_MS_MAX], poll)?;
        let rate = "a merchant that may ask nothing is one that is disabled";
        within("rate", self.per_second, " a second", [1, RATE_MAX], rate)?;
        within("burst", self.burst, " requests", [1, RATE_MAX], rate)?;
        let absent =
            "a till that asks every 10 s must not count as absent, and the customer does not wait for ever";
        within(
            "absent after",
            self.absent_after_ms,
            " ms",
            [ABSENT_AFTER_MS_MIN, ABSENT_AFTER_MS_MAX],
            absent,
        )?;
        let rescan =
            "a cashier waits that long before scanning again, and the next customer may want the same";
        let bounds = [RESCAN_WINDOW_MS_MIN, RESCAN_WINDOW_MS_MAX];
        within("rescan window", self.rescan_window_ms, " ms", bounds, rescan)
    }

    /// The text that is stored; empty where nothing is set.
    #[must_use]
    pub(crate) fn text(&self) -> String {
        let mut text = String::new();
        // Writing to a text cannot fail.
        let mut write = |name: &str, value: &dyn std::fmt::Display| {
            let version = if text.is_empty() { VERSION } else { "" };
            let _ = write!(text, "{version} {name}={value}");
        };
        for (name, value) in [
            ("hold_ms", self.hold_ms),
            ("long_poll_ms", self.long_poll_ms),
            ("per_second", self.per_second),
            ("burst", self.burst),
        ] {
            if let Some(value) = value {
                write(name, &value);
            }
        }
        for (name, fingerprint) in CERTIFICATES.into_iter().zip(self.client_certificates) {
            if let Some(fingerprint) = fingerprint {
                write(name, &Digits(fingerprint));
            }
        }
        if let Some(rule) = self.absent_till {
            write(ABSENT_TILL, &rule.as_str());
        }
        if let Some(value) = self.absent_after_ms {
            write("absent_after_ms", &value);
        }
        if let Some(rule) = self.rescan {
            write(RESCAN, &rule.as_str());
        }
        if let Some(value) = self.rescan_window_ms {
            write("rescan_window_ms", &value);
        }
        text
    }

    /// Reads a stored text; `None` for another version, a name that is unknown or comes twice, or a value out of
    /// bounds.
    #[must_use]
    pub(crate) fn read(text: &str) -> Option<Self> {
        let mut settings = Self::default();
        let mut words = text.split(' ');
        if !matches!(words.next(), Some("" | VERSION)) {
            return None;
        }
        for word in words {
            let (name, value) = word.split_once('=')?;
            if let Some(at) = CERTIFICATES.into_iter().position(|known| known == name) {
                let place = settings.client_certificates.get_mut(at)?;
                if place.replace(fingerprint(value)?).is_some() {
                    return None;
                }
                continue;
            }
            if name == ABSENT_TILL {
                if settings.absent_till.replace(value.parse().ok()?).is_some() {
                    return None;
                }
                continue;
            }
            if name == RESCAN {
                if settings.rescan.replace(value.parse().ok()?).is_some() {
                    return None;
                }
                continue;
            }
            let place = match name {
                "hold_ms" => &mut settings.hold_ms,
                "long_poll_ms" => &mut settings.long_poll_ms,
                "per_second" => &mut settings.per_second,
                "burst" => &mut settings.burst,
                "absent_after_ms" => &mut settings.absent_after_ms,
                "rescan_window_ms" => &mut settings.rescan_window_ms,
                _ => return None,
            };
            if place.replace(value.parse().ok()?).is_some() {
                return None;
            }
        }
        // One form for one meaning: what this version would not write it did not write.
        (settings.check().is_ok() && settings.text() == text).then_some(settings)
    }
}

/// Reads 64 hexadecimal digits; `None` if it is not that.
#[must_use]
pub fn fingerprint(digits: &str) -> Option<[u8; 32]> {
    let mut bytes = [0; 32];
    if digits.len() != 64 || !digits.bytes().all(|digit| digit.is_ascii_hexdigit()) {
        return None;
    }
    for (byte, at) in bytes.iter_mut().zip((0..).step_by(2)) {
        let end = usize::saturating_add(at, 2);
        *byte = u8::from_str_radix(digits.get(at..end)?, 16).ok()?;
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use state_machine::absence::AbsentTill;

    use state_machine::rescan::RescanRule;

    use super::{
        ABSENT_AFTER_MS_MAX, HOLD_MS_MAX, HOLD_MS_MIN, LONG_POLL_MS_MAX, RATE_MAX, RESCAN_WINDOW_MS_MAX,
        Settings,
    };

    #[test]
    fn settings_come_back_as_they_were_stored() {
        for (hold_ms, long_poll_ms, text) in [
            (None, None, ""),
            (Some(8_000), None, "v1 hold_ms=8000"),
            (None, Some(0), "v1 long_poll_ms=0"),
            (Some(HOLD_MS_MAX), Some(LONG_POLL_MS_MAX), "v1 hold_ms=30000 long_poll_ms=7000"),
        ] {
            let settings = Settings { hold_ms, long_poll_ms, ..Settings::default() };
            assert_eq!(settings.text(), text);
            assert_eq!(Settings::read(text), Some(settings));
        }
    }

    #[test]
    fn rates_come_back_as_they_were_stored() {
        let settings = |per_second, burst| Settings { per_second, burst, ..Settings::default() };
        for (settings, text) in [
            (settings(Some(1), None), "v1 per_second=1"),
            (settings(None, Some(RATE_MAX)), "v1 burst=100000"),
            (
                Settings { hold_ms: Some(8_000), ..settings(Some(50), Some(2)) },
                "v1 hold_ms=8000 per_second=50 burst=2",
            ),
        ] {
            assert_eq!(settings.text(), text);
            assert_eq!(Settings::read(text), Some(settings));
        }
        for text in ["v1 per_second=0", "v1 burst=0", "v1 per_second=100001", "v1 burst=2 per_second=1"] {
            assert_eq!(Settings::read(text), None, "{text}");
        }
        let error = settings(Some(0), None).check().unwrap_err().to_string();
        assert!(error.starts_with("rate is 0 a second; it must be 1 to 100000 a second: "), "{error}");
    }

    #[test]
    fn certificates_come_back_as_they_were_stored() {
        let digits = "0f".repeat(32);
        let first = format!("v1 client_certificate={digits}");
        for (client_certificates, text) in [
            ([Some([0x0F; 32]), None], first.clone()),
            (
                [Some([0x0F; 32]), Some([0xAB; 32])],
                format!("{first} client_certificate_2={}", "ab".repeat(32)),
            ),
        ] {
            let settings = Settings { client_certificates, ..Settings::default() };
            assert_eq!(settings.text(), text);
            assert_eq!(Settings::read(&text), Some(settings));
        }
        for digits in ["0F".repeat(32), "0f".repeat(31), "0g".repeat(32), "+f".repeat(32)] {
            assert_eq!(Settings::read(&format!("v1 client_certificate={digits}")), None, "{digits}");
        }
        assert_eq!(super::fingerprint(&"0F".repeat(32)), Some([0x0F; 32]), "openssl writes them so");
    }

    #[test]
    fn the_rule_of_absent_tills_comes_back_as_it_was_stored() {
        for (absent_till, absent_after_ms, text) in [
            (Some(AbsentTill::Reverse), None, "v1 absent_till=reverse"),
            (None, Some(ABSENT_AFTER_MS_MAX), "v1 absent_after_ms=600000"),
            (Some(AbsentTill::Keep), Some(15_000), "v1 absent_till=keep absent_after_ms=15000"),
        ] {
            let settings = Settings { absent_till, absent_after_ms, ..Settings::default() };
            assert_eq!(settings.text(), text);
            assert_eq!(Settings::read(text), Some(settings));
        }
        let late = Settings { absent_after_ms: Some(14_999), ..Settings::default() };
        let told = late.check().unwrap_err().to_string();
        assert!(
            told.starts_with("absent after is 14999 ms; it must be 15000 to 600000 ms: a till"),
            "{told}"
        );
    }

    #[test]
    fn the_rule_of_second_scans_comes_back_as_it_was_stored() {
        for (rescan, rescan_window_ms, text) in [
            (Some(RescanRule::Settle), None, "v1 rescan=settle"),
            (Some(RescanRule::Off), Some(RESCAN_WINDOW_MS_MAX), "v1 rescan=off rescan_window_ms=600000"),
            (Some(RescanRule::Refuse), Some(15_000), "v1 rescan=refuse rescan_window_ms=15000"),
        ] {
            let settings = Settings { rescan, rescan_window_ms, ..Settings::default() };
            assert_eq!(settings.text(), text);
            assert_eq!(Settings::read(text), Some(settings));
        }
    }

    #[test]
    fn what_this_version_did_not_write_is_not_guessed_at() {
        let _covers = covers::covers(&["INV-29"]);
        for text in [
            "v2 hold_ms=8000",
            "v1",
            "hold_ms=8000",
            "v1 hold_ms=8000 hold_ms=8000",
            "v1 hold_ms=999",
            "v1 long_poll_ms=7001",
            "v1 long_poll_ms=07000",
            "v1 rescan=",
            "v1 rescan=maybe",
            "v1 rescan_window_ms=14999",
            "v1 rescan_window_ms=90000 rescan=settle",
            "v1 absent_till=give",
            "v1 absent_till=keep absent_till=keep",
            "v1 absent_after_ms=14999",
            "v1 absent_after_ms=15000 absent_till=keep",
            "v1 hold_ms=8000 ",
            "v1 long_poll_ms=0 hold_ms=8000",
        ] {
            assert_eq!(Settings::read(text), None, "{text}");
        }
    }

    #[test]
    fn bounds_are_told_with_their_reason() {
        let check = |hold_ms, long_poll_ms| Settings { hold_ms, long_poll_ms, ..Settings::default() }.check();
        assert_eq!(check(Some(HOLD_MS_MIN), Some(LONG_POLL_MS_MAX)), Ok(()));
        for (hold_ms, long_poll_ms, told) in [
            (Some(999), None, "hold is 999 ms; it must be 1000 to 30000 ms: the till must still be reading"),
            (Some(30_001), None, "hold is 30001 ms"),
            (None, Some(7_001), "long poll is 7001 ms; it must be 0 to 7000 ms: published clients"),
        ] {
            let error = check(hold_ms, long_poll_ms).unwrap_err().to_string();
            assert!(error.starts_with(told), "{error}");
        }
    }
}
