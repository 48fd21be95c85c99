//! The contract, held by both stores. Covers INV-07, INV-15, INV-16 at the store's side.

use state_machine::MerchantId;
use state_machine::UnixMs;
use state_machine::record::{Cause, Claim, Held, State, TillReversal};
use state_machine::shard::Outcome;
use store::{CommitError, Cursor, Filter, Store, stand_in};

use crate::support::{accepted, all, apply, commit, key, moved, on_both, paid, recovered};

fn conflict(with: &state_machine::Record) -> Outcome {
    Outcome::Conflict(Box::new(with.clone()))
}

#[test]
fn every_field_comes_back() {
    on_both(|store| {
        let first = accepted(1, "order-1");
        let mut full = moved(&first, State::Paid);
        full.cause = Some(Cause::Till);
        full.proof = Some(protocol::fact::Row::C1);
        full.refusal.clone_from(&moved(&first, State::Failed).refusal);
        full.refunded_fen = u64::MAX;
        full.claim = Claim::Contested;
        full.held = Some(Held::PartlyReturned);
        full.till_reversal = TillReversal::Asked;
        full.repair = true;
        full.looks_left = 255;
        let mut closed = accepted(u32::MAX, "|*@_-Zz9");
        closed.state = State::Reversed;
        closed.cause = Some(Cause::Overtaken);
        closed.amount = None;
        closed.accepted_at = UnixMs(i64::MIN);
        let mut bare = moved(&accepted(2, "order-2"), State::Paid);
        bare.paid = Some(Box::new(protocol::fact::Paid {
            time_end_s: None,
            merchant_matches: false,
            fields: protocol::Fields::default(),
            ..paid("T1", "")
        }));

        apply(store, &[first, full.clone(), closed.clone(), accepted(2, "order-2"), bare.clone()]);
        for record in [full, closed, bare] {
            assert_eq!(store.find(&record.key), Ok(Some(record)));
        }
        assert_eq!(store.find(&key(1, "order-2")), Ok(None));
    });
}

#[test]
fn the_first_record_of_a_number_wins() {
    on_both(|store| {
        let first = accepted(1, "order-1");
        let mut other = first.clone();
        other.digest = [9; 16];
        apply(store, std::slice::from_ref(&first));
        assert_eq!(
            commit(store, &[other.clone(), accepted(2, "order-1")]),
            [conflict(&first), Outcome::Applied]
        );
        assert_eq!(store.find(&first.key), Ok(Some(first)));
    });
}

#[test]
fn paid_and_reversing_exclude_each_other() {
    let _covers = covers::covers(&["INV-07"]);
    on_both(|store| {
        let first = accepted(1, "order-1");
        let (paid, reversing) = (moved(&first, State::Paid), moved(&first, State::Reversing));
        apply(store, &[first.clone(), paid.clone()]);
        // The same version, and the next one: the state table refuses it even then.
        let late = moved(&paid, State::Reversing);
        assert_eq!(commit(store, &[reversing]), [conflict(&paid)]);
        assert_eq!(commit(store, &[late]), [conflict(&paid)]);
        assert_eq!(store.find(&first.key), Ok(Some(paid)));
    });
}

#[test]
fn only_legal_moves_are_applied() {
    let _covers = covers::covers(&["INV-15"]);
    on_both(|store| {
        for from in State::ALL {
            for to in State::ALL {
                let number = format!("{from:?}-{to:?}");
                let mut before = accepted(1, &number);
                before.state = from;
                apply(store, std::slice::from_ref(&before));
                let after = moved(&before, to);
                let expected = if from.may_become(to) { Outcome::Applied } else { conflict(&before) };
                assert_eq!(commit(store, &[after]), [expected], "{number}");
            }
        }
    });
}

#[test]
fn a_version_follows_the_one_before() {
    on_both(|store| {
        let first = accepted(1, "order-1");
        let second = moved(&first, State::Pending);
        apply(store, &[first.clone(), second.clone()]);
        for version in [0, 1, 2, 4, u32::MAX] {
            let mut wrong = moved(&second, State::Pending);
            wrong.version = version;
            assert_eq!(commit(store, &[wrong]), [conflict(&second)], "version {version}");
        }
        let mut elsewhen = moved(&second, State::Pending);
        elsewhen.accepted_at = UnixMs(0);
        assert_eq!(commit(store, &[elsewhen]), [conflict(&second)]);
        apply(store, &[moved(&second, State::Pending)]);
    });
}

#[test]
fn a_conflict_takes_the_rest_of_its_order_along_and_nothing_else() {
    on_both(|store| {
        let theirs = accepted(1, "order-1");
        apply(store, std::slice::from_ref(&theirs));
        let ours = accepted(1, "order-1");
        let others = accepted(1, "order-2");
        let outcomes = commit(
            store,
            // Without the rule, the second line would be taken for the successor of somebody else's order.
            &[ours.clone(), moved(&ours, State::Reversing), others.clone(), moved(&others, State::Pending)],
        );
        let expected = [conflict(&theirs), conflict(&theirs), Outcome::Applied, Outcome::Applied];
        assert_eq!(outcomes, expected);
        assert_eq!(store.find(&others.key).map(|found| found.map(|found| found.version)), Ok(Some(2)));
    });
}

#[test]
fn a_successor_of_nothing_is_shown_an_order_that_tells_no_outcome() {
    on_both(|store| {
        let orphan = moved(&accepted(1, "order-1"), State::Paid);
        let shown = stand_in(&orphan, 0);
        assert!(shown.is_open() && !shown.is_definite() && shown.held.is_some() && shown.paid.is_none());
        // Nor an amount: whoever asks for another is not told that its number is another payment's.
        assert_eq!(shown.amount, None);
        assert_eq!(commit(store, std::slice::from_ref(&orphan)), [conflict(&shown)]);
        assert_eq!(store.find(&orphan.key), Ok(None));
    });
}

#[test]
fn recovery_finds_exactly_the_open_orders() {
    on_both(|store| {
        let mut expected = Vec::new();
        for state in State::ALL {
            for (number, wish, looks) in [("plain", TillReversal::None, 0), ("asked", TillReversal::Asked, 2)]
            {
                let first = accepted(1, &format!("{number}-{state:?}"));
                let mut second = moved(&first, state);
                second.till_reversal = wish;
                second.looks_left = looks;
                apply(store, &[first, second.clone()]);
                if second.is_open() {
                    expected.push(second);
                }
            }
        }
        assert!(expected.len() > 6 && expected.len() < 12, "some of the twelve are open, some are not");
        expected.sort_by_key(|record| record.key);
        assert_eq!(recovered(store), (expected, Vec::new()));
    });
}

#[test]
fn an_order_that_opens_again_is_recovered() {
    on_both(|store| {
        let first = accepted(1, "order-1");
        let settled = moved(&first, State::Paid);
        apply(store, &[first, settled.clone()]);
        assert_eq!(recovered(store).0, []);
        let mut asked = moved(&settled, State::Paid);
        asked.till_reversal = TillReversal::Asked;
        apply(store, std::slice::from_ref(&asked));
        assert_eq!(recovered(store).0, [asked.clone()]);
        let mut done = moved(&asked, State::Paid);
        done.till_reversal = TillReversal::Done;
        apply(store, &[done]);
        assert_eq!(recovered(store).0, []);
    });
}

#[test]
fn the_wallets_number_finds_the_merchants_own_payment_only() {
    on_both(|store| {
        let id = "420000123420261123".parse().expect("a number");
        for merchant in [1, 2] {
            let first = accepted(merchant, "order-1");
            apply(store, &[first.clone(), moved(&first, State::Paid)]);
        }
        for merchant in [1, 2] {
            let found = store.find_by_transaction(MerchantId(merchant), &id).expect("readable");
            assert_eq!(found.map(|record| record.key), Some(key(merchant, "order-1")));
        }
        assert_eq!(store.find_by_transaction(MerchantId(3), &id), Ok(None));
        assert_eq!(store.find_by_transaction(MerchantId(1), &"4200".parse().expect("a number")), Ok(None));
    });
}

#[test]
fn a_payment_that_is_no_longer_known_as_paid_loses_its_number() {
    on_both(|store| {
        let id = "420000123420261123".parse().expect("a number");
        let mut first = accepted(1, "order-1");
        first.paid = Some(Box::new(paid("420000123420261123", "o")));
        let mut second = moved(&first, State::Pending);
        second.paid = None;
        apply(store, &[first, second.clone()]);
        assert_eq!(store.find_by_transaction(MerchantId(1), &id), Ok(None));
        assert_eq!(store.find(&second.key), Ok(Some(second)));
    });
}

#[test]
fn listings_filter_sort_and_go_on() {
    on_both(|store| {
        for at in 0..40_u32 {
            let mut record = accepted(1 + at % 2, &format!("order-{at:02}"));
            record.accepted_at = UnixMs(i64::from(at / 4) * 1_000);
            record.held = (at % 5 == 0).then_some(Held::Differs);
            record.state = if at % 3 == 0 { State::Failed } else { State::Accepted };
            apply(store, &[record]);
        }
        let mut expected = all(store);
        assert!(expected.is_sorted_by_key(Cursor::of));
        assert_eq!(expected.len(), 40);
        let filters = [
            Filter { merchant: Some(MerchantId(2)), ..Filter::default() },
            Filter { from: Some(UnixMs(2_000)), until: Some(UnixMs(5_000)), ..Filter::default() },
            Filter { state: Some(State::Failed), merchant: Some(MerchantId(1)), ..Filter::default() },
            Filter { held_only: true, from: Some(UnixMs(1)), ..Filter::default() },
            Filter { open_only: true, until: Some(UnixMs(8_000)), ..Filter::default() },
            Filter { open_only: true, held_only: true, ..Filter::default() },
            Filter { until: Some(UnixMs(0)), ..Filter::default() },
        ];
        for newest_first in [false, true] {
            for filter in &filters {
                let wanted: Vec<_> = expected
                    .iter()
                    .filter(|record| filter.merchant.is_none_or(|merchant| record.key.merchant == merchant))
                    .filter(|record| filter.from.is_none_or(|from| record.accepted_at >= from))
                    .filter(|record| filter.until.is_none_or(|until| record.accepted_at < until))
                    .filter(|record| filter.state.is_none_or(|state| record.state == state))
                    .filter(|record| !filter.held_only || record.held.is_some())
                    .filter(|record| !filter.open_only || record.is_open())
                    .cloned()
                    .collect();
                let mut paged = Vec::new();
                let mut page = Filter { limit: 3, newest_first, ..filter.clone() };
                loop {
                    let listing = store.list(&page).expect("readable");
                    assert!(listing.records.len() <= 3);
                    paged.extend(listing.records);
                    let Some(next) = listing.next else { break };
                    page.after = Some(next);
                }
                assert_eq!(paged, wanted, "{filter:?}");
            }
            expected.reverse();
        }
    });
}

#[test]
fn an_empty_commit_is_nothing() {
    on_both(|store| assert_eq!(store.commit(&[]), Ok(Vec::new())));
}

#[test]
fn a_newer_writer_fences_the_older_one() {
    let _covers = covers::covers(&["INV-17", "PR-16"]);
    let record = accepted(1, "order-1");
    let mut model = store::memory::CrashStore::synced();
    model.usurp();
    let place = crate::support::Place::new();
    let mut real = place.open();
    place.sql().execute("UPDATE store SET fence = fence + 1", []).expect("written by hand");
    for store in [&mut model as &mut dyn Store, &mut real] {
        let error = store.commit(&[std::sync::Arc::new(record.clone())]).expect_err("fenced");
        assert!(matches!(error, CommitError::Fenced { ours, newer } if newer > ours), "{error}");
        assert_eq!(store.find(&record.key), Ok(None));
    }
}
