//! A stored record: whatever it holds comes back; a changed row is refused; one that another version wrote, with a
//! right checksum, is read whole or not at all.

use protocol::fact::{Paid, Refusal, Row};
use protocol::{Fen, Fields, Text};
use rusqlite::types::Value;
use state_machine::record::{Cause, Claim, Held, State, TillReversal};
use state_machine::{BootId, Channel, MerchantId, OrderKey, ProviderId, Record, Tick, UnixMs};
use store::SealKey;
use store::sqlite::codec::RowCodec;

use crate::draw::Source;

/// Makes a record of `data`'s first bytes, stores it, and then changes its row as the others say.
///
/// # Panics
///
/// When a record comes back otherwise than it was, a changed row is taken without a new checksum, or a row that is
/// taken with one does not survive being written again.
pub fn store(data: &[u8]) {
    let mut source = Source::new(data);
    let codec = RowCodec::new(&SealKey::from_hex(&"5a".repeat(32)).expect("32 bytes"));
    let record = record(&mut source);
    let (mut values, checksum) = codec.encode(&record).expect("random bytes");
    assert_eq!(codec.decode(&values, &checksum).as_ref(), Ok(&record), "a record came back otherwise");
    assert_eq!(codec.checksum(&values), checksum);

    let stored = values.clone();
    while !source.rest().is_empty() {
        let at = usize::from(source.byte()) % values.len();
        values[at] = change(&values[at], &mut source);
    }
    if values == stored {
        return;
    }
    let forged = codec.decode(&values, &checksum);
    assert_eq!(forged, Err("its checksum does not match"), "{values:?}");
    // What only another version of this program could have written.
    let Ok(other) = codec.decode(&values, &codec.checksum(&values)) else { return };
    let (again, checksum) = codec.encode(&other).expect("random bytes");
    assert_eq!(codec.decode(&again, &checksum), Ok(other), "{values:?}");
}

/// Another value, mostly of the same type.
fn change(value: &Value, source: &mut Source<'_>) -> Value {
    match source.byte() % 8 {
        0 => Value::Null,
        1 => Value::Integer(i64::from(source.byte())),
        2 => Value::Integer(i64::from_le_bytes(source.u64().to_le_bytes())),
        3 => Value::Real(f64::from_bits(source.u64())),
        4 => Value::Text(String::from_utf8_lossy(source.bytes()).into_owned()),
        5 => Value::Blob(source.bytes().to_vec()),
        _ => {
            let mut changed = value.clone();
            match &mut changed {
                Value::Blob(bytes) => flip(bytes, source),
                Value::Text(text) => {
                    let mut bytes = std::mem::take(text).into_bytes();
                    flip(&mut bytes, source);
                    *text = String::from_utf8_lossy(&bytes).into_owned();
                }
                Value::Integer(integer) => *integer ^= 1 << (source.byte() % 64),
                Value::Null | Value::Real(_) => {}
            }
            changed
        }
    }
}

fn flip(bytes: &mut Vec<u8>, source: &mut Source<'_>) {
    let at = usize::from(source.byte());
    match bytes.get_mut(at) {
        Some(byte) => *byte ^= 1 << (source.byte() % 8),
        None => bytes.push(source.byte()),
    }
}

fn wall(source: &mut Source<'_>) -> UnixMs {
    UnixMs(i64::from_le_bytes(source.u64().to_le_bytes()))
}

/// Any record, sensible or not.
fn record(source: &mut Source<'_>) -> Record {
    let has = source.byte();
    let number: String = source
        .bytes()
        .iter()
        .map(|byte| char::from(b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcxyz_-|*@"[usize::from(*byte) % 47]))
        .take(32)
        .collect();
    let text = |source: &mut Source<'_>| String::from_utf8_lossy(source.bytes()).into_owned();
    let row = |byte: u8| Row::ALL[usize::from(byte) % Row::ALL.len()];
    let fen = |source: &mut Source<'_>| Fen::new(source.u64() % Fen::MAX + 1).expect("in range");
    Record {
        key: OrderKey {
            merchant: MerchantId(u32::from(source.byte())),
            number: number.parse().unwrap_or_else(|_| "ABCDEF".parse().expect("a number")),
        },
        channel: Channel::WechatV2,
        provider: ProviderId(u32::from(source.byte())),
        version: u32::from(source.byte()),
        state: State::ALL[usize::from(source.byte()) % 6],
        cause: (has & 1 != 0).then(|| match source.byte() {
            0 => Cause::Deadline,
            1 => Cause::Till,
            2 => Cause::Overtaken,
            3 => Cause::AbsentTill,
            byte => Cause::Row(row(byte)),
        }),
        proof: (has & 2 != 0).then(|| row(source.byte())),
        amount: (has & 4 != 0).then(|| fen(source)),
        digest: [source.byte(); 16],
        attach: source.u64(),
        till: source.u64(),
        accepted_at: wall(source),
        accepted_tick: Tick::from_ms(source.u64()),
        boot: BootId(source.u64()),
        left_tick: (has & 8 != 0).then(|| Tick::from_ms(source.u64())),
        changed_at: wall(source),
        decided_at: (has & 16 != 0).then(|| wall(source)),
        refusal: (has & 32 != 0).then(|| {
            Box::new(Refusal { code: Text::truncated(&text(source)), description: text(source).into() })
        }),
        paid: (has & 64 != 0).then(|| {
            let fields: Vec<(String, String)> =
                (0..source.byte() % 8).map(|_| (text(source), text(source))).collect();
            Box::new(Paid {
                amount: fen(source),
                transaction_id: format!("42{}", source.u64()).parse().expect("digits"),
                time_end_s: (has & 128 != 0).then(|| wall(source).0),
                attach: source.u64(),
                merchant_matches: source.byte() & 1 != 0,
                fields: Fields::new(fields.iter().map(|(name, value)| (name.as_str(), value.as_str()))),
            })
        }),
        refunded_fen: source.u64(),
        claim: [Claim::Ours, Claim::Contested, Claim::Foreign][usize::from(source.byte()) % 3],
        held: Held::from_code(source.byte() % 5),
        till_reversal: [TillReversal::None, TillReversal::Asked, TillReversal::Done]
            [usize::from(source.byte()) % 3],
        repair: source.byte() & 1 != 0,
        looks_left: source.byte(),
    }
}
