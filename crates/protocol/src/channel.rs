//! Which wallet a scanned code belongs to.
//!
//! Source: auth-codes §2, §3. A code is a bearer credential for money: nothing here repeats it.

use thiserror::Error;

/// The longest input looked at, in bytes.
const INPUT_MAX: usize = 64;
/// Lengths that a string of digits can have at all.
const DIGITS_MIN: usize = 16;
const DIGITS_MAX: usize = 35;

/// A wallet whose codes are known. Source: auth-codes §1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Wallet {
    /// WeChat Pay: 10 to 15, 18 digits.
    WeChat,
    /// Alipay: 25 to 30, 16 to 24 digits.
    Alipay,
    /// Alipay face token: `fp` and 33 letters or digits.
    AlipayFace,
    /// UnionPay: 62, 19 digits.
    UnionPay,
    /// CCB Long Pay, a part of UnionPay's range.
    CcbLong,
    /// Digital RMB: 01, 19 digits.
    Ecny,
    /// JD Pay: 18, 18 digits.
    Jd,
    /// BestPay: 51, 18 digits.
    BestPay,
    /// Suning: 83, at least 16 digits. From one source only: taken only where it is enabled.
    Suning,
    /// QQ Wallet: 91, 18 digits. Unconfirmed: taken only where it is enabled.
    Qq,
}

/// A set of wallets: those that a merchant has an upstream for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Wallets(u16);

/// What a customer shows instead of a payment code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shown {
    /// A WeChat receive code or order code.
    WeChatReceive,
    /// An Alipay receive code.
    AlipayReceive,
    /// A UnionPay merchant or receive code.
    UnionPayReceive,
    /// EMVCo consumer-presented data: another kind of code, for another upstream.
    EmvCode,
}

/// Why a code is refused. Nothing was sent anywhere; the till may scan again with the same sale.
#[derive(Debug, Error, Clone, Copy, PartialEq, Eq)]
pub enum Refused {
    /// No payment code at all: goods barcode, partial or double scan, other characters (rows 1, 4, 4a).
    #[error("not a payment code")]
    InvalidInput,
    /// The customer shows another kind of code (row 2).
    #[error("the customer shows a code of another kind")]
    WrongCodeKind(Shown),
    /// A known wallet's prefix, but not its length (rows 6, 8).
    #[error("a payment code was scanned in part or twice")]
    InvalidCode,
    /// No wallet known has such codes (row 15).
    #[error("no known wallet has such codes")]
    UnknownCode,
    /// A wallet for which the merchant has no upstream (row 16).
    #[error("the merchant does not take this wallet")]
    WalletNotSupported(Wallet),
}

impl Wallets {
    /// No wallet.
    pub const NONE: Self = Self(0);

    /// This set and `wallet`.
    #[must_use]
    pub const fn with(self, wallet: Wallet) -> Self {
        Self(self.0 | 1 << wallet as u16)
    }

    /// Whether `wallet` is in it.
    #[must_use]
    pub const fn has(self, wallet: Wallet) -> bool {
        self.0 & (1 << wallet as u16) != 0
    }
}

impl Refused {
    /// The word of the decision table.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::InvalidInput => "INVALID_INPUT",
            Self::WrongCodeKind(_) => "WRONG_CODE_KIND",
            Self::InvalidCode => "INVALID_CODE",
            Self::UnknownCode => "UNKNOWN_CODE",
            Self::WalletNotSupported(_) => "WALLET_NOT_SUPPORTED",
        }
    }
}

/// A prefix that belongs to a wallet, and the lengths its codes have.
#[derive(Clone, Copy)]
struct Rule {
    wallet: Wallet,
    min: usize,
    max: usize,
    /// What a code with this prefix and another length is.
    otherwise: Refused,
    /// Whether the rule counts only where the wallet is enabled (row 14).
    extra: bool,
}

/// The two-digit jump table: prefixes are disjoint, so that one look decides (rows 5 to 14).
#[expect(
    clippy::indexing_slicing,
    reason = "worked out by the compiler, which refuses what is out of bounds"
)]
const RULES: [Option<Rule>; 100] = {
    const fn rule(wallet: Wallet, min: usize, max: usize, otherwise: Refused, extra: bool) -> Option<Rule> {
        Some(Rule { wallet, min, max, otherwise, extra })
    }
    let mut rules = [None; 100];
    let mut prefix = 10;
    while prefix <= 15 {
        rules[prefix] = rule(Wallet::WeChat, 18, 18, Refused::InvalidCode, false);
        prefix += 1;
    }
    prefix = 25;
    while prefix <= 30 {
        rules[prefix] = rule(Wallet::Alipay, 16, 24, Refused::InvalidCode, false);
        prefix += 1;
    }
    rules[62] = rule(Wallet::UnionPay, 19, 19, Refused::UnknownCode, false);
    rules[1] = rule(Wallet::Ecny, 19, 19, Refused::UnknownCode, false);
    rules[18] = rule(Wallet::Jd, 18, 18, Refused::UnknownCode, false);
    rules[51] = rule(Wallet::BestPay, 18, 18, Refused::UnknownCode, false);
    rules[83] = rule(Wallet::Suning, 16, DIGITS_MAX, Refused::UnknownCode, true);
    rules[91] = rule(Wallet::Qq, 18, 18, Refused::UnknownCode, true);
    rules
};

/// Strips what a scanner adds: ASCII white space at both ends and one AIM symbology identifier (`]C1`).
///
/// Source: auth-codes §2 no. 2. [`crate::AuthCode`] is read the same way.
#[must_use]
pub fn normalise(scanned: &str) -> &str {
    let text = scanned.trim_matches(|c: char| c.is_ascii_whitespace());
    match text.as_bytes() {
        [b']', b'A'..=b'Z' | b'a'..=b'z', b'0'..=b'9', ..] => text.get(3..).unwrap_or_default(),
        _ => text,
    }
}

/// Tells the wallet of a scanned code, or why it is refused; `enabled` are the wallets that the merchant takes.
///
/// # Errors
///
/// [`Refused`], by the rows of the decision table.
///
/// Source: auth-codes §3.
pub fn classify(scanned: &str, enabled: Wallets) -> Result<Wallet, Refused> {
    let code = normalise(scanned);
    if code.is_empty() || code.len() > INPUT_MAX || code.chars().any(char::is_control) {
        return Err(Refused::InvalidInput);
    }
    if let Some(shown) = shown_by_mistake(code) {
        return Err(Refused::WrongCodeKind(shown));
    }
    if !code.bytes().all(|byte| byte.is_ascii_digit()) {
        return match code.strip_prefix("fp") {
            Some(token)
                if token.len() == 33
                    && token.bytes().all(|byte| byte.is_ascii_alphanumeric())
                    && enabled.has(Wallet::AlipayFace) =>
            {
                Ok(Wallet::AlipayFace)
            }
            _ => Err(Refused::InvalidInput),
        };
    }
    if !(DIGITS_MIN..=DIGITS_MAX).contains(&code.len()) {
        return Err(Refused::InvalidInput);
    }
    let prefix = code.get(..2).and_then(|prefix| prefix.parse().ok());
    let rule: Option<Rule> = prefix.and_then(|prefix: usize| *RULES.get(prefix)?);
    let Some(rule) = rule.filter(|rule| !rule.extra || enabled.has(rule.wallet)) else {
        return Err(Refused::UnknownCode);
    };
    if !(rule.min..=rule.max).contains(&code.len()) {
        return Err(rule.otherwise);
    }
    let ccb = rule.wallet == Wallet::UnionPay && enabled.has(Wallet::CcbLong) && is_ccb(code);
    let wallet = if ccb { Wallet::CcbLong } else { rule.wallet };
    if enabled.has(wallet) { Ok(wallet) } else { Err(Refused::WalletNotSupported(wallet)) }
}

/// Whether a UnionPay code is one of CCB: third digit 2 to 7, digits four to seven `0105`.
fn is_ccb(code: &str) -> bool {
    matches!(code.as_bytes(), [_, _, b'2'..=b'7', b'0', b'1', b'0', b'5', ..])
}

/// Things that customers show by mistake. Source: auth-codes §1.
fn shown_by_mistake(code: &str) -> Option<Shown> {
    const PATTERNS: [(&str, Shown); 6] = [
        ("wxp://", Shown::WeChatReceive),
        ("weixin://", Shown::WeChatReceive),
        ("https://payapp.weixin.qq.com/", Shown::WeChatReceive),
        ("https://qr.alipay.com/", Shown::AlipayReceive),
        ("https://qr.95516.com/", Shown::UnionPayReceive),
        ("hQVDUFYwM", Shown::EmvCode),
    ];
    let starts = |pattern: &str, shown| {
        let head = code.get(..pattern.len())?;
        // A scheme and a host have no case; Base64 has.
        (head == pattern || (shown != Shown::EmvCode && head.eq_ignore_ascii_case(pattern))).then_some(shown)
    };
    PATTERNS.into_iter().find_map(|(pattern, shown)| starts(pattern, shown))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::{prop_assert_eq, proptest};

    use super::{Refused, Wallet, Wallets, classify};
    use crate::AuthCode;

    const BASE: Wallets = Wallets::NONE
        .with(Wallet::WeChat)
        .with(Wallet::Alipay)
        .with(Wallet::UnionPay)
        .with(Wallet::Ecny)
        .with(Wallet::Jd)
        .with(Wallet::BestPay);

    fn word(result: Result<Wallet, Refused>) -> &'static str {
        match result {
            Err(refused) => refused.as_str(),
            Ok(Wallet::WeChat) => "WECHAT",
            Ok(Wallet::Alipay) => "ALIPAY",
            Ok(Wallet::AlipayFace) => "ALIPAY_FACE",
            Ok(Wallet::UnionPay) => "UNIONPAY",
            Ok(Wallet::CcbLong) => "CCB_LONG",
            Ok(Wallet::Ecny) => "ECNY",
            Ok(Wallet::Jd) => "JD",
            Ok(Wallet::BestPay) => "BESTPAY",
            Ok(Wallet::Suning) => "SUNING",
            Ok(Wallet::Qq) => "QQ",
        }
    }

    #[test]
    fn vectors() {
        let index: serde_json::Value =
            serde_json::from_str(include_str!("../tests/vectors/auth-codes.json")).expect("JSON");
        let cases = index["cases"].as_array().expect("list");
        assert_eq!(cases.len(), 36);
        for case in cases {
            let mut enabled = BASE;
            if case["face_enabled"] == true {
                enabled = enabled.with(Wallet::AlipayFace);
            }
            if case["ccb_route"] == true {
                enabled = enabled.with(Wallet::CcbLong);
            }
            let input = case["input"].as_str().expect("text");
            assert_eq!(Some(word(classify(input, enabled))), case["expect"].as_str(), "{case}");
        }
    }

    #[test]
    fn rows_that_the_vectors_leave_out() {
        for (input, enabled, expected) in [
            ("134567890123456789", Wallets::NONE, "WALLET_NOT_SUPPORTED"),
            ("910000000000000000", BASE, "UNKNOWN_CODE"),
            ("910000000000000000", BASE.with(Wallet::Qq), "QQ"),
            ("8300000000000000", BASE.with(Wallet::Suning), "SUNING"),
            ("HTTPS://QR.ALIPAY.COM/FKX0", BASE, "WRONG_CODE_KIND"),
            ("]C1134567890123456789", BASE, "WECHAT"),
            ("]C1]C1134567890123456789", BASE, "INVALID_INPUT"),
            ("13456789\u{1}0123456789", BASE, "INVALID_INPUT"),
            ("fp0123456789abcdef0123456789ABCDEF0", BASE.with(Wallet::AlipayFace), "ALIPAY_FACE"),
            ("fp0123456789abcdef0123456789ABCDEF-", BASE.with(Wallet::AlipayFace), "INVALID_INPUT"),
            ("6280105123456789012", BASE.with(Wallet::CcbLong), "UNIONPAY"),
        ] {
            assert_eq!(word(classify(input, enabled)), expected, "{input}");
        }
        assert_eq!(word(classify(&"1".repeat(65), BASE)), "INVALID_INPUT");
    }

    proptest! {
        #[test]
        fn an_auth_code_is_exactly_what_is_classified_as_wechat(code in "(\\]C1)?[ \r\n]?1[0-9]{16,18}[ \r\n]?") {
            prop_assert_eq!(code.parse::<AuthCode>().is_ok(), classify(&code, BASE) == Ok(Wallet::WeChat));
        }

        #[test]
        fn nothing_panics(code in "\\PC{0,70}") {
            let _ = classify(&code, BASE);
        }
    }
}
