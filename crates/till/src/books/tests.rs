use protocol::fact::Paid;
use protocol::{Fen, Fields};
use simulator::{Entry, Key, State as WalletState};
use state_machine::record::{Record, State, TillReversal};
use state_machine::{BootId, MerchantId, Now, OrderKey, ProviderId, Tick, UnixMs};

use super::{Ending, Fault, Page};
use crate::client::Answer;
use crate::notebook::{Call, Notebook};

const ASKED: u64 = 1288;

fn record(state: State, till_reversal: TillReversal) -> Record {
    let amount = Fen::new(ASKED).unwrap();
    let paid = Paid {
        transaction_id: "4200002611202611231234567890".parse().unwrap(),
        amount,
        time_end_s: None,
        attach: 0,
        merchant_matches: true,
        fields: Fields::new([]),
    };
    let key = OrderKey { merchant: MerchantId(1), number: "D0000000001".parse().unwrap() };
    let now = Now { tick: Tick::from_ms(0), wall: UnixMs(0) };
    Record {
        version: 2,
        state,
        amount: Some(amount),
        decided_at: Some(now.wall),
        paid: (state == State::Paid).then(|| Box::new(paid)),
        till_reversal,
        ..Record::begun(key, ProviderId(1), now, BootId(1))
    }
}

fn entry(captures: u32, captured_fen: u64, returned_fen: u64) -> Entry {
    Entry {
        key: Key::new("1", "2", "D0000000001"),
        transaction_id: String::new(),
        customer: 0,
        acted: 0,
        payer: 0,
        amount_fen: ASKED,
        content: String::new(),
        state: WalletState::Paid,
        pay_requests: 1,
        first_pay_at_ms: 0,
        last_pay_at_ms: 0,
        captures,
        captured_fen,
        returned_fen,
        paid_at_ms: None,
        customer_done_at_ms: None,
        queries: 0,
        reversals: 0,
        first_reverse_at_ms: None,
        refunds: 0,
        violations: Vec::new(),
    }
}

/// A notebook of one query that said `trade_state`.
fn told(trade_state: &str, total_fee: u64) -> Notebook {
    let mut book = Notebook::default();
    if !trade_state.is_empty() {
        let answer = Answer {
            success: true,
            trade_state: trade_state.to_owned(),
            total_fee: Some(total_fee),
            ..Answer::default()
        };
        book.note(0, Call::Query, ASKED, Ok(answer));
    }
    book
}

#[test]
fn three_books_agree_or_the_fault_is_named() {
    let paid = record(State::Paid, TillReversal::None);
    let asked = record(State::Paid, TillReversal::Asked);
    let returned = record(State::Paid, TillReversal::Done);
    let failed = record(State::Failed, TillReversal::None);
    let reversed = record(State::Reversed, TillReversal::None);
    let reversing = record(State::Reversing, TillReversal::None);
    let (kept, back, none) = (entry(1, ASKED, 0), entry(1, ASKED, ASKED), entry(0, 0, 0));
    let (twice, less) = (entry(2, 2 * ASKED, ASKED), entry(1, 1000, 0));
    use Ending as E;
    use Fault as F;
    /// Told, the wallet's page, the record; ending, faults.
    type Case<'a> = (&'a str, u64, Option<&'a Entry>, Option<&'a Record>, Ending, &'a [Fault]);
    let cases: [Case<'_>; 17] = [
        ("SUCCESS", ASKED, Some(&kept), Some(&paid), E::Paid, &[]),
        ("PAYERROR", 0, Some(&none), Some(&failed), E::Failed, &[]),
        ("PAYERROR", 0, None, Some(&reversed), E::Reversed, &[]),
        ("REVOKED", 0, Some(&back), Some(&reversed), E::Reversed, &[]),
        ("REVOKED", 0, Some(&back), Some(&returned), E::Reversed, &[]),
        ("", 0, None, None, E::NotTaken, &[]),
        ("SUCCESS", ASKED, Some(&back), Some(&paid), E::Paid, &[F::ToldPaidNotHeld, F::RecordedPaidNotHeld]),
        ("SUCCESS", ASKED, Some(&less), Some(&paid), E::Paid, &[F::ToldPaidNotHeld, F::RecordedPaidNotHeld]),
        ("SUCCESS", 1, Some(&kept), Some(&paid), E::Paid, &[F::ToldPaidNotHeld]),
        ("PAYERROR", 0, Some(&kept), Some(&failed), E::Failed, &[F::HeldNotTold, F::HeldNotRecorded]),
        ("PAYERROR", 0, Some(&kept), Some(&paid), E::Paid, &[F::HeldNotTold, F::ToldNotRecorded]),
        (
            "SUCCESS",
            ASKED,
            Some(&kept),
            Some(&reversed),
            E::Reversed,
            &[F::HeldNotRecorded, F::ToldNotRecorded],
        ),
        ("SUCCESS", ASKED, Some(&kept), None, E::NotTaken, &[F::HeldNotRecorded, F::ToldNotRecorded]),
        ("SUCCESS", ASKED, Some(&twice), Some(&paid), E::Paid, &[F::ChargedTwice]),
        ("PAYERROR", 0, Some(&none), Some(&reversing), E::Open, &[F::StillOpen]),
        (
            "SUCCESS",
            ASKED,
            Some(&kept),
            Some(&asked),
            E::Open,
            &[F::HeldNotRecorded, F::ToldNotRecorded, F::StillOpen],
        ),
        ("", 0, Some(&kept), None, E::NotTaken, &[F::HeldNotTold, F::HeldNotRecorded]),
    ];
    for (word, fee, ledger, record, ending, faults) in cases {
        let notebook = told(word, fee);
        let page = Page { asked_fen: ASKED, notebook: &notebook, ledger, record };
        assert_eq!((page.ending(), page.faults().as_slice()), (ending, faults), "{word} {fee} {record:?}");
    }
}
