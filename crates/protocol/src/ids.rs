//! Identifiers: inline, fixed-size, checked once. None allocates.

use std::fmt;
use std::hash::{Hash, Hasher};
use std::str::FromStr;

use thiserror::Error;
use zeroize::Zeroize;

/// Why a text is not the identifier it should be.
#[derive(Debug, Error, Clone, Copy, PartialEq, Eq)]
pub enum IdError {
    /// Empty.
    #[error("is empty")]
    Empty,
    /// Shorter than the shortest allowed.
    #[error("is shorter than {0} characters")]
    TooShort(usize),
    /// Longer than the longest allowed.
    #[error("is longer than {0} characters")]
    TooLong(usize),
    /// A character outside the allowed set.
    #[error("holds a character that is not allowed")]
    Character,
    /// The right characters in the wrong shape.
    #[error("has the wrong shape")]
    Shape,
}

/// Up to `N` bytes of UTF-8 held inline; `N` is at most 255.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Text<const N: usize> {
    bytes: [u8; N],
    len: u8,
}

impl<const N: usize> Text<N> {
    /// The empty text.
    pub const EMPTY: Self = Self { bytes: [0; N], len: 0 };

    /// Takes `text` whole.
    ///
    /// # Errors
    ///
    /// [`IdError::TooLong`] over `N` bytes.
    pub fn new(text: &str) -> Result<Self, IdError> {
        const { assert!(N <= 255, "the length is held in one byte") };
        let mut bytes = [0; N];
        let (Some(head), Ok(len)) = (bytes.get_mut(..text.len()), u8::try_from(text.len())) else {
            return Err(IdError::TooLong(N));
        };
        head.copy_from_slice(text.as_bytes());
        Ok(Self { bytes, len })
    }

    /// Takes as many whole characters of `text` as fit.
    #[must_use]
    pub fn truncated(text: &str) -> Self {
        let mut end = text.len().min(N);
        while !text.is_char_boundary(end) {
            end = end.saturating_sub(1);
        }
        text.get(..end).and_then(|head| Self::new(head).ok()).unwrap_or(Self::EMPTY)
    }

    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(self.as_bytes()).unwrap_or_default()
    }

    /// The same as bytes, for a comparison say: they need not be checked again.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        self.bytes.get(..usize::from(self.len)).unwrap_or_default()
    }

    /// Whether it is empty.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }
}

impl<const N: usize> Hash for Text<N> {
    /// Of the text alone: what lies behind its end is the same in all of them.
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.as_bytes().hash(state);
    }
}

impl<const N: usize> fmt::Display for Text<N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl<const N: usize> fmt::Debug for Text<N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.as_str(), f)
    }
}

impl<const N: usize> AsRef<str> for Text<N> {
    fn as_ref(&self) -> &str {
        self.as_str()
    }
}

/// Checks length in `min..=max` bytes and every byte against `allowed`.
fn check(text: &str, min: usize, max: usize, allowed: impl Fn(u8) -> bool) -> Result<(), IdError> {
    if text.is_empty() {
        return Err(IdError::Empty);
    }
    if text.len() > max {
        return Err(IdError::TooLong(max));
    }
    if !text.bytes().all(allowed) {
        return Err(IdError::Character);
    }
    if text.len() < min {
        return Err(IdError::TooShort(min));
    }
    Ok(())
}

macro_rules! id {
    ($(#[$doc:meta])* $name:ident, $max:literal, $min:literal, $allowed:expr) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(Text<$max>);

        impl $name {
            /// The text, as on the wire.
            #[must_use]
            pub fn as_str(&self) -> &str {
                self.0.as_str()
            }

            /// The same as bytes.
            #[must_use]
            pub fn as_bytes(&self) -> &[u8] {
                self.0.as_bytes()
            }
        }

        impl FromStr for $name {
            type Err = IdError;

            fn from_str(text: &str) -> Result<Self, IdError> {
                check(text, $min, $max, $allowed)?;
                Text::new(text).map(Self)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Debug::fmt(&self.0, f)
            }
        }

        impl AsRef<str> for $name {
            fn as_ref(&self) -> &str {
                self.as_str()
            }
        }
    };
}

id!(
    /// The merchant's number of a payment: 6 to 32 of `0-9 A-Z a-z _ - | * @`, byte-equal, never folded.
    /// Source: wechatpay-v2 §5.2.
    OutTradeNo, 32, 6, |b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-' | b'|' | b'*' | b'@')
);
id!(
    /// A merchant number (`mch_id`, `sub_mch_id`): 1 to 32 ASCII letters or digits. Source: wechatpay-v2 §3.
    MchId, 32, 1, |b| b.is_ascii_alphanumeric()
);
id!(
    /// An `appid` or `sub_appid`: 1 to 32 of `0-9 A-Z a-z _ -`. Source: wechatpay-v2 §3.
    AppId, 32, 1, |b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-')
);
id!(
    /// The channel's number of a payment: 1 to 32 ASCII letters or digits. Source: wechatpay-v2 §0.
    TransactionId, 32, 1, |b| b.is_ascii_alphanumeric()
);

/// A payer's one-time code: 18 digits, the first two 10 to 15. A bearer credential for money: it is wiped
/// when dropped and shown only as its first two and last four digits. Source: wechatpay-v2 §5.1.
#[derive(Clone, PartialEq, Eq)]
pub struct AuthCode([u8; 18]);

impl AuthCode {
    /// The code, for the wire to the wallet and nothing else.
    #[must_use]
    pub fn expose(&self) -> &str {
        std::str::from_utf8(&self.0).unwrap_or_default()
    }
}

impl FromStr for AuthCode {
    type Err = IdError;

    /// Strips ASCII white space at both ends and one AIM symbology identifier (`]C1`), as scanners add them.
    /// Source: auth-codes §2.
    fn from_str(text: &str) -> Result<Self, IdError> {
        let text = text.trim_matches(|c: char| c.is_ascii_whitespace());
        let text = match text.as_bytes() {
            [b']', b'A'..=b'Z' | b'a'..=b'z', b'0'..=b'9', ..] => text.get(3..).unwrap_or_default(),
            _ => text,
        };
        check(text, 18, 18, |b| b.is_ascii_digit())?;
        let code: [u8; 18] = text.as_bytes().try_into().map_err(|_| IdError::Shape)?;
        match code {
            [b'1', b'0'..=b'5', ..] => Ok(Self(code)),
            _ => Err(IdError::Shape),
        }
    }
}

impl Drop for AuthCode {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

impl fmt::Debug for AuthCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown = self.expose();
        write!(f, "{}************{}", shown.get(..2).unwrap_or_default(), shown.get(14..).unwrap_or_default())
    }
}

#[cfg(test)]
mod tests {
    use super::{AuthCode, IdError, MchId, OutTradeNo, Text};

    #[test]
    fn out_trade_no_is_an_ascii_allow_list() {
        let _covers = covers::covers(&["MI-11"]);
        for (text, expected) in [
            ("P20261123000000000001", None),
            ("a_-|*@", None),
            ("12345678901234567890123456789012", None),
            ("123456789012345678901234567890123", Some(IdError::TooLong(32))),
            ("12345", Some(IdError::TooShort(6))),
            ("", Some(IdError::Empty)),
            (" 123456", Some(IdError::Character)),
            ("123456\0", Some(IdError::Character)),
            ("Р12345", Some(IdError::Character)),
            ("１２３４５６", Some(IdError::Character)),
        ] {
            assert_eq!(text.parse::<OutTradeNo>().err(), expected, "{text:?}");
        }
    }

    #[test]
    fn auth_code_is_eighteen_digits_and_masked() {
        let _covers = covers::covers(&["INV-26"]);
        let code: AuthCode =
            "]C1134567890123456789\r\n".parse().expect("a scanner's prefix and suffix are stripped");
        assert_eq!(code.expose(), "134567890123456789");
        assert_eq!(format!("{code:?}"), "13************6789");
        for bad in
            ["164567890123456789", "13456789012345678", "1345678901234567890", "1345678901234567 9", ""]
        {
            assert!(bad.parse::<AuthCode>().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn text_keeps_whole_characters() {
        assert_eq!(Text::<4>::truncated("虎符").as_str(), "虎");
        assert!(Text::<4>::new("abcde").is_err());
        assert_eq!("1900000109".parse::<MchId>().expect("digits").as_str(), "1900000109");
    }
}
