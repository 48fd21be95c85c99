//! The two signature methods of API v2.

use std::fmt;

use thiserror::Error;

/// How a message is signed. Source: wechatpay-v2 §2.1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// MD5 over the canonical string and the key: 32 digits.
    Md5,
    /// HMAC-SHA256 over the same text, with the key as HMAC key too: 64 digits.
    HmacSha256,
}

/// A `sign_type` other than `MD5` and `HMAC-SHA256`, letter by letter.
#[derive(Debug, Error, Clone, Copy, PartialEq, Eq)]
#[error("sign_type is neither MD5 nor HMAC-SHA256")]
pub struct UnknownKind;

impl Kind {
    /// Reads the field `sign_type`; absent or empty means MD5.
    ///
    /// # Errors
    ///
    /// [`UnknownKind`] for any other word: a message cannot choose a method that does not exist.
    pub fn parse(sign_type: Option<&str>) -> Result<Self, UnknownKind> {
        match sign_type {
            None | Some("" | "MD5") => Ok(Self::Md5),
            Some("HMAC-SHA256") => Ok(Self::HmacSha256),
            Some(_) => Err(UnknownKind),
        }
    }

    /// The word for the field `sign_type`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Md5 => "MD5",
            Self::HmacSha256 => "HMAC-SHA256",
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::{Kind, UnknownKind};

    #[test]
    fn sign_type_is_read_letter_by_letter() {
        let _covers = covers::covers(&["MI-06"]);
        for (word, expected) in [
            (None, Ok(Kind::Md5)),
            (Some(""), Ok(Kind::Md5)),
            (Some("MD5"), Ok(Kind::Md5)),
            (Some("HMAC-SHA256"), Ok(Kind::HmacSha256)),
            (Some("md5"), Err(UnknownKind)),
            (Some("HMAC_SHA256"), Err(UnknownKind)),
            (Some("MD5 "), Err(UnknownKind)),
            (Some("NONE"), Err(UnknownKind)),
        ] {
            assert_eq!(Kind::parse(word), expected, "{word:?}");
        }
        assert_eq!(Kind::parse(Some(Kind::HmacSha256.as_str())), Ok(Kind::HmacSha256));
    }
}
