//! Money: an integer number of fen (1/100 CNY), never a float.

use std::fmt;

use thiserror::Error;

/// An amount of money in fen, 1 to [`Fen::MAX`].
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Fen(u64);

/// Why a text or number is not an amount.
#[derive(Debug, Error, Clone, Copy, PartialEq, Eq)]
pub enum AmountError {
    /// Not plain decimal digits without sign or leading zero.
    #[error("amount is not plain decimal digits")]
    Malformed,
    /// Zero.
    #[error("amount is zero")]
    Zero,
    /// Over [`Fen::MAX`].
    #[error("amount is over {}", Fen::MAX)]
    TooLarge,
}

impl Fen {
    /// The largest amount taken: 2³¹−1 fen, what every published client can hold.
    /// Source: faults-and-invariants MI-10; the channel documents no maximum.
    pub const MAX: u64 = i32::MAX.unsigned_abs() as u64;

    /// Takes a number of fen.
    ///
    /// # Errors
    ///
    /// [`AmountError::Zero`] for 0, [`AmountError::TooLarge`] over [`Fen::MAX`].
    pub const fn new(fen: u64) -> Result<Self, AmountError> {
        match fen {
            0 => Err(AmountError::Zero),
            1..=Self::MAX => Ok(Self(fen)),
            _ => Err(AmountError::TooLarge),
        }
    }

    /// Reads `total_fee`: ASCII decimal digits, fen, no sign, no leading zero.
    ///
    /// # Errors
    ///
    /// [`AmountError::Malformed`] unless `text` is only such digits, [`AmountError::Zero`] if it is 0,
    /// [`AmountError::TooLarge`] over [`Fen::MAX`].
    ///
    /// Source: WeChat Pay API v2, micropay, field `total_fee`; wechatpay-v2 §5.3.
    pub fn from_total_fee(text: &str) -> Result<Self, AmountError> {
        let bytes = text.as_bytes();
        if bytes.is_empty() || !bytes.iter().all(u8::is_ascii_digit) {
            return Err(AmountError::Malformed);
        }
        if bytes == b"0" {
            return Err(AmountError::Zero);
        }
        if bytes.first() == Some(&b'0') {
            return Err(AmountError::Malformed);
        }
        text.parse::<u64>().map_or(Err(AmountError::TooLarge), Self::new)
    }

    /// The number of fen.
    #[must_use]
    pub const fn get(self) -> u64 {
        self.0
    }
}

impl fmt::Display for Fen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Debug for Fen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} fen", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::{AmountError, Fen};

    #[test]
    fn reads_plain_digits_only() {
        let _covers = covers::covers(&["INV-03", "MI-10"]);
        for (text, expected) in [
            ("1", Ok(1)),
            ("1288", Ok(1288)),
            ("2147483647", Ok(Fen::MAX)),
            ("2147483648", Err(AmountError::TooLarge)),
            ("9223372036854775808", Err(AmountError::TooLarge)),
            ("18446744073709551617", Err(AmountError::TooLarge)),
            ("12345678901234567890", Err(AmountError::TooLarge)),
            ("0", Err(AmountError::Zero)),
            ("", Err(AmountError::Malformed)),
            ("00", Err(AmountError::Malformed)),
            ("01", Err(AmountError::Malformed)),
            ("+1", Err(AmountError::Malformed)),
            ("-1", Err(AmountError::Malformed)),
            ("1.0", Err(AmountError::Malformed)),
            ("1e2", Err(AmountError::Malformed)),
            (" 1", Err(AmountError::Malformed)),
            ("１", Err(AmountError::Malformed)),
        ] {
            assert_eq!(Fen::from_total_fee(text).map(Fen::get), expected, "{text:?}");
        }
    }
}
