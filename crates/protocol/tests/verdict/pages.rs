//! Refunds of one payment over several pages: all of them, or nothing.

use protocol::Fen;
use protocol::fact::{RefundStatus, RefundsFact, Row};
use protocol::wechat_v2::verdict::{Alarm, Pages, RefundRecord, RefundsPage};

use crate::support::{Fact, NUMBER, Operation, REFUND_NUMBER, check};

fn fen(fen: u64) -> Fen {
    Fen::new(fen).expect("an amount")
}

fn records(numbers: std::ops::Range<u64>, status: RefundStatus) -> Vec<RefundRecord> {
    numbers.map(|n| RefundRecord { out_refund_no: format!("R{n}").into(), amount: fen(10), status }).collect()
}

fn page(numbers: std::ops::Range<u64>, count: Option<usize>) -> RefundsPage {
    RefundsPage::Listed { total: fen(1288), records: records(numbers, RefundStatus::Success), count }
}

#[test]
fn pages_add_up() {
    let mut pages = Pages::new();
    assert_eq!((pages.offset(), pages.add(page(0..10, Some(23)), None)), (0, None));
    assert_eq!((pages.offset(), pages.add(page(10..20, Some(23)), None)), (10, None));
    assert_eq!(pages.offset(), 20);
    assert_eq!(
        pages.add(page(20..23, Some(23)), Some("R21")),
        Some(RefundsFact::Listed { returned_fen: 230, pending_fen: 0, ours: Some(RefundStatus::Success) })
    );
}

#[test]
fn one_page_is_all_unless_it_says_otherwise() {
    let mixed = RefundsPage::Listed {
        total: fen(1288),
        records: [
            RefundStatus::Success,
            RefundStatus::Processing,
            RefundStatus::Closed,
            RefundStatus::Change,
        ]
        .into_iter()
        .zip(0..)
        .flat_map(|(status, n)| records(n..n + 1, status))
        .collect(),
        count: None,
    };
    assert_eq!(
        Pages::new().add(mixed, Some("R3")),
        Some(RefundsFact::Listed { returned_fen: 10, pending_fen: 10, ours: Some(RefundStatus::Change) })
    );
    assert_eq!(Pages::new().add(RefundsPage::None, None), Some(RefundsFact::None));
    assert_eq!(Pages::new().add(RefundsPage::Unclear, None), Some(RefundsFact::Unclear));
}

#[test]
fn pages_that_contradict_each_other_are_unclear() {
    let other_total = RefundsPage::Listed {
        total: fen(1),
        records: records(10..11, RefundStatus::Success),
        count: Some(11),
    };
    for second in [
        RefundsPage::Unclear,
        RefundsPage::None,
        page(9..19, Some(23)),
        page(10..10, Some(23)),
        page(10..20, None),
        page(10..20, Some(24)),
        page(10..20, Some(15)),
        page(10..20, Some(1000)),
        other_total,
    ] {
        let mut pages = Pages::new();
        assert_eq!(pages.add(page(0..10, Some(23)), None), None);
        assert_eq!(pages.add(second.clone(), None), Some(RefundsFact::Unclear), "{second:?}");
    }
    assert_eq!(Pages::new().add(page(0..0, None), None), Some(RefundsFact::Unclear), "an empty list");
    let twice = [records(0..1, RefundStatus::Success), records(0..1, RefundStatus::Success)].concat();
    let twice = RefundsPage::Listed { total: fen(1288), records: twice, count: None };
    assert_eq!(Pages::new().add(twice, None), Some(RefundsFact::Unclear));
    let over =
        RefundsPage::Listed { total: fen(19), records: records(0..2, RefundStatus::Success), count: None };
    assert_eq!(Pages::new().add(over, None), Some(RefundsFact::Unclear), "more than was paid");
}

const ONE: [(&str, &str); 7] = [
    ("result_code", "SUCCESS"),
    ("out_trade_no", NUMBER),
    ("total_fee", "1288"),
    ("refund_count", "1"),
    ("out_refund_no_0", REFUND_NUMBER),
    ("refund_fee_0", "1288"),
    ("refund_status_0", "SUCCESS"),
];

fn with<'a>(changes: &[(&'a str, &'a str)]) -> Vec<(&'a str, &'a str)> {
    let changed = |name: &str| changes.iter().any(|(changed, _)| *changed == name);
    ONE.iter().filter(|(name, _)| !changed(name)).chain(changes).copied().collect()
}

#[test]
fn the_state_of_our_refund_makes_the_row() {
    for (status, row) in
        [("PROCESSING", Row::D6), ("SUCCESS", Row::D7), ("REFUNDCLOSE", Row::D8), ("CHANGE", Row::D9)]
    {
        check(Operation::RefundQuery, &with(&[("refund_status_0", status)]), row, None, true);
        let other = with(&[("refund_status_0", status), ("out_refund_no_0", "R2")]);
        check(Operation::RefundQuery, &other, Row::B9, None, true);
    }
    for count in ["", "0"] {
        check(Operation::RefundQuery, &with(&[("refund_count", count)]), Row::D7, None, true);
    }
}

#[test]
fn a_list_with_a_gap_is_unclear() {
    for (changes, alarm, keep) in [
        (&[("out_refund_no_0", "")][..], Alarm::NotVerified, true),
        (&[("refund_fee_0", "")], Alarm::NotVerified, true),
        (&[("refund_fee_0", "0")], Alarm::NotVerified, true),
        (&[("refund_status_0", "")], Alarm::UnknownWord, true),
        (&[("refund_status_0", "NOTSURE")], Alarm::UnknownWord, true),
        (&[("refund_count", "2")], Alarm::NotVerified, true),
        (&[("refund_count", "-1")], Alarm::NotVerified, true),
        (&[("refund_fee_2", "1")], Alarm::NotVerified, true),
        (&[("refund_fee_50", "1")], Alarm::NotVerified, true),
        (&[("total_refund_count", "x")], Alarm::NotVerified, true),
        (&[("total_fee", "")], Alarm::NotVerified, false),
        (&[("total_fee", "1287")], Alarm::AmountDiffers, false),
        (&[("out_trade_no", "")], Alarm::NotVerified, false),
    ] {
        let verdict = check(Operation::RefundQuery, &with(changes), Row::B9, Some(alarm), keep);
        assert_eq!(verdict.fact, Fact::RefundQuery(RefundsPage::Unclear), "{changes:?}");
    }
    let coupons =
        with(&[("coupon_refund_fee_0", "3"), ("coupon_refund_fee_0_1", "1"), ("refund_fee", "1288")]);
    check(Operation::RefundQuery, &coupons, Row::D7, None, true);
}
