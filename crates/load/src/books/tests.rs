use super::Books;
use crate::Outcome;
use crate::measure::{Heard, Measured};
use crate::plan::Plan;
use crate::report::Report;

/// The books of a run that was told `words`: pages are number, captures, captured and returned fen.
fn hold(words: &[Heard], pages: &[(u64, u32, u64, u64)]) -> Books {
    let plan = Plan::small();
    let report = Report::new(&plan, &Measured::new());
    let lines = pages.iter().map(|(n, captures, captured, returned)| {
        Ok(format!(
            "{{\"out_trade_no\":\"{}\",\"captures\":{captures},\"captured_fen\":{captured},\"returned_fen\":{returned}}}",
            plan.number(*n)
        ))
    });
    let other = Ok("{\"out_trade_no\":\"D0000000001\"}".to_owned());
    let lines: Vec<_> = lines.chain([other]).collect();
    Outcome { report, plan, words: words.to_vec() }.hold(lines.into_iter()).expect("lines of books")
}

#[test]
fn what_was_heard_is_held_against_the_money() {
    let fine = hold(
        &[Heard::Paid, Heard::NotPaid, Heard::Open, Heard::Reversed, Heard::Unsent],
        &[(0, 1, 100, 0), (1, 0, 0, 0), (2, 1, 100, 0), (3, 1, 100, 100)],
    );
    assert_eq!((fine.agree, fine.found, fine.held_and_open), (true, 4, 1));
    for (heard, page, counted) in [
        (Heard::Paid, Some((0, 2, 200, 0)), [1, 0, 0, 0]),
        (Heard::Open, Some((0, 2, 200, 0)), [1, 0, 0, 0]),
        (Heard::Paid, Some((0, 1, 100, 100)), [0, 1, 0, 0]),
        (Heard::Paid, Some((0, 1, 99, 0)), [0, 1, 0, 0]),
        (Heard::Paid, None, [0, 1, 0, 0]),
        (Heard::NotPaid, Some((0, 1, 100, 0)), [0, 0, 1, 0]),
        (Heard::NotTaken, Some((0, 1, 100, 0)), [0, 0, 1, 0]),
        (Heard::PaidOther, Some((0, 1, 100, 0)), [0, 0, 0, 1]),
    ] {
        let books = hold(&[heard], page.as_slice());
        let told = [books.charged_twice, books.told_paid_not_held, books.held_not_told, books.wrong_amount];
        assert_eq!((told, books.agree), (counted, false), "{heard:?} {page:?}");
        assert_eq!(books.numbers, ["L0000ABCD0000000000"]);
    }
}
