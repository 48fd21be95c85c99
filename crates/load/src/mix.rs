//! Which customers come.

use std::str::FromStr;

use simulator::Rng;
use thiserror::Error;

/// Customers and their shares.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mix {
    parts: Vec<(u16, u32)>,
    total: u64,
}

/// Why a text is no mix of customers.
#[derive(Debug, Error, Clone, PartialEq, Eq)]
pub enum MixError {
    /// Not two or four digits.
    #[error("{0:?} is no customer: two digits, or four with their seconds or times (00, 0108, 99)")]
    Customer(String),
    /// Not a whole number from 1 to 1,000,000.
    #[error("{0:?} is no share: a whole number from 1 to 1000000 (00=80,02=20)")]
    Share(String),
}

impl Mix {
    /// Draws a customer, `BBSS`.
    pub(crate) fn draw(&self, rng: &mut Rng) -> u16 {
        let mut left = rng.below(self.total);
        for (customer, share) in &self.parts {
            match left.checked_sub(u64::from(*share)) {
                Some(rest) => left = rest,
                None => return *customer,
            }
        }
        0
    }

    /// As it is written: `0000=80,0200=20`.
    #[must_use]
    pub fn text(&self) -> String {
        let parts: Vec<String> =
            self.parts.iter().map(|(customer, share)| format!("{customer:04}={share}")).collect();
        parts.join(",")
    }
}

impl FromStr for Mix {
    type Err = MixError;

    /// Reads `BBSS`, or `BBSS=SHARE,…`; `BB` alone stands for `BB00`, and a share that is not said is 1.
    fn from_str(text: &str) -> Result<Self, MixError> {
        let part = |part: &str| {
            let (name, share) = part.split_once('=').unwrap_or((part, "1"));
            let digits = name.bytes().all(|byte| byte.is_ascii_digit());
            let customer = match (digits, name.len()) {
                (true, 2) => name.parse::<u16>().map(|bb| bb * 100),
                (true, 4) => name.parse(),
                _ => return Err(MixError::Customer(name.to_owned())),
            };
            let customer = customer.map_err(|_| MixError::Customer(name.to_owned()))?;
            let share = share.parse().ok().filter(|share| (1..=1_000_000).contains(share));
            Ok((customer, share.ok_or_else(|| MixError::Share(part.to_owned()))?))
        };
        let parts: Vec<(u16, u32)> =
            text.split(',').map(|text| part(text.trim())).collect::<Result<_, _>>()?;
        let total = parts.iter().map(|(_, share)| u64::from(*share)).sum();
        Ok(Self { parts, total })
    }
}

#[cfg(test)]
mod tests {
    use simulator::Rng;

    use super::{Mix, MixError};

    #[test]
    fn a_mix_is_customers_and_shares() {
        for (text, shown) in [
            ("00", "0000=1"),
            ("0108", "0108=1"),
            ("00=80,02=20", "0000=80,0200=20"),
            ("00 , 0104=3", "0000=1,0104=3"),
        ] {
            assert_eq!(text.parse::<Mix>().map(|mix| mix.text()), Ok(shown.to_owned()), "{text}");
        }
        for (text, why) in [
            ("", MixError::Customer(String::new())),
            ("0", MixError::Customer("0".to_owned())),
            ("+100", MixError::Customer("+100".to_owned())),
            ("00=0", MixError::Share("00=0".to_owned())),
            ("00=80%", MixError::Share("00=80%".to_owned())),
            ("00=1,", MixError::Customer(String::new())),
        ] {
            assert_eq!(text.parse::<Mix>(), Err(why), "{text}");
        }
    }

    #[test]
    fn customers_come_by_their_shares() {
        let mix: Mix = "00=80,02=20".parse().unwrap();
        let mut rng = Rng::new(1);
        let asked = (0..10_000).filter(|_| mix.draw(&mut rng) == 200).count();
        assert!((1_800..2_200).contains(&asked), "{asked}");
    }
}
