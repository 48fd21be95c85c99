//! The customer's payment code, which also says how the customer behaves.

use std::fmt;

/// An 18-digit payment code: two digits 10 to 15, six of the payer, six of a serial number, four of the
/// customer (`BBSS`). Source: wechatpay-v2 §5.1 for the form; DESIGN §5 for the customer.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Code([u8; 18]);

impl Code {
    /// How many different codes one customer has.
    pub const SERIALS: u64 = 6 * 1_000_000 * 1_000_000;

    /// The `n`-th code of the customer `bbss` (0 to 9999, the larger counts as 9999).
    ///
    /// Codes of different `n` below [`Code::SERIALS`] differ, and the payer changes with every `n`, so that a
    /// million payments pass before a payer pays again.
    #[must_use]
    pub fn for_customer(bbss: u16, n: u64) -> Self {
        let n = n % Self::SERIALS;
        let (payer, serial, prefix) = (n % 1_000_000, n / 1_000_000 % 1_000_000, 10 + n / 1_000_000_000_000);
        let mut code = [b'0'; 18];
        for (places, number) in
            [(0..2, prefix), (2..8, payer), (8..14, serial), (14..18, bbss.min(9999).into())]
        {
            let mut rest: u64 = number;
            for place in code.get_mut(places).into_iter().flatten().rev() {
                *place += u8::try_from(rest % 10).unwrap_or_default();
                rest /= 10;
            }
        }
        Self(code)
    }

    /// A code of the customer `bbss` in the hands of `payer` (0 to 999,999), `serial` 0 to 999,999.
    #[must_use]
    pub fn for_payer(bbss: u16, payer: u32, serial: u32) -> Self {
        Self::for_customer(bbss, u64::from(payer % 1_000_000) + 1_000_000 * u64::from(serial % 1_000_000))
    }

    /// Takes a scanned text; `None` unless it is 18 digits of which the first two are 10 to 15.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let digits: [u8; 18] = text.as_bytes().try_into().ok()?;
        let fits = digits.iter().all(u8::is_ascii_digit) && digits[0] == b'1' && digits[1] <= b'5';
        fits.then_some(Self(digits))
    }

    /// The 18 digits.
    #[must_use]
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.0).unwrap_or_default()
    }

    /// The payer: digits 3 to 8.
    #[must_use]
    pub fn payer(&self) -> u32 {
        self.number(2, 8)
    }

    /// The customer's number: digits 15 and 16.
    #[must_use]
    pub fn bb(&self) -> u8 {
        u8::try_from(self.number(14, 16)).unwrap_or_default()
    }

    /// The customer's seconds or times: digits 17 and 18.
    #[must_use]
    pub fn ss(&self) -> u8 {
        u8::try_from(self.number(16, 18)).unwrap_or_default()
    }

    fn number(&self, from: usize, to: usize) -> u32 {
        self.as_str().get(from..to).and_then(|digits| digits.parse().ok()).unwrap_or_default()
    }
}

impl fmt::Debug for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}************{:02}{:02}", self.number(0, 2), self.bb(), self.ss())
    }
}

#[cfg(test)]
mod tests {
    use super::Code;

    #[test]
    fn a_code_names_prefix_payer_and_customer() {
        let code = Code::for_customer(112, 3_000_001_234_567);
        assert_eq!(code.as_str(), "132345670000010112");
        assert_eq!((code.payer(), code.bb(), code.ss()), (234_567, 1, 12));
        assert_eq!(Code::parse(code.as_str()), Some(code));
        assert_eq!(Code::for_payer(112, 234_567, 1).as_str(), "102345670000010112");
        assert_eq!(format!("{code:?}"), "13************0112");
    }

    #[test]
    fn other_codes_are_refused() {
        for text in ["", "1", "281234567890123456", "164567890123456789", "1345678901234567x9", "１３"] {
            assert_eq!(Code::parse(text), None, "{text:?}");
        }
    }
}
