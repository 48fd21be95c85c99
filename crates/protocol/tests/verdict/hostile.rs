//! INV-10: whatever is not a verified answer leaves the order undecided.

use std::fs;

use proptest::prelude::{ProptestConfig, any, prop, prop_assert, proptest};
use protocol::wechat_v2::verdict::{Exchange, Signature};
use protocol::xml::Reader;
use signer::Kind;

use crate::support::{OPERATIONS, Operation, answer, expected, judge, number, verify};

/// Signed answers that decide something.
const DECISIVE: [(&str, Operation); 12] = [
    ("04_micropay_resp_success.xml", Operation::Pay),
    ("06_micropay_resp_userpaying.xml", Operation::Pay),
    ("08_micropay_resp_notenough.xml", Operation::Pay),
    ("14_micropay_resp_orderpaid.xml", Operation::Pay),
    ("92_resp_escaped_text.xml", Operation::Pay),
    ("21_orderquery_resp_success.xml", Operation::Query),
    ("26_orderquery_resp_revoked.xml", Operation::Query),
    ("30_orderquery_resp_notexist.xml", Operation::Query),
    ("41_reverse_resp_done.xml", Operation::Reverse),
    ("45_reverse_resp_expired.xml", Operation::Reverse),
    ("51_refund_resp_accepted.xml", Operation::Refund),
    ("62_refundquery_resp_notexist.xml", Operation::RefundQuery),
];

/// Everything that is signed in a message, and its signature; `None` if it is no message.
fn signed_content(body: &[u8]) -> Option<Vec<(String, String)>> {
    let mut reader = Reader::new();
    let message = reader.read(body).ok()?;
    let mut pairs: Vec<_> = message
        .iter()
        .filter(|(_, value)| !value.is_empty())
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect();
    pairs.sort();
    Some(pairs)
}

/// Judges bent bytes; they must decide nothing, unless they say the same as before in other spelling.
fn check(operation: Operation, good: &[u8], bent: &[u8], what: &str) -> bool {
    let number = number();
    let verdict = judge(
        operation,
        &Exchange::Answer { status: 200, body: bent },
        &expected(&number, 1288),
        verify(Kind::Md5),
    );
    let decides = !verdict.fact.is_unclear();
    assert!(decides || !verdict.keep_connection, "{what}");
    if decides {
        assert_eq!(signed_content(bent), signed_content(good), "{what}: {verdict:?}");
    }
    decides
}

#[test]
fn no_bent_or_cut_answer_decides() {
    let _covers = covers::covers(&["INV-10", "NU-04"]);
    for (file, operation) in DECISIVE {
        let good = fs::read(format!("{}/tests/vectors/{file}", env!("CARGO_MANIFEST_DIR"))).expect(file);
        assert!(check(operation, &good, &good, file), "{file} decides when it is whole");
        let mut bent = good.clone();
        for at in 0..bent.len() {
            for bit in 0..8 {
                bent[at] ^= 1 << bit;
                check(operation, &good, &bent, &format!("{file}, bit {bit} of byte {at}"));
                bent[at] ^= 1 << bit;
            }
        }
        for end in 0..good.trim_ascii_end().len() {
            assert!(!check(operation, &good, &good[..end], file), "{file}, cut at {end}");
        }
    }
}

#[test]
fn an_answer_of_one_operation_is_none_of_another() {
    let _covers = covers::covers(&["NU-12"]);
    // Only what a payment's answer and a query's have in common may be misread, and then as undecided.
    for (file, operation) in DECISIVE {
        let body = fs::read(format!("{}/tests/vectors/{file}", env!("CARGO_MANIFEST_DIR"))).expect(file);
        let number = number();
        let exchange = Exchange::Answer { status: 200, body: &body };
        for other in OPERATIONS {
            let verdict = judge(other, &exchange, &expected(&number, 1288), |_| Signature::Wrong);
            assert!(verdict.fact.is_unclear(), "{file} ({operation:?}) as {other:?}");
        }
    }
}

/// INV-10's table: transport outcome × `return_code` × `result_code` × `err_code` × signature.
#[test]
fn only_a_verified_answer_decides() {
    let _covers = covers::covers(&["INV-10", "INV-25"]);
    const WORDS: [&str; 4] = ["SUCCESS", "FAIL", "SYSTEMERROR", ""];
    const CODES: [&str; 6] = ["", "NOTENOUGH", "ORDERNOTEXIST", "REVERSE_EXPIRE", "USERPAYING", "?"];
    let number = number();
    let (mut judged, mut decided) = (0, 0);
    for operation in OPERATIONS {
        for status in [200, 500] {
            for return_code in WORDS {
                for (result_code, err_code) in WORDS.iter().flat_map(|w| CODES.iter().map(move |c| (w, c))) {
                    for signature in [Signature::Valid, Signature::Missing, Signature::Wrong] {
                        let fields = [
                            ("return_code", return_code),
                            ("result_code", result_code),
                            ("err_code", err_code),
                            ("out_trade_no", crate::support::NUMBER),
                            ("total_fee", "1288"),
                            ("trade_state", "REVOKED"),
                            ("transaction_id", "4200002611202611231234567890"),
                            ("out_refund_no", crate::support::REFUND_NUMBER),
                        ];
                        let body = answer(&fields, true);
                        let exchange = Exchange::Answer { status, body: &body };
                        let verdict = judge(operation, &exchange, &expected(&number, 1288), |_| signature);
                        judged += 1;
                        if !verdict.fact.is_unclear() {
                            decided += 1;
                            assert_eq!((status, return_code, signature), (200, "SUCCESS", Signature::Valid));
                        }
                    }
                }
            }
        }
    }
    assert!(decided > 0 && decided < judged / 20, "{decided} of {judged}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]
    #[test]
    fn no_noise_decides(body in prop::collection::vec(any::<u8>(), 0..300), status in 0u16..600) {
        let number = number();
        for operation in OPERATIONS {
            let exchange = Exchange::Answer { status, body: &body };
            let verdict = judge(operation, &exchange, &expected(&number, 1288), |_| Signature::Valid);
            prop_assert!(verdict.fact.is_unclear());
        }
    }

    #[test]
    fn no_splice_of_two_answers_decides(
        first in prop::sample::select(&DECISIVE[..]),
        second in prop::sample::select(&DECISIVE[..]),
        from: prop::sample::Index,
        to: prop::sample::Index,
    ) {
        let read = |file: &str| fs::read(format!("{}/tests/vectors/{file}", env!("CARGO_MANIFEST_DIR"))).expect(file);
        let (good, other) = (read(first.0), read(second.0));
        let spliced = [&good[..from.index(good.len())], &other[to.index(other.len())..]].concat();
        let number = number();
        for operation in OPERATIONS {
            let exchange = Exchange::Answer { status: 200, body: &spliced };
            let verdict = judge(operation, &exchange, &expected(&number, 1288), verify(Kind::Md5));
            let content = signed_content(&spliced);
            prop_assert!(
                verdict.fact.is_unclear() || content == signed_content(&good) || content == signed_content(&other)
            );
        }
    }
}
