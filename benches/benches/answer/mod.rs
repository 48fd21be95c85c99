//! A paid answer as the wallet sends it: about 1,000 bytes, of which 470 are signed.

use signer::{Key, Scratch};

/// An API key as published with the protocol's examples.
pub(crate) const KEY: &str = "192006250b4c09247ec02edce69f6a2d";

/// What is signed, in the order of the wire.
pub(crate) const PAIRS: [(&str, &str); 20] = [
    ("return_code", "SUCCESS"),
    ("return_msg", "OK"),
    ("appid", "wxd930ea5d5a258f4f"),
    ("mch_id", "1900000109"),
    ("sub_mch_id", "1900000110"),
    ("nonce_str", "IITRi8Iabbblz1Jc"),
    ("result_code", "SUCCESS"),
    ("openid", "oUpF8uMuAJO_M2pxb1Q9zNjWeS6o"),
    ("is_subscribe", "N"),
    ("trade_type", "MICROPAY"),
    ("bank_type", "OTHERS"),
    ("fee_type", "CNY"),
    ("total_fee", "1288"),
    ("cash_fee_type", "CNY"),
    ("cash_fee", "1288"),
    ("transaction_id", "4200002611202611231234567890"),
    ("out_trade_no", "P20261123000000000001"),
    ("attach", "店员=07"),
    ("device_info", "POS-0007"),
    ("time_end", "20261123101503"),
];

/// The key of the answers.
pub(crate) fn key() -> Key {
    Key::new(KEY).expect("an API key")
}

/// The text that is hashed, with the key at its end.
pub(crate) fn signed_text() -> Vec<u8> {
    let mut text = Scratch::new().canonical(PAIRS).to_vec();
    text.extend_from_slice(b"&key=");
    text.extend_from_slice(KEY.as_bytes());
    text
}
