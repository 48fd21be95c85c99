//! The ledger: conservation, determinism, its JSON.

use super::{Desk, NO, key, options};
use crate::{Code, Rng, State, Totals};

/// A till that pays, asks and reverses at random for `steps` steps; the books as lines of JSON.
fn run(seed: u64, steps: u32) -> (Vec<String>, Desk) {
    let mut desk = Desk::new(options());
    desk.wallet = crate::Wallet::new(seed, options());
    let mut rng = Rng::new(seed ^ 0x5eed);
    let mut numbers = 0_u64;
    for _ in 0..steps {
        desk.now_ms += i64::try_from(rng.below(1500)).expect("small");
        let no = format!("P{}", rng.below(numbers.max(1)));
        match rng.below(4) {
            0 => {
                let code =
                    Code::for_customer(u16::try_from(rng.below(10_000)).expect("four digits"), numbers);
                desk.pay(&format!("P{numbers}"), &code, 1 + rng.below(150_000));
                numbers += 1;
            }
            1 => drop(desk.reverse(&no)),
            _ => drop(desk.query(&no)),
        }
        check_books(&desk);
    }
    desk.now_ms += 3_600_000;
    desk.wallet.advance(desk.now_ms);
    check_books(&desk);
    (desk.wallet.ledger().map(crate::Entry::to_json).collect(), desk)
}

/// Money is conserved on every page, and a page agrees with its state.
fn check_books(desk: &Desk) {
    let mut open = 0;
    for entry in desk.wallet.ledger() {
        let name = &entry.key.out_trade_no;
        assert!(entry.captures <= 1 && entry.returned_fen <= entry.captured_fen, "{name}");
        assert_eq!(entry.captures == 1, entry.paid_at_ms.is_some(), "{name}");
        assert_eq!(entry.captures == 1, entry.captured_fen >= entry.amount_fen, "{name}");
        let holds = match entry.state {
            State::Paid => entry.held_fen() == entry.captured_fen && entry.captures == 1,
            State::Refund => entry.refunds > 0,
            State::InFlight
            | State::Lost
            | State::Refused
            | State::Paying
            | State::Accepted
            | State::NotPay
            | State::PayError
            | State::Closed
            | State::Revoked => entry.held_fen() == 0,
        };
        assert!(holds, "{}", entry.to_json());
        open += u64::from(entry.state == State::Paying);
    }
    assert_eq!(desk.wallet.stats().open_dialogs, open);
}

#[test]
fn money_is_conserved_whatever_is_done() {
    for seed in 0..20 {
        let (_, desk) = run(seed, 300);
        let totals = desk.wallet.totals();
        let sum = |f: fn(&crate::Entry) -> u64| desk.wallet.ledger().map(f).sum::<u64>();
        assert_eq!(totals.captured_fen, sum(|entry| entry.captured_fen));
        assert_eq!(totals.returned_fen, sum(|entry| entry.returned_fen));
        assert!(totals.captures > 10 && totals.returned_fen > 0, "the run did something: {totals:?}");
        // At the end only customers who wait for a reversal keep a dialog open.
        assert!(desk.wallet.ledger().all(|entry| entry.state != State::Paying || entry.acted / 100 == 16));
    }
    assert_eq!(Desk::new(options()).wallet.totals(), Totals::default());
}

#[test]
fn one_seed_gives_one_ledger() {
    assert_eq!(run(3, 400).0, run(3, 400).0);
    assert_ne!(run(3, 400).0, run(4, 400).0);
}

#[test]
fn the_books_come_in_order_and_in_parts() {
    let (lines, desk) = run(5, 200);
    let parts: Vec<String> = (0..lines.len())
        .step_by(7)
        .flat_map(|first| desk.wallet.ledger_part(first, 7).map(crate::Entry::to_json).collect::<Vec<_>>())
        .collect();
    assert_eq!(parts, lines);
    assert_eq!(desk.wallet.ledger_part(lines.len(), 7).count(), 0);
}

#[test]
fn a_page_is_one_line_of_json() {
    let mut desk = Desk::new(options());
    let mut pay = crate::Micropay::new(NO, Code::for_customer(9901, 3).as_str(), 1288);
    pay.others.push(("body".to_owned(), "a \"quoted\"\nline \\ 店".to_owned()));
    desk.call(crate::Call::Micropay(pay));
    desk.reverse(NO);
    let entry = desk.wallet.entry(&key(NO)).expect("recorded");
    let line = entry.to_json();
    assert!(!line.contains('\n'));
    let json: serde_json::Value = serde_json::from_str(&line).expect("JSON");
    assert_eq!(json["out_trade_no"], NO);
    assert_eq!(json["customer"], "9901");
    assert_eq!(json["amount_fen"], 1288);
    assert_eq!(json["content"], entry.content.as_str());
    assert_eq!(json["reversals"], 1);
    assert_eq!(json["violations"][0], "early_reversal");
    let stats: serde_json::Value = serde_json::from_str(&desk.wallet.stats().to_json()).expect("JSON");
    assert_eq!(stats["reversals"], 1);
}
