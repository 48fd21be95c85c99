use std::collections::HashMap;
use std::path::Path;

use protocol::fact::Paid;
use protocol::{Fen, Fields};
use simulator::{Entry, Violation};
use state_machine::record::{Record, State};
use state_machine::{BootId, MerchantId, Now, OrderKey, ProviderId, Tick, UnixMs};
use till::client::{Answer, NoAnswer};
use till::notebook::{Call, Notebook};

use super::{Books, Broken, Case, Verdict, judge};
use crate::ledger::tests::page;

const ASKED: u64 = 1288;
const NUMBER: &str = "C0000000001";

fn record(state: State) -> Record {
    let amount = Fen::new(ASKED).unwrap();
    let paid = Paid {
        transaction_id: "4200002611202611231234567890".parse().unwrap(),
        amount,
        time_end_s: None,
        attach: 0,
        merchant_matches: true,
        fields: Fields::new([]),
    };
    let key = OrderKey { merchant: MerchantId(1), number: NUMBER.parse().unwrap() };
    let now = Now { tick: Tick::from_ms(0), wall: UnixMs(0) };
    Record {
        version: 2,
        state,
        amount: Some(amount),
        decided_at: Some(now.wall),
        paid: (state == State::Paid).then(|| Box::new(paid)),
        ..Record::begun(key, ProviderId(1), now, BootId(1))
    }
}

/// What a till hears: the words of its queries, in order.
fn notebook(story: &str) -> Notebook {
    let mut notebook = Notebook::default();
    for (word, at_ms) in story.split_whitespace().zip(0..) {
        let says = |trade_state: &str| {
            let total_fee = (trade_state == "SUCCESS").then_some(ASKED);
            Ok(Answer { success: true, trade_state: trade_state.to_owned(), total_fee, ..Answer::default() })
        };
        let answer = match word {
            "lost" => Err(NoAnswer::Lost),
            "absent" => Ok(Answer { err_code: "ORDERNOTEXIST".to_owned(), ..Answer::default() }),
            trade_state => says(trade_state),
        };
        notebook.note(at_ms, Call::Query, ASKED, answer);
    }
    notebook
}

fn broken(story: &str, ledger: Option<&Entry>, record: Option<&Record>) -> Vec<Broken> {
    let notebook = notebook(story);
    let case = Case { asked_fen: ASKED, notebook: &notebook, ledger, record };
    let mut broken: Vec<Broken> = judge(&case).into_iter().map(|(promise, _)| promise).collect();
    broken.sort_unstable();
    broken.dedup();
    broken
}

#[test]
fn a_planted_wrong_is_found_and_named() {
    use Broken::{ChargedTwice, Contradicted, Lost};
    let (kept, back, none) =
        (page(NUMBER, 1, ASKED, 0), page(NUMBER, 1, ASKED, ASKED), page(NUMBER, 0, 0, 0));
    let twice = page(NUMBER, 2, 2 * ASKED, ASKED);
    let (paid, failed, reversed) = (record(State::Paid), record(State::Failed), record(State::Reversed));
    let (pending, reversing) = (record(State::Pending), record(State::Reversing));
    /// What the till heard, the wallet's page, the record; what is broken.
    type Planted<'a> = (&'a str, Option<&'a Entry>, Option<&'a Record>, &'a [Broken]);
    let cases: [Planted<'_>; 15] = [
        ("USERPAYING lost SUCCESS SUCCESS", Some(&kept), Some(&paid), &[]),
        ("lost absent USERPAYING REVOKED", Some(&back), Some(&reversed), &[]),
        ("USERPAYING PAYERROR", Some(&none), Some(&failed), &[]),
        ("lost absent", None, None, &[]),
        // A till that was told one thing and then another.
        ("SUCCESS PAYERROR", Some(&none), Some(&failed), &[Contradicted]),
        ("PAYERROR SUCCESS", Some(&kept), Some(&paid), &[Contradicted]),
        ("SUCCESS USERPAYING SUCCESS", Some(&kept), Some(&paid), &[Contradicted]),
        // A ledger that holds a second charge, or money that nobody was told of.
        ("SUCCESS", Some(&twice), Some(&paid), &[ChargedTwice]),
        ("PAYERROR", Some(&kept), Some(&failed), &[ChargedTwice]),
        ("lost", Some(&kept), None, &[ChargedTwice]),
        // Told paid, and the money has gone back.
        ("SUCCESS", Some(&back), Some(&paid), &[Contradicted]),
        // Accepted, and then there is no such payment, no record, no end.
        ("USERPAYING absent SUCCESS", Some(&kept), Some(&paid), &[Lost]),
        ("USERPAYING", None, None, &[Lost]),
        ("USERPAYING", Some(&none), Some(&pending), &[Lost]),
        ("PAYERROR", Some(&none), Some(&reversing), &[Lost]),
    ];
    for (story, ledger, record, expected) in cases {
        assert_eq!(broken(story, ledger, record), expected, "{story}");
    }
}

fn sum(story: &str, entry: &Entry, record: &Record) -> Verdict {
    let notebook = notebook(story);
    let mut verdict = Verdict::default();
    let case = Case { asked_fen: ASKED, notebook: &notebook, ledger: Some(entry), record: Some(record) };
    verdict.add(&case, || ("1910000001".to_owned(), NUMBER.to_owned()), Path::new("/nonexistent"));
    verdict.held_fen = entry.held_fen();
    verdict
}

#[test]
fn one_wrong_payment_fails_the_whole_and_comes_with_its_history() {
    let kept = page(NUMBER, 1, ASKED, 0);
    let clean = sum("USERPAYING SUCCESS", &kept, &record(State::Paid));
    assert!(clean.is_clean(), "{clean:?}");
    let early = Entry { violations: vec![Violation::EarlyReversal { after_ms: 9 }], ..kept };
    let mut verdict = sum("USERPAYING SUCCESS", &early, &record(State::Paid));
    assert!(!verdict.is_clean(), "a rule of the wallet was broken");
    assert_eq!(verdict.rules_broken.get("early_reversal"), Some(&1));
    let history = verdict.violations.first().expect("a history");
    assert_eq!(history.notebook.len(), 2);
    assert!(history.ledger.contains("early_reversal") && history.record.contains("Paid"), "{history:?}");
    // Nor do sums forget.
    verdict.merge(clean);
    assert_eq!((verdict.payments, verdict.paid, verdict.is_clean()), (2, 2, false));
    let wrong_sum = Verdict { held_fen: 1, ..Verdict::default() };
    assert!(!wrong_sum.is_clean());
}

#[test]
fn a_payment_that_no_till_began_is_found() {
    let ledger = HashMap::from([(("1920000001".to_owned(), NUMBER.to_owned()), page(NUMBER, 0, 0, 0))]);
    let records = HashMap::from([((MerchantId(1), NUMBER.to_owned()), record(State::Failed))]);
    let merchants = till::credentials::demo_merchants(1);
    let books = Books {
        merchants: &merchants,
        numbers: &[MerchantId(1)],
        tills: &[],
        ledger: &ledger,
        records: &records,
        logs: Path::new("/nonexistent"),
    };
    let verdict = books.judge();
    assert_eq!(verdict.nobodys, 2);
    assert!(!verdict.is_clean());
}
