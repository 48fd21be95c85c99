//! Signatures, the wallet's own. Source: wechatpay-v2 §2.1.

use hmac::{Hmac, KeyInit, Mac};
use md5::{Digest, Md5};
use sha2::Sha256;

/// How a message is signed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SignType {
    /// MD5, the default.
    Md5,
    /// HMAC-SHA256.
    HmacSha256,
}

/// Signs every pair but `sign` and those without a value: sorted by name, `name=value` joined by `&`, then
/// `&key=` and `key`; upper-case hex.
///
/// Source: wechatpay-v2 §2.1.
#[must_use]
pub fn sign<'a>(
    pairs: impl IntoIterator<Item = (&'a str, &'a str)>,
    key: &str,
    sign_type: SignType,
) -> String {
    let mut pairs: Vec<(&str, &str)> =
        pairs.into_iter().filter(|(name, value)| *name != "sign" && !value.is_empty()).collect();
    pairs.sort_unstable();
    let mut text = String::with_capacity(1024);
    for (name, value) in pairs {
        text.extend([name, "=", value, "&"]);
    }
    text.extend(["key=", key]);
    match sign_type {
        SignType::Md5 => upper_hex(&Md5::digest(&text)),
        SignType::HmacSha256 => {
            // The key is used twice: for the HMAC and in the text.
            let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(key.as_bytes()) else {
                return String::new();
            };
            mac.update(text.as_bytes());
            upper_hex(&mac.finalize().into_bytes())
        }
    }
}

fn upper_hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789ABCDEF";
    bytes
        .iter()
        .flat_map(|byte| [byte >> 4, byte & 15])
        .map(|nibble| char::from(DIGITS.get(usize::from(nibble)).copied().unwrap_or(b'0')))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::{SignType, sign};

    const KEY: &str = "192006250b4c09247ec02edce69f6a2d";

    /// The base set of wechatpay-v2 §2.4 with `more` on top.
    fn check(more: &[(&str, &str)], md5: &str, hmac: &str) {
        let mut pairs = vec![
            ("appid", "wxd930ea5d5a258f4f"),
            ("mch_id", "10000100"),
            ("device_info", "1000"),
            ("body", "test"),
            ("nonce_str", "ibuaiVcKdpRxkhJA"),
            ("sign", "taken out"),
        ];
        pairs.retain(|(name, _)| more.iter().all(|(other, _)| name != other));
        pairs.extend(more);
        assert_eq!(sign(pairs.iter().copied(), KEY, SignType::Md5), md5, "{more:?}");
        assert_eq!(sign(pairs.iter().copied(), KEY, SignType::HmacSha256), hmac, "{more:?}");
    }

    #[test]
    fn published_signatures_come_out() {
        let base_md5 = "9A0A8659F005D6984697E2CA0A9CF3B7";
        let base_hmac = "6A9AE1657590FD6257D693A078E1C3E4BB6BA4DC30B23E0EE2496E54170DACD6";
        check(&[], base_md5, base_hmac);
        check(&[("attach", ""), ("goods_tag", "")], base_md5, base_hmac);
        check(
            &[("body", "腾讯充值中心-QQ会员充值")],
            "385985D44CFE023026D6429EA056492E",
            "430B03553E0C7B67F29DCCDC3D6B91A015AA1B818A99600AD4FBDD86BB2FBB92",
        );
        check(
            &[("attach", "a=1&b=2 +%20\"引号\"<x>")],
            "CC16021FBD4136F1908701A94796DD3D",
            "57A2DAE77E9694599057A4F10DFA9BA821DC22605A307DDAF11C5C93535D94ED",
        );
        check(
            &[("Zfield", "z"), ("afield", "a")],
            "E1BEF72C86D2997B1B3A56DF66D4A0C8",
            "456EFD84CF1129AB606482EFEA8DE6DF4BB4CC64CE8439A8FAF858FD3F335409",
        );
        check(
            &[("coupon_fee", "3"), ("coupon_id_0", "A"), ("coupon_id_2", "C"), ("coupon_id_10", "B")],
            "3AA0170F2516DB8260C38ECEC7833294",
            "E334708EC56BEBE7A2C0EEFD4FE23EE1D61A11714E9717153C8669F6C7717682",
        );
        check(
            &[("coupon_fee", "0")],
            "9ABAFC70A6D611A538BAD21F2FD8D9A0",
            "63954BE9A14D57797C6D139995BE4F3A5081563285256CAAAC6468571D52010E",
        );
        check(
            &[("sign_type", "HMAC-SHA256")],
            "8BBDF38FFD24E59C51589AE437932C6B",
            "2C9DF1156522C0B2B03B4DBF3BCA5CACB602CBD5CA0F9E112458CF3E9855303B",
        );
        check(
            &[("body", " test ")],
            "5D20B97FF7928556E2D8109FC859CCD6",
            "18AD6CB688A01A971767CB1E41D246CD868CB550FF6C37ED23D5FAFA176D6BBA",
        );
    }
}
