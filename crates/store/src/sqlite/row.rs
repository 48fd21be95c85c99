//! One record as one row, and back: which column holds what, and the checksum over all of them.
//!
//! The checksum is taken over what is stored, column by column, before anything is made of it; so a changed bit
//! is found whatever it changes, a type included.

use planted::planted;
use protocol::fact::{self, Paid, Refusal};
use protocol::{Fen, Fields, Text};
use rusqlite::types::ValueRef;
use state_machine::record::{Cause, Claim, Held, State, TillReversal};
use state_machine::{BootId, Channel, MerchantId, OrderKey, ProviderId, Record, Tick, UnixMs};

use crate::contract::Fence;
use crate::seal::{NoRandomness, Nonces, Purpose, Sealer};

/// The columns that the checksum covers, in its order. Statements number their parameters by it, from 1.
pub(super) const COLUMNS: [&str; LEN] = [
    "merchant",
    "out_trade_no",
    "channel",
    "provider",
    "version",
    "fence",
    "state",
    "cause",
    "proof",
    "held",
    "open",
    "amount_fen",
    "accepted_at",
    "changed_at",
    "decided_at",
    "transaction_id",
    "paid_fen",
    "paid_at_s",
    "refunded_fen",
    "refusal_code",
    "refusal_text",
    "claim",
    "till_reversal",
    "repair",
    "looks_left",
    "detail",
    "paid_fields",
];
pub(super) const LEN: usize = 27;
/// The parameter of the checksum itself.
pub(super) const CHECKSUM: usize = LEN + 1;

/// The first byte of `detail`: how the rest is laid out. Without a till it is as a program before had it, which reads it.
const DETAIL_FORMAT: u8 = 1;
/// The same with the till behind the attach.
const DETAIL_WITH_TILL: u8 = 2;

/// Buffers that live as long as the writer, so that a commit allocates next to nothing.
pub(super) struct Scratch {
    detail: Vec<u8>,
    sealed: Vec<u8>,
    canonical: Vec<u8>,
    nonces: Nonces,
}

impl Scratch {
    pub(super) const fn new() -> Self {
        Self { detail: Vec::new(), sealed: Vec::new(), canonical: Vec::new(), nonces: Nonces::new() }
    }
}

/// A row ready to be bound.
pub(super) struct Row<'a> {
    pub(super) values: [ValueRef<'a>; LEN],
    pub(super) checksum: [u8; crate::seal::CHECKSUM_LEN],
    /// What the checksum covers: the values, as [`canonical_form`] lays them out.
    pub(super) canonical: &'a [u8],
}

/// Lays `record` out as a row written under `fence`.
pub(super) fn encode<'a>(
    record: &'a Record,
    fence: Fence,
    sealer: &Sealer,
    scratch: &'a mut Scratch,
) -> Result<Row<'a>, NoRandomness> {
    // Whole, so that a new field of the record cannot be forgotten here.
    let Record {
        key: OrderKey { merchant, number },
        channel,
        provider,
        version,
        state,
        cause,
        proof,
        amount,
        digest,
        attach,
        till,
        accepted_at,
        accepted_tick,
        boot,
        left_tick,
        changed_at,
        decided_at,
        refusal,
        paid,
        refunded_fen,
        claim,
        held,
        till_reversal,
        repair,
        looks_left,
    } = record;

    let Scratch { detail, sealed, canonical, nonces } = scratch;
    detail.clear();
    detail.push(if *till == 0 { DETAIL_FORMAT } else { DETAIL_WITH_TILL });
    detail.extend_from_slice(digest);
    detail.extend_from_slice(&attach.to_le_bytes());
    if *till != 0 {
        detail.extend_from_slice(&till.to_le_bytes());
    }
    detail.extend_from_slice(&accepted_tick.as_ms().to_le_bytes());
    detail.extend_from_slice(&boot.0.to_le_bytes());
    detail.push(u8::from(left_tick.is_some()));
    detail.extend_from_slice(&left_tick.map_or(0, Tick::as_ms).to_le_bytes());
    sealed.clear();
    if let Some(paid) = paid {
        detail.push(u8::from(paid.merchant_matches));
        detail.extend_from_slice(&paid.attach.to_le_bytes());
        sealer.seal(nonces, Purpose::PaidFields, &owner(&record.key), paid.fields.as_bytes(), sealed)?;
    }
    let (detail, sealed): (&'a [u8], &'a [u8]) = (detail, sealed);

    let values = [
        int(merchant.0),
        text(number.as_str()),
        int(channel.code()),
        int(provider.0),
        int(*version),
        unsigned(fence.0),
        int(state.code()),
        cause.map_or(ValueRef::Null, |cause| int(cause.code())),
        proof.map_or(ValueRef::Null, |row| int(row.code())),
        held.map_or(ValueRef::Null, |held| int(held.code())),
        int(u8::from(record.is_open())),
        amount.map_or(ValueRef::Null, |amount| unsigned(amount.get())),
        ValueRef::Integer(accepted_at.0),
        ValueRef::Integer(changed_at.0),
        decided_at.map_or(ValueRef::Null, |at| ValueRef::Integer(at.0)),
        paid.as_ref().map_or(ValueRef::Null, |paid| text(paid.transaction_id.as_str())),
        paid.as_ref().map_or(ValueRef::Null, |paid| unsigned(paid.amount.get())),
        paid.as_ref().and_then(|paid| paid.time_end_s).map_or(ValueRef::Null, ValueRef::Integer),
        unsigned(*refunded_fen),
        refusal.as_ref().map_or(ValueRef::Null, |refusal| text(refusal.code.as_str())),
        refusal.as_ref().map_or(ValueRef::Null, |refusal| text(&refusal.description)),
        int(claim.code()),
        int(till_reversal.code()),
        int(u8::from(*repair)),
        int(*looks_left),
        ValueRef::Blob(detail),
        if paid.is_some() { ValueRef::Blob(sealed) } else { ValueRef::Null },
    ];
    canonical_form(&values, canonical);
    let checksum = sealer.checksum(canonical);
    Ok(Row { values, checksum, canonical })
}

/// Takes a row back, or says what is wrong with it: the checksum first, then every value.
pub(super) fn decode(
    values: &[ValueRef<'_>; LEN],
    checksum: ValueRef<'_>,
    sealer: &Sealer,
) -> Result<Record, &'static str> {
    check(values, checksum, sealer, &mut Vec::with_capacity(512))?;
    // From here on the row is what some version of this program wrote; what it cannot read is a newer format.
    let mut row = Reader { values: values.iter() };
    read(&mut row, sealer).ok_or("it holds a value that this version of the program does not know")
}

/// Says what is wrong with the checksum of a row; `canonical` is room to write in.
pub(super) fn check(
    values: &[ValueRef<'_>; LEN],
    checksum: ValueRef<'_>,
    sealer: &Sealer,
    canonical: &mut Vec<u8>,
) -> Result<(), &'static str> {
    canonical_form(values, canonical);
    let ValueRef::Blob(checksum) = checksum else { return Err("it has no checksum") };
    if !sealer.checks(canonical, checksum) && !planted!(ChecksumNotChecked) {
        return Err("its checksum does not match");
    }
    Ok(())
}

fn read(row: &mut Reader<'_>, sealer: &Sealer) -> Option<Record> {
    let merchant = MerchantId(row.small()?);
    let key = OrderKey { merchant, number: row.text()?.parse().ok()? };
    let channel = Channel::from_code(row.small()?)?;
    let provider = ProviderId(row.small()?);
    let version = row.small()?;
    let _fence: u64 = row.unsigned()?;
    let state = State::from_code(row.small()?)?;
    let cause = row.optional(Reader::small)?.map_or(Some(None), |code| Cause::from_code(code).map(Some))?;
    let proof =
        row.optional(Reader::small)?.map_or(Some(None), |code| fact::Row::from_code(code).map(Some))?;
    let held = row.optional(Reader::small)?.map_or(Some(None), |code| Held::from_code(code).map(Some))?;
    // What was open by the rule of the program that wrote the row; the index of open orders goes by it.
    let _open: u8 = row.small()?;
    let amount = row.optional(Reader::unsigned)?.map_or(Some(None), |fen| Fen::new(fen).ok().map(Some))?;
    let accepted_at = UnixMs(row.integer()?);
    let changed_at = UnixMs(row.integer()?);
    let decided_at = row.optional(Reader::integer)?.map(UnixMs);
    let transaction_id = row.optional(Reader::text)?;
    let paid_fen = row.optional(Reader::unsigned)?;
    let time_end_s = row.optional(Reader::integer)?;
    let refunded_fen = row.unsigned()?;
    let refusal_code = row.optional(Reader::text)?;
    let refusal_text = row.optional(Reader::text)?;
    let claim = Claim::from_code(row.small()?)?;
    let till_reversal = TillReversal::from_code(row.small()?)?;
    let repair = row.small::<u8>()? != 0;
    let looks_left = row.small()?;
    let mut detail = Detail(row.blob()?);
    let sealed = row.optional(Reader::blob)?;

    let [format] = detail.take()?;
    let digest = detail.take()?;
    let attach = u64::from_le_bytes(detail.take()?);
    let till = match format {
        DETAIL_FORMAT => 0,
        DETAIL_WITH_TILL => u64::from_le_bytes(detail.take()?),
        _ => return None,
    };
    let accepted_tick = Tick::from_ms(u64::from_le_bytes(detail.take()?));
    let boot = BootId(u64::from_le_bytes(detail.take()?));
    let has_left = detail.flag()?;
    let left_ms = u64::from_le_bytes(detail.take()?);
    let paid = match sealed {
        None => None,
        Some(sealed) => {
            let merchant_matches = detail.flag()?;
            let attach = u64::from_le_bytes(detail.take()?);
            let fields = sealer.open(Purpose::PaidFields, &owner(&key), sealed).ok()?;
            Some(Box::new(Paid {
                amount: Fen::new(paid_fen?).ok()?,
                transaction_id: transaction_id?.parse().ok()?,
                time_end_s,
                attach,
                merchant_matches,
                fields: Fields::from_bytes(&fields)?,
            }))
        }
    };
    let refusal = match (refusal_code, refusal_text) {
        (Some(code), Some(text)) => {
            Some(Box::new(Refusal { code: Text::new(code).ok()?, description: text.into() }))
        }
        (None, None) => None,
        (Some(_), None) | (None, Some(_)) => return None,
    };
    let record = Record {
        key,
        channel,
        provider,
        version,
        state,
        cause,
        proof,
        amount,
        digest,
        attach,
        till,
        accepted_at,
        accepted_tick,
        boot,
        left_tick: has_left.then(|| Tick::from_ms(left_ms)),
        changed_at,
        decided_at,
        refusal,
        paid,
        refunded_fen,
        claim,
        held,
        till_reversal,
        repair,
        looks_left,
    };
    detail.0.is_empty().then_some(record)
}

/// The key of a row that is not trusted, if it can be read: for the operator, never for a decision.
pub(super) fn key_of(values: &[ValueRef<'_>; LEN]) -> Option<OrderKey> {
    let mut row = Reader { values: values.iter() };
    Some(OrderKey { merchant: MerchantId(row.small()?), number: row.text()?.parse().ok()? })
}

/// The version that an untrusted row claims, 0 if none can be read.
pub(super) fn version_of(values: &[ValueRef<'_>; LEN]) -> u32 {
    Reader { values: values.iter() }.values.nth(4).and_then(|value| as_small(*value)).unwrap_or(0)
}

/// What a sealed value of an order is bound to: merchant and number.
fn owner(key: &OrderKey) -> Vec<u8> {
    let number = key.number.as_str().as_bytes();
    let mut owner = Vec::with_capacity(number.len().saturating_add(4));
    owner.extend_from_slice(&key.merchant.0.to_be_bytes());
    owner.extend_from_slice(number);
    owner
}

/// Each value with its type and length, so that no two different rows have the same form.
pub(super) fn canonical_form(values: &[ValueRef<'_>], out: &mut Vec<u8>) {
    out.clear();
    for value in values {
        match value {
            ValueRef::Null => out.push(0),
            ValueRef::Integer(integer) => {
                out.push(1);
                out.extend_from_slice(&integer.to_le_bytes());
            }
            ValueRef::Real(real) => {
                out.push(2);
                out.extend_from_slice(&real.to_bits().to_le_bytes());
            }
            ValueRef::Text(bytes) => put_bytes(3, bytes, out),
            ValueRef::Blob(bytes) => put_bytes(4, bytes, out),
        }
    }
}

/// The values that [`canonical_form`] laid out; `None` unless `bytes` are exactly a row of them.
pub(super) fn values_of(bytes: &[u8]) -> Option<[ValueRef<'_>; LEN]> {
    first_values(bytes).and_then(|(values, rest)| rest.is_empty().then_some(values))
}

/// The first values of a canonical form, and what is behind them.
pub(super) fn first_values<const N: usize>(mut bytes: &[u8]) -> Option<([ValueRef<'_>; N], &[u8])> {
    let mut values = [ValueRef::Null; N];
    for value in &mut values {
        let (kind, rest) = bytes.split_first()?;
        bytes = rest;
        if *kind == 0 {
            continue;
        }
        let (word, rest) = bytes.split_first_chunk()?;
        bytes = rest;
        let word = u64::from_le_bytes(*word);
        if *kind == 1 {
            *value = ValueRef::Integer(word.cast_signed());
            continue;
        }
        let (text, rest) = bytes.split_at_checked(usize::try_from(word).ok()?)?;
        bytes = rest;
        *value = match kind {
            3 => ValueRef::Text(text),
            4 => ValueRef::Blob(text),
            // No column holds numbers with a point.
            _ => return None,
        };
    }
    Some((values, bytes))
}

fn put_bytes(kind: u8, bytes: &[u8], out: &mut Vec<u8>) {
    out.push(kind);
    out.extend_from_slice(&u64::try_from(bytes.len()).unwrap_or(u64::MAX).to_le_bytes());
    out.extend_from_slice(bytes);
}

fn int<'a>(value: impl Into<i64>) -> ValueRef<'a> {
    ValueRef::Integer(value.into())
}

/// SQLite's integers are signed; the bits are kept.
const fn unsigned<'a>(value: u64) -> ValueRef<'a> {
    ValueRef::Integer(value.cast_signed())
}

const fn text(text: &str) -> ValueRef<'_> {
    ValueRef::Text(text.as_bytes())
}

fn as_small<T: TryFrom<i64>>(value: ValueRef<'_>) -> Option<T> {
    match value {
        ValueRef::Integer(integer) => T::try_from(integer).ok(),
        ValueRef::Null | ValueRef::Real(_) | ValueRef::Text(_) | ValueRef::Blob(_) => None,
    }
}

/// Takes the values of a row one after the other; `None` for a value of another kind.
struct Reader<'a> {
    values: std::slice::Iter<'a, ValueRef<'a>>,
}

impl<'a> Reader<'a> {
    fn small<T: TryFrom<i64>>(&mut self) -> Option<T> {
        as_small(*self.values.next()?)
    }

    fn integer(&mut self) -> Option<i64> {
        self.small()
    }

    fn unsigned(&mut self) -> Option<u64> {
        self.integer().map(i64::cast_unsigned)
    }

    fn text(&mut self) -> Option<&'a str> {
        match self.values.next()? {
            ValueRef::Text(bytes) => std::str::from_utf8(bytes).ok(),
            ValueRef::Null | ValueRef::Integer(_) | ValueRef::Real(_) | ValueRef::Blob(_) => None,
        }
    }

    fn blob(&mut self) -> Option<&'a [u8]> {
        match self.values.next()? {
            ValueRef::Blob(bytes) => Some(bytes),
            ValueRef::Null | ValueRef::Integer(_) | ValueRef::Real(_) | ValueRef::Text(_) => None,
        }
    }

    /// `Some(None)` for NULL, else what `take` makes of it.
    fn optional<T>(&mut self, take: impl FnOnce(&mut Self) -> Option<T>) -> Option<Option<T>> {
        if matches!(self.values.as_slice().first()?, ValueRef::Null) {
            self.values.next();
            return Some(None);
        }
        take(self).map(Some)
    }
}

/// Takes fixed-size values off the front of `detail`.
struct Detail<'a>(&'a [u8]);

impl Detail<'_> {
    fn take<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (head, rest) = self.0.split_first_chunk::<N>()?;
        self.0 = rest;
        Some(*head)
    }

    fn flag(&mut self) -> Option<bool> {
        match self.take()? {
            [0] => Some(false),
            [1] => Some(true),
            _ => None,
        }
    }
}
