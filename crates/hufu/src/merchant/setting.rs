//! What a merchant may set, for every verb that takes it: options of `add` and `set`, columns of `import`.

use clap::{Arg, ArgMatches, Args, Command, FromArgMatches};
use gateway::admin::{Changes, Setting};

/// What people read about a setting.
struct Words {
    /// What stands for its value.
    value: &'static str,
    /// What it is.
    about: &'static str,
    /// What it may be.
    values: &'static str,
    /// What applies where the merchant has set nothing.
    default: &'static str,
    /// Whether the word `default` goes back to that.
    unset: bool,
}

const fn words(setting: Setting) -> Words {
    let (value, about, values, default) = match setting {
        Setting::Mode => (
            "MODE",
            "How its pay requests are answered, with the wallet's first word or with the outcome",
            "relay or hold",
            "relay",
        ),
        Setting::HoldMs => {
            ("MS", "In hold mode, milliseconds until USERPAYING", "1000 to 30000", "northbound.hold_ms")
        }
        Setting::LongPollMs => (
            "MS",
            "Milliseconds that a query of an open payment waits for the outcome",
            "0 (off) to 7000",
            "northbound.long_poll_ms",
        ),
        Setting::PerSecond => (
            "N",
            "Requests of all its tills in a second, on average",
            "1 to 100000",
            "northbound.merchant_per_second",
        ),
        Setting::Burst => {
            ("N", "Requests of all its tills at once", "1 to 100000", "northbound.merchant_burst")
        }
        Setting::AbsentTill => {
            ("WORD", "Money that no till asks about", "keep or reverse", "northbound.absent_till")
        }
        Setting::AbsentAfterMs => (
            "MS",
            "Milliseconds after which a till counts as absent",
            "15000 to 600000",
            "northbound.absent_after_ms",
        ),
        Setting::Rescan => (
            "WORD",
            "A second payment of the same till for the same amount while the first is not settled",
            "off, settle or refuse",
            "northbound.rescan",
        ),
        Setting::RescanWindowMs => (
            "MS",
            "Milliseconds for which two such payments may be one sale",
            "15000 to 600000",
            "northbound.rescan_window_ms",
        ),
    };
    Words { value, about, values, default, unset: !matches!(setting, Setting::Mode) }
}

/// The option of a setting.
fn option(setting: Setting) -> String {
    setting.name().replace('_', "-")
}

/// One option for each setting.
#[derive(Debug, Default)]
pub(super) struct SettingArgs {
    /// What was given.
    pub(super) changes: Changes,
}

impl Args for SettingArgs {
    fn augment_args(command: Command) -> Command {
        Setting::ALL.into_iter().fold(command, |command, setting| {
            let Words { value, about, values, default, unset } = words(setting);
            let back =
                if unset { format!(", or default ({default})") } else { format!("; at first {default}") };
            let read = move |text: &str| {
                let read = Changes::default().insert(setting, text);
                read.map(|()| text.to_owned())
            };
            let arg = Arg::new(setting.name()).long(option(setting)).value_name(value).value_parser(read);
            command.arg(arg.help(format!("{about}: {values}{back}")))
        })
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

impl FromArgMatches for SettingArgs {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        let mut args = Self::default();
        args.update_from_arg_matches(matches)?;
        Ok(args)
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        for setting in Setting::ALL {
            if let Some(text) = matches.get_one::<String>(setting.name()) {
                let inserted = self.changes.insert(setting, text);
                inserted.map_err(|why| clap::Error::raw(clap::error::ErrorKind::ValueValidation, why))?;
            }
        }
        Ok(())
    }
}

/// The options, for who has given none.
pub(super) fn options() -> String {
    let names: Vec<String> = Setting::ALL.map(|setting| format!("--{}", option(setting))).into();
    match names.split_last() {
        Some((last, others)) => format!("{} or {last}", others.join(", ")),
        None => String::new(),
    }
}

/// What the help of the import says of the columns.
pub(super) fn columns() -> String {
    let column = |setting: Setting| {
        let Words { values, default, .. } = words(setting);
        format!("  {:<22} {values} (may be empty: {default})\n", setting.name())
    };
    Setting::ALL.map(column).concat()
}

#[cfg(test)]
mod tests {
    use clap::{Args as _, Command, FromArgMatches as _};
    use gateway::admin::{Changes, Setting};

    use super::{SettingArgs, words};

    #[test]
    fn every_setting_is_an_option_and_its_bounds_are_those_that_are_told() {
        for setting in Setting::ALL {
            let known = words(setting);
            let told: Vec<&str> = known
                .values
                .split([' ', ','])
                .filter(|word| !matches!(*word, "" | "to" | "or" | "(off)"))
                .collect();
            for value in told.iter().copied().chain(known.unset.then_some("default")) {
                let command = SettingArgs::augment_args(Command::new("set"));
                let option = format!("--{}={value}", super::option(setting));
                let matches = command.try_get_matches_from(["set", &option]).expect("an option and a value");
                let args = SettingArgs::from_arg_matches(&matches).expect("taken");
                let mut expected = Changes::default();
                expected.insert(setting, value).expect("a value");
                assert_eq!(args.changes, expected);
                assert_eq!(args.changes.check(), Ok(()), "{option}");
            }
            // A bound that is told is the last one that is taken.
            let numbers: Vec<u32> = told.iter().filter_map(|word| word.parse().ok()).collect();
            for outside in
                [numbers.first().and_then(|least| least.checked_sub(1)), numbers.last().map(|most| most + 1)]
            {
                let Some(outside) = outside else { continue };
                let mut changes = Changes::default();
                changes.insert(setting, &outside.to_string()).expect("a number");
                assert_eq!(changes.check().map_err(|(named, _)| named), Err(setting), "{outside}");
            }
        }
    }
}
