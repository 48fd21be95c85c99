//! A flat list of names and values in one allocation: what of a wallet's answer is handed on to a till.

use std::fmt;

/// As long as what a wallet says of a payment, or a till asks for, usually is, in bytes.
const USUAL_BYTES: usize = 512;

/// Name-value pairs in the order they came; names and values are at most 65,535 bytes of UTF-8 each.
///
/// Encoded as `len name len value …`, lengths as two bytes, little endian.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Fields(Box<[u8]>);

impl Fields {
    /// Collects `pairs`; a pair that is too long is left out.
    pub fn new<'a>(pairs: impl IntoIterator<Item = (&'a str, &'a str)>) -> Self {
        // Most lists fit, and one copy into a box of their size costs less than growing there.
        let mut bytes = Vec::with_capacity(USUAL_BYTES);
        for (name, value) in pairs {
            if let (Ok(name_len), Ok(value_len)) = (u16::try_from(name.len()), u16::try_from(value.len())) {
                bytes.extend_from_slice(&name_len.to_le_bytes());
                bytes.extend_from_slice(name.as_bytes());
                bytes.extend_from_slice(&value_len.to_le_bytes());
                bytes.extend_from_slice(value.as_bytes());
            }
        }
        Self(bytes.into())
    }

    /// The encoded form, for storage.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// Takes an encoded form back; `None` unless it is whole and UTF-8.
    #[must_use]
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let mut rest = bytes;
        while !rest.is_empty() {
            (_, rest) = take(rest)?;
            (_, rest) = take(rest)?;
        }
        Some(Self(bytes.into()))
    }

    /// The pairs, in order.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        let mut rest: &[u8] = &self.0;
        std::iter::from_fn(move || {
            let (name, after) = take(rest)?;
            let (value, after) = take(after)?;
            rest = after;
            Some((name, value))
        })
    }

    /// The value of the first pair called `name`.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&str> {
        self.iter().find(|(n, _)| *n == name).map(|(_, value)| value)
    }

    /// Whether there is no pair.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// Splits one length-prefixed text off the front.
fn take(bytes: &[u8]) -> Option<(&str, &[u8])> {
    let (len, rest) = bytes.split_first_chunk::<2>()?;
    let (text, rest) = rest.split_at_checked(usize::from(u16::from_le_bytes(*len)))?;
    Some((std::str::from_utf8(text).ok()?, rest))
}

impl fmt::Debug for Fields {
    /// Names only: values may hold `openid`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter().map(|(name, _)| name)).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::Fields;

    #[test]
    fn pairs_survive_the_encoding() {
        let fields = Fields::new([("openid", "oX"), ("attach", ""), ("bank_type", "招商")]);
        let back = Fields::from_bytes(fields.as_bytes()).expect("whole");
        assert_eq!(
            back.iter().collect::<Vec<_>>(),
            [("openid", "oX"), ("attach", ""), ("bank_type", "招商")]
        );
        assert_eq!(back.get("bank_type"), Some("招商"));
        assert_eq!(format!("{back:?}"), r#"["openid", "attach", "bank_type"]"#);
        for cut in 1..fields.as_bytes().len() {
            let cut = &fields.as_bytes()[..cut];
            assert!(Fields::from_bytes(cut).is_none_or(|f| f.as_bytes().len() == cut.len()));
        }
        assert!(Fields::from_bytes(&[5, 0, b'a']).is_none());
    }
}
