//! INV-03 over the whole of the integers and of texts: what is taken as an amount is exactly what was written, whichever
//! way it comes in.

use std::cell::Cell;

use hostile::oracle;
use hostile::rig::{Asked, BEARER, post};
use proptest::prelude::{ProptestConfig, Strategy, TestCaseError, any, prop_assert_eq, prop_oneof};
use proptest::test_runner::TestRunner;
use protocol::Fen;

/// Texts that are amounts, nearly are, and are not.
fn text() -> impl Strategy<Value = String> {
    prop_oneof![
        any::<u64>().prop_map(|number| number.to_string()),
        (0..3_000_000_000_u64).prop_map(|number| number.to_string()),
        any::<i64>().prop_map(|number| number.to_string()),
        any::<f64>().prop_map(|number| number.to_string()),
        (2_147_483_600..2_147_483_700_u64).prop_map(|number| number.to_string()),
        "[0-9]{1,40}",
        "[ +-]?0?[0-9]{1,10}[. ]?[0-9e]{0,3}",
        "[０-９0-9]{1,10}",
        "\\PC{0,12}",
        any::<String>(),
    ]
}

/// Runs `check` on `cases` values.
fn all<S: Strategy>(cases: u32, strategy: S, check: impl Fn(S::Value) -> Result<(), TestCaseError>) {
    let config = ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(cases) };
    TestRunner::new(config).run(&strategy, check).unwrap_or_else(|err| panic!("{err}"));
}

#[test]
fn a_text_is_an_amount_or_is_none() {
    let _covers = covers::covers(&["INV-03", "MI-10"]);
    all(20_000, text(), |text| {
        let read = Fen::from_total_fee(&text).ok();
        prop_assert_eq!(read.map(Fen::get), oracle::amount(&text), "{:?}", text);
        // What is written is what was read.
        if let Some(fen) = read {
            prop_assert_eq!(fen.to_string(), text);
        }
        Ok(())
    });
}

#[test]
fn a_number_is_an_amount_or_is_none() {
    let _covers = covers::covers(&["INV-03", "MI-10"]);
    all(20_000, prop_oneof![any::<u64>(), 0..u64::from(u32::MAX)], |number| {
        prop_assert_eq!(Fen::new(number).ok().map(Fen::get), oracle::amount(&number.to_string()));
        Ok(())
    });
}

#[test]
fn both_doors_take_the_same_amounts_unchanged() {
    let _covers = covers::covers(&["INV-03"]);
    let taken = Cell::new(0);
    all(600, text(), |text| {
        let expected = oracle::amount(&text);
        let request = format!(
            "0appid=wxd930ea5d5a258f4f\nmch_id=1900000109\nsub_mch_id=1900000110\nnonce_str=n\nbody=b\n\
             out_trade_no=AMOUNT-1\nspbill_create_ip=203.0.113.10\nauth_code=134567890123456789\ntotal_fee={text}"
        );
        // Panics when anything else reaches the engine than was written.
        hostile::run("request", request.as_bytes());
        let body = format!(
            "{{\"out_trade_no\":\"AMOUNT-1\",\"auth_code\":\"134567890123456789\",\"amount_fen\":{text},\"body\":\"b\"}}"
        );
        let headers = format!("Authorization: Bearer {BEARER}\r\n");
        let (_, _, asked) = post("/v1/payments", &headers, body.as_bytes());
        let fen = match asked.as_slice() {
            [] => None,
            [Asked::Pay(payment)] => Some(payment.amount.get()),
            other => panic!("{other:?}"),
        };
        taken.set(taken.get() + u32::from(fen.is_some()));
        // JSON allows blanks around a number, as XML does not; a comma or a brace would add to the object.
        if !text.contains([' ', '\n', '\r', '\t', ',', '}']) {
            prop_assert_eq!(fen, expected, "{:?}", text);
        }
        Ok(())
    });
    assert!(taken.get() > 60, "{} taken", taken.get());
}
