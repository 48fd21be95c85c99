//! What operators set for one merchant: one name for each setting, in commands, options and columns alike.
//!
//! Another setting is another [`Setting`]: the compiler then asks for its words in the command line, and every verb
//! that takes settings takes it.

use std::collections::BTreeMap;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use store::Settings;
use store::merchant::Mode;

/// A setting of a merchant.
#[derive(Clone, Copy, Debug, Serialize, Deserialize, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[serde(rename_all = "snake_case")]
pub enum Setting {
    /// `relay` or `hold`: how its pay requests are answered.
    Mode,
    /// In hold mode: how long a pay request waits for a definite outcome, in milliseconds.
    HoldMs,
    /// How long a query of an open payment waits for its outcome, in milliseconds.
    LongPollMs,
    /// Requests in a second, averaged over the burst.
    PerSecond,
    /// Requests at once.
    Burst,
    /// `keep` or `reverse`: what becomes of money that no till asks about.
    AbsentTill,
    /// When a till counts as absent, in milliseconds.
    AbsentAfterMs,
    /// `off`, `settle` or `refuse`: what becomes of a second payment of the same till for the same amount.
    Rescan,
    /// For how long after the first, in milliseconds.
    RescanWindowMs,
}

impl Setting {
    /// All of them, in the order in which they are shown.
    pub const ALL: [Self; 9] = [
        Self::Mode,
        Self::HoldMs,
        Self::LongPollMs,
        Self::PerSecond,
        Self::Burst,
        Self::AbsentTill,
        Self::AbsentAfterMs,
        Self::Rescan,
        Self::RescanWindowMs,
    ];

    /// Its name: the column of an import, and the option with dashes.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Mode => "mode",
            Self::HoldMs => "hold_ms",
            Self::LongPollMs => "long_poll_ms",
            Self::PerSecond => "per_second",
            Self::Burst => "burst",
            Self::AbsentTill => "absent_till",
            Self::AbsentAfterMs => "absent_after_ms",
            Self::Rescan => "rescan",
            Self::RescanWindowMs => "rescan_window_ms",
        }
    }

    /// Puts `text` in the place of what is set; `default`: whatever the configuration says.
    fn assign(self, text: &str, to: &mut Answering) -> Result<(), &'static str> {
        const NUMBER: &str = "is neither a whole number nor \"default\"";
        let settings = &mut to.settings;
        match self {
            Self::Mode => to.mode = Mode::from_word(text).ok_or("is neither relay nor hold")?,
            Self::HoldMs => settings.hold_ms = own(text, NUMBER)?,
            Self::LongPollMs => settings.long_poll_ms = own(text, NUMBER)?,
            Self::PerSecond => settings.per_second = own(text, NUMBER)?,
            Self::Burst => settings.burst = own(text, NUMBER)?,
            Self::AbsentTill => settings.absent_till = own(text, "is none of keep, reverse, default")?,
            Self::AbsentAfterMs => settings.absent_after_ms = own(text, NUMBER)?,
            Self::Rescan => settings.rescan = own(text, "is none of off, settle, refuse, default")?,
            Self::RescanWindowMs => settings.rescan_window_ms = own(text, NUMBER)?,
        }
        Ok(())
    }
}

/// Reads a value, or the word `default` as none of the merchant's own.
fn own<T: FromStr>(text: &str, what: &'static str) -> Result<Option<T>, &'static str> {
    if text == "default" {
        return Ok(None);
    }
    text.parse().map(Some).map_err(|_| what)
}

/// How the tills of a merchant are answered: what settings change.
#[derive(Clone, Copy, Debug)]
pub(super) struct Answering {
    pub(super) mode: Mode,
    pub(super) settings: Settings,
}

impl Default for Answering {
    /// That of a merchant that has set nothing.
    fn default() -> Self {
        Self { mode: Mode::Relay, settings: Settings::default() }
    }
}

/// Other values for settings of a merchant; those that are not named stay as they are.
#[derive(Clone, Debug, Default, Serialize, Deserialize, PartialEq, Eq)]
#[serde(transparent)]
pub struct Changes(BTreeMap<Setting, Given>);

/// A value as it was written.
#[derive(Clone, Debug, Serialize, Deserialize, PartialEq, Eq)]
#[serde(untagged)]
enum Given {
    Number(u32),
    Word(String),
}

impl Changes {
    /// Has `setting` changed to `text`, a value or the word `default`.
    ///
    /// # Errors
    ///
    /// What `text` is not, in words that do not repeat it: it may be a key in the wrong place.
    pub fn insert(&mut self, setting: Setting, text: &str) -> Result<(), &'static str> {
        setting.assign(text, &mut Answering::default())?;
        let given = text.parse().map_or_else(|_| Given::Word(text.to_owned()), Given::Number);
        self.0.insert(setting, given);
        Ok(())
    }

    /// Whether nothing is to change.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Checks the bounds of each value by itself.
    ///
    /// # Errors
    ///
    /// The first setting that is out of its bounds, and the bounds with their reason.
    pub fn check(&self) -> Result<(), (Setting, String)> {
        self.0.iter().try_for_each(|(setting, given)| {
            let alone = Self(BTreeMap::from([(*setting, given.clone())]));
            let after = alone.apply(Answering::default()).map_err(|why| (*setting, why))?;
            after.settings.check().map_err(|err| (*setting, err.to_string()))
        })
    }

    /// What `before` becomes; bounds are left to the store.
    pub(super) fn apply(&self, before: Answering) -> Result<Answering, String> {
        let mut after = before;
        for (setting, given) in &self.0 {
            let text = match given {
                Given::Number(number) => &number.to_string(),
                Given::Word(word) => word,
            };
            setting.assign(text, &mut after).map_err(|why| format!("{} {why}", setting.name()))?;
        }
        Ok(after)
    }
}

#[cfg(test)]
mod tests {
    use state_machine::absence::AbsentTill;
    use state_machine::rescan::RescanRule;
    use store::Settings;
    use store::merchant::Mode;

    use super::{Answering, Changes, Setting};

    fn changes(pairs: &[(Setting, &str)]) -> Changes {
        let mut changes = Changes::default();
        for (setting, text) in pairs {
            changes.insert(*setting, text).expect("a value");
        }
        changes
    }

    #[test]
    fn each_setting_has_one_name_and_a_place_of_its_own() {
        for setting in Setting::ALL {
            let wire = serde_json::to_value(setting).expect("a name");
            assert_eq!(wire, setting.name());
        }
        let all = changes(&[
            (Setting::Mode, "hold"),
            (Setting::HoldMs, "20000"),
            (Setting::LongPollMs, "0"),
            (Setting::PerSecond, "7"),
            (Setting::Burst, "9"),
            (Setting::AbsentTill, "reverse"),
            (Setting::AbsentAfterMs, "90000"),
            (Setting::Rescan, "settle"),
            (Setting::RescanWindowMs, "60000"),
        ]);
        let after = all.apply(Answering::default()).expect("taken");
        let settings = Settings {
            hold_ms: Some(20_000),
            long_poll_ms: Some(0),
            per_second: Some(7),
            burst: Some(9),
            absent_till: Some(AbsentTill::Reverse),
            absent_after_ms: Some(90_000),
            rescan: Some(RescanRule::Settle),
            rescan_window_ms: Some(60_000),
            ..Settings::default()
        };
        assert_eq!((after.mode, after.settings), (Mode::Hold, settings));
        // What is not named stays; "default" is not the merchant's own any more.
        let some = changes(&[(Setting::HoldMs, "default"), (Setting::AbsentTill, "keep")]);
        let after = some.apply(after).expect("taken");
        let settings = Settings { hold_ms: None, absent_till: Some(AbsentTill::Keep), ..settings };
        assert_eq!((after.mode, after.settings), (Mode::Hold, settings));
    }

    #[test]
    fn what_is_wrong_is_named_and_not_repeated() {
        let mut changes = Changes::default();
        for (setting, text, why) in [
            (Setting::Mode, "default", "is neither relay nor hold"),
            (Setting::HoldMs, "20s", "is neither a whole number nor \"default\""),
            (Setting::AbsentTill, "give", "is none of keep, reverse, default"),
            (Setting::Burst, "-1", "is neither a whole number nor \"default\""),
        ] {
            assert_eq!(changes.insert(setting, text), Err(why));
        }
        assert!(changes.is_empty());
        for (setting, text, why) in [
            (Setting::HoldMs, "60000", "hold is 60000 ms; it must be 1000 to 30000 ms: "),
            (Setting::PerSecond, "0", "rate is 0 a second; it must be 1 to 100000 a second: "),
            (Setting::AbsentAfterMs, "14999", "absent after is 14999 ms; it must be 15000 to 600000 ms: "),
        ] {
            let (named, told) =
                self::changes(&[(Setting::Mode, "hold"), (setting, text)]).check().unwrap_err();
            assert!(named == setting && told.starts_with(why), "{told}");
        }
    }
}
