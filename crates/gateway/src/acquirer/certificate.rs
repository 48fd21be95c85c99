//! Our own certificate: what is shown to the wallet, and when it ends.

use std::fmt;

use jiff::civil::DateTime;
use jiff::tz::TimeZone;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject as _;
use state_machine::UnixMs;
use zeroize::Zeroizing;

/// A provider's own certificate and its private key, PEM. Source: wechatpay-v2 §1.3.
#[derive(Clone)]
pub struct ClientCertificate {
    /// The certificate, then its intermediates if any.
    pub chain_pem: Vec<u8>,
    /// The private key: PKCS#8, PKCS#1 or SEC1.
    pub key_pem: Zeroizing<Vec<u8>>,
}

impl ClientCertificate {
    /// When the certificate ends; `None` if it cannot be read. An operator hears of it 30 days before: then
    /// neither reversals nor refunds work.
    ///
    /// Source: wechatpay-v2 §1.3; faults-and-invariants NU-14.
    #[must_use]
    pub fn ends_at(&self) -> Option<UnixMs> {
        not_after(CertificateDer::pem_slice_iter(&self.chain_pem).next()?.ok()?.as_ref())
    }
}

impl fmt::Debug for ClientCertificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ClientCertificate(..)")
    }
}

// Tags of DER. Source: X.690.
const INTEGER: u8 = 0x02;
const UTC_TIME: u8 = 0x17;
const GENERALIZED_TIME: u8 = 0x18;
const SEQUENCE: u8 = 0x30;
const VERSION: u8 = 0xA0;

/// `notAfter` of an X.509 certificate. Source: RFC 5280 §4.1.
pub(crate) fn not_after(der: &[u8]) -> Option<UnixMs> {
    let (certificate, _) = expect(SEQUENCE, der)?;
    let (to_be_signed, _) = expect(SEQUENCE, certificate)?;
    // The version may be left out.
    let rest = expect(VERSION, to_be_signed).map_or(to_be_signed, |(_, rest)| rest);
    let (_serial, rest) = expect(INTEGER, rest)?;
    let (_algorithm, rest) = expect(SEQUENCE, rest)?;
    let (_issuer, rest) = expect(SEQUENCE, rest)?;
    let (validity, _) = expect(SEQUENCE, rest)?;
    let (_, _not_before, rest) = element(validity)?;
    let (tag, time, _) = element(rest)?;
    let text = std::str::from_utf8(time).ok()?.strip_suffix('Z')?;
    let text = match tag {
        // Two digits of a year up to 2049.
        UTC_TIME if text.get(..2)?.parse::<u8>().ok()? < 50 => format!("20{text}"),
        UTC_TIME => format!("19{text}"),
        GENERALIZED_TIME => text.to_owned(),
        _ => return None,
    };
    if text.len() != 14 || !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let part = |at: usize| text.get(at..)?.get(..2)?.parse::<i8>().ok();
    let year = text.get(..4)?.parse().ok()?;
    DateTime::new(year, part(4)?, part(6)?, part(8)?, part(10)?, part(12)?, 0)
        .and_then(|time| time.to_zoned(TimeZone::UTC))
        .ok()
        .map(|time| UnixMs(time.timestamp().as_millisecond()))
}

/// The content of the first element and what follows it, if it has this tag.
fn expect(tag: u8, der: &[u8]) -> Option<(&[u8], &[u8])> {
    element(der).filter(|(found, _, _)| *found == tag).map(|(_, content, rest)| (content, rest))
}

/// Tag and content of the first element, and what follows it.
fn element(der: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (tag, rest) = der.split_first()?;
    let (length, rest) = rest.split_first()?;
    let (length, rest) = match length {
        0..=0x7F => (usize::from(*length), rest),
        0x81..=0x84 => {
            let (bytes, rest) = rest.split_at_checked(usize::from(length & 0x7F))?;
            (bytes.iter().fold(0, |length, byte| length << 8 | usize::from(*byte)), rest)
        }
        _ => return None,
    };
    let (content, rest) = rest.split_at_checked(length)?;
    Some((*tag, content, rest))
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, KeyPair, date_time_ymd};
    use state_machine::UnixMs;

    use super::{ClientCertificate, not_after};

    fn certificate(year: i32) -> rcgen::Certificate {
        let mut params = CertificateParams::new(vec!["1900000109".to_owned()]).expect("a name");
        params.not_after = date_time_ymd(year, 2, 3);
        params.self_signed(&KeyPair::generate().expect("a key")).expect("a certificate")
    }

    #[test]
    fn the_end_of_a_certificate_is_known() {
        let _covers = covers::covers(&["NU-14"]);
        // 2049 is written with two digits, 2050 with four.
        for (year, ends_at_s) in
            [(1999, 918_000_000), (2030, 1_896_307_200), (2049, 2_495_923_200), (2050, 2_527_459_200)]
        {
            let chain_pem = certificate(year).pem().into_bytes();
            let certificate = ClientCertificate { chain_pem, key_pem: Vec::new().into() };
            assert_eq!(certificate.ends_at(), Some(UnixMs(ends_at_s * 1000)), "{year}");
        }
    }

    #[test]
    fn what_is_no_certificate_has_no_end() {
        let certificate = certificate(2030);
        let der = certificate.der();
        assert!(not_after(der).is_some());
        for cut in 0..der.len() {
            assert_eq!(not_after(&der[..cut]), None, "{cut}");
        }
        for chain_pem in [Vec::new(), b"no PEM".to_vec()] {
            assert_eq!(ClientCertificate { chain_pem, key_pem: Vec::new().into() }.ends_at(), None);
        }
    }
}
