//! Records of payments.

use protocol::fact::{Paid, Refusal, Row, attach_digest};
use protocol::{Fen, Fields, OutTradeNo, Text};
use state_machine::record::{Cause, Record, State};
use state_machine::{BootId, MerchantId, Now, OrderKey, ProviderId, Tick, UnixMs};

pub(in super::super) const TRANSACTION: &str = "4200002611202611231234567890";
/// Seconds of `ACCEPTED_MS`, plus three: 2026-11-23 10:15:03 in Beijing.
const PAID_AT_S: i64 = 1_795_400_103;
const ACCEPTED_MS: i64 = 1_795_400_100_000;

/// A record of merchant 1.
pub(crate) fn record(number: &str, state: State) -> Record {
    let now = Now { tick: Tick::from_ms(1), wall: UnixMs(ACCEPTED_MS) };
    Record {
        state,
        amount: Some(Fen::new(1_288).unwrap()),
        ..Record::begun(key(1, number), ProviderId(9), now, BootId(1))
    }
}

pub(in super::super) fn paid(record: Record) -> Record {
    let amount = record.amount.unwrap();
    let paid = Paid {
        amount,
        transaction_id: TRANSACTION.parse().unwrap(),
        time_end_s: Some(PAID_AT_S),
        attach: attach_digest(""),
        merchant_matches: true,
        fields: Fields::new([
            ("openid", "oUpF8uMuAJO_M2pxb1Q9zNjWeS6o"),
            ("is_subscribe", "N"),
            ("trade_type", "MICROPAY"),
            ("bank_type", "OTHERS"),
            ("fee_type", "CNY"),
            ("total_fee", "1288"),
            ("cash_fee", "1288"),
            ("transaction_id", TRANSACTION),
            ("attach", " 店员=07&班次=早 "),
            ("time_end", "20261123101503"),
            ("empty", ""),
            // What the wallet may add one day must not displace what we say.
            ("mch_id", "6666"),
            ("nonce_str", "theirs"),
            ("sign", "theirs"),
            ("result_code", "theirs"),
        ]),
    };
    Record { state: State::Paid, paid: Some(Box::new(paid)), decided_at: Some(UnixMs(ACCEPTED_MS)), ..record }
}

pub(in super::super) fn refused(record: Record, code: &str, text: &str) -> Record {
    let refusal = Refusal { code: Text::truncated(code), description: text.into() };
    Record {
        state: State::Failed,
        cause: Some(Cause::Row(Row::A11)),
        refusal: Some(Box::new(refusal)),
        ..record
    }
}

pub(in super::super) fn key(merchant: u32, number: &str) -> OrderKey {
    OrderKey { merchant: MerchantId(merchant), number: number.parse::<OutTradeNo>().unwrap() }
}
