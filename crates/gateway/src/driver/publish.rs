//! Records as words in the state table, so that a till's query of an open payment reads no lock and no store.
//!
//! A record that holds the wallet's words (`paid`, `refusal`) does not fit: its entry says so, and the store
//! is read instead.

use std::sync::Arc;

use protocol::fact::Row;
use protocol::{Fen, OutTradeNo};
use state_machine::record::{Cause, Claim, Held, Record, State, TillReversal};
use state_machine::shard::OrderRef;
use state_machine::{BootId, Channel, OrderKey, ProviderId, Tick, UnixMs};
use state_table::{Handle, Reader, Writer};

/// Words of one entry.
pub(super) const WORDS: usize = 18;

/// An entry.
pub(super) type Words = [u64; WORDS];

/// What a lookup in the table finds.
#[derive(Debug)]
pub(super) enum Found {
    /// All of it.
    Whole(Arc<Record>),
    /// The order is known; its record is in the store.
    InStore,
}

/// The hash of a key: FNV-1a over merchant and number. Also chooses the shard.
pub(super) fn hash(key: &OrderKey) -> u64 {
    let bytes = key.merchant.0.to_le_bytes().into_iter().chain(key.number.as_str().bytes());
    let folded = bytes.fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    // FNV's high bits are weak for short keys: spread them.
    let mixed = (folded ^ (folded >> 32)).wrapping_mul(0xd6e8_feb8_6659_fd93);
    mixed ^ (mixed >> 32)
}

/// The number's bytes as four words.
fn number_words(number: &OutTradeNo) -> [u64; 4] {
    let mut bytes = [0_u8; 32];
    for (to, from) in bytes.iter_mut().zip(number.as_str().bytes()) {
        *to = from;
    }
    let mut words = [0; 4];
    for (word, chunk) in words.iter_mut().zip(bytes.chunks_exact(8)) {
        *word = chunk.iter().rev().fold(0, |word, byte| (word << 8) | u64::from(*byte));
    }
    words
}

/// Puts small values side by side into one word, the first in the lowest bits.
fn bytes_word(bytes: [u8; 8]) -> u64 {
    u64::from_le_bytes(bytes)
}

/// What is 0 for `None` and one more than the value otherwise.
fn optional(value: Option<u64>) -> u64 {
    value.map_or(0, |value| value.wrapping_add(1))
}

const fn signed(value: i64) -> u64 {
    value.cast_unsigned()
}

fn pack(record: &Record) -> Words {
    let [n0, n1, n2, n3] = number_words(&record.key.number);
    let in_store = record.paid.is_some() || record.refusal.is_some();
    let (digest_low, digest_high) = record.digest.split_at(8);
    let word = |half: &[u8]| half.iter().rev().fold(0_u64, |word, byte| (word << 8) | u64::from(*byte));
    [
        n0,
        n1,
        n2,
        n3,
        (u64::from(record.provider.0) << 32) | u64::from(record.key.merchant.0),
        (record.amount.map_or(0, Fen::get) << 32) | u64::from(record.version),
        bytes_word([
            record.state.code(),
            record.cause.map_or(0, Cause::code),
            record.proof.map_or(0, Row::code),
            record.claim.code(),
            record.held.map_or(0, Held::code),
            record.till_reversal.code(),
            u8::from(record.repair) | (u8::from(in_store) << 1),
            record.looks_left,
        ]),
        u64::from(record.channel.code()),
        word(digest_low),
        word(digest_high),
        record.attach,
        signed(record.accepted_at.0),
        record.accepted_tick.as_ms(),
        record.boot.0,
        optional(record.left_tick.map(Tick::as_ms)),
        signed(record.changed_at.0),
        optional(record.decided_at.map(|at| signed(at.0))),
        record.refunded_fen,
    ]
}

/// `None` only for words that `pack` never made.
fn unpack(key: &OrderKey, words: &Words) -> Option<Found> {
    let [_, _, _, _, ids, amount, states, channel, digest_low, digest_high, times @ ..] = *words;
    let [attach, accepted_at, accepted_tick, boot, left, changed_at, decided_at, refunded_fen] = times;
    let [state, cause, proof, claim, held, till_reversal, flags, looks_left] = states.to_le_bytes();
    if flags & 2 != 0 {
        return Some(Found::InStore);
    }
    let mut digest = [0; 16];
    for (to, from) in
        digest.iter_mut().zip(digest_low.to_le_bytes().into_iter().chain(digest_high.to_le_bytes()))
    {
        *to = from;
    }
    let low = |word: u64| u32::try_from(word & u64::from(u32::MAX)).ok();
    let some = |word: u64| word.checked_sub(1);
    Some(Found::Whole(Arc::new(Record {
        key: *key,
        channel: Channel::from_code(channel.to_le_bytes()[0])?,
        provider: ProviderId(low(ids >> 32)?),
        version: low(amount)?,
        state: State::from_code(state)?,
        cause: Cause::from_code(cause),
        proof: Row::from_code(proof),
        amount: Fen::new(amount >> 32).ok(),
        digest,
        attach,
        // Only where it is paid does it count, and then the store is read.
        till: 0,
        accepted_at: UnixMs(accepted_at.cast_signed()),
        accepted_tick: Tick::from_ms(accepted_tick),
        boot: BootId(boot),
        left_tick: some(left).map(Tick::from_ms),
        changed_at: UnixMs(changed_at.cast_signed()),
        decided_at: some(decided_at).map(|at| UnixMs(at.cast_signed())),
        refusal: None,
        paid: None,
        refunded_fen,
        claim: Claim::from_code(claim)?,
        held: Held::from_code(held),
        till_reversal: TillReversal::from_code(till_reversal)?,
        repair: flags & 1 != 0,
        looks_left,
    })))
}

/// Whether an entry is that of `key`.
fn is_of(key: &OrderKey, number: [u64; 4], words: &Words) -> bool {
    let [n0, n1, n2, n3, ids, ..] = *words;
    [n0, n1, n2, n3] == number && ids & u64::from(u32::MAX) == u64::from(key.merchant.0)
}

/// Looks `key` up in one shard's table.
pub(super) fn find(reader: &Reader<WORDS>, key: &OrderKey) -> Option<Found> {
    let number = number_words(&key.number);
    let (_, words) = reader.find(hash(key), |words| is_of(key, number, words))?;
    unpack(key, &words)
}

/// The writing side of one shard's table.
pub(super) struct Published {
    writer: Writer<WORDS>,
    /// The table's entry of each of the shard's slots.
    handles: Vec<Option<Handle>>,
}

impl Published {
    pub(super) const fn new(writer: Writer<WORDS>) -> Self {
        Self { writer, handles: Vec::new() }
    }

    /// Makes `record` visible. `false` if the table is full: then lookups read the store, which has it.
    pub(super) fn publish(&mut self, order: OrderRef, record: &Record) -> bool {
        let slot = order.slot as usize;
        if self.handles.len() <= slot {
            self.handles.resize(slot.saturating_add(1), None);
        }
        let words = pack(record);
        let Some(place) = self.handles.get_mut(slot) else { return false };
        match place {
            Some(handle) => self.writer.update(*handle, &words),
            None => match self.writer.insert(hash(&record.key), &words) {
                Ok(handle) => {
                    *place = Some(handle);
                    true
                }
                Err(_) => false,
            },
        }
    }

    /// Takes an order out.
    pub(super) fn retire(&mut self, order: OrderRef) {
        if let Some(handle) = self.handles.get_mut(order.slot as usize).and_then(Option::take) {
            self.writer.remove(handle);
        }
    }
}

#[cfg(test)]
mod tests {
    use state_machine::shard::OrderRef;

    use super::{Found, Published, find, hash};
    use crate::driver::tests::record;

    #[test]
    fn a_record_comes_back_as_it_was_published() {
        let (writer, reader) = state_table::table(8);
        let mut published = Published::new(writer);
        let order = OrderRef { slot: 3, generation: 1 };
        let mut record = record("P20261123000000000001");
        assert!(published.publish(order, &record));
        let Some(Found::Whole(found)) = find(&reader, &record.key) else { panic!("it was published") };
        assert_eq!(*found, record);
        record.version = 2;
        record.decided_at = Some(state_machine::UnixMs(0));
        record.changed_at = state_machine::UnixMs(-1);
        record.held = Some(state_machine::record::Held::Differs);
        assert!(published.publish(order, &record));
        let Some(Found::Whole(found)) = find(&reader, &record.key) else { panic!("it was published") };
        assert_eq!(*found, record);
        let other = super::OrderKey { merchant: state_machine::MerchantId(8), ..record.key };
        assert!(find(&reader, &other).is_none(), "another merchant's number is another key");
        assert_ne!(hash(&other), hash(&record.key));
        published.retire(order);
        assert!(find(&reader, &record.key).is_none());
    }
}
