//! Payments to commit: every state, legal moves mostly.

use std::sync::Arc;

use protocol::fact::{Paid, Refusal, Row};
use protocol::{Fen, Fields, Text};
use state_machine::record::{Cause, State};
use state_machine::{BootId, MerchantId, Now, OrderKey, ProviderId, Record, Tick, UnixMs};

use super::random::Random;
use crate::contract::Day;

const NOW_MS: i64 = 1_795_393_800_000;
/// Days on which orders were accepted, today's the last.
const DAYS: i64 = 3;
/// Today.
pub(super) const TODAY: Day = Day::of(UnixMs(NOW_MS));
/// Whose orders they are: merchants 1 to this one.
pub(super) const MERCHANTS: u32 = 4;

/// The newest version of every order that was offered, and numbers for new ones.
#[derive(Clone, Debug, Default)]
pub(super) struct Orders {
    known: Vec<Record>,
}

impl Orders {
    /// What the judge found durable takes the place of what was offered.
    pub(super) fn set(&mut self, durable: impl Iterator<Item = Record>) {
        self.known = durable.collect();
    }

    /// One to `most` records, each of another order, of orders whose place is `shard` modulo `shards`.
    pub(super) fn batch(
        &mut self,
        random: &mut Random,
        most: usize,
        shard: usize,
        shards: usize,
    ) -> Vec<Arc<Record>> {
        let mut batch: Vec<Arc<Record>> = Vec::new();
        for _ in 0..=random.index(most) {
            let mine: Vec<usize> = (0..self.known.len())
                .filter(|at| at % shards == shard)
                .filter(|at| {
                    let known = &self.known[*at];
                    !batch.iter().any(|record| record.key == known.key) && next_state(known, random).is_some()
                })
                .collect();
            let is_new = mine.is_empty() || random.one_in(3) && self.known.len() < 160;
            // The next place that belongs to this shard: another shard's orders may be behind it.
            if is_new && self.known.len() % shards == shard {
                let record = accepted(random, self.known.len());
                self.known.push(record.clone());
                batch.push(Arc::new(record));
            } else if let Some(at) = mine.get(random.index(mine.len())) {
                let known = &mut self.known[*at];
                let Some(state) = next_state(known, random) else { continue };
                *known = moved(known, state, random);
                batch.push(Arc::new(known.clone()));
            }
        }
        batch
    }
}

fn next_state(record: &Record, random: &mut Random) -> Option<State> {
    let legal: Vec<State> = State::ALL.into_iter().filter(|next| record.state.may_become(*next)).collect();
    legal.get(random.index(legal.len())).copied()
}

fn born(random: &mut Random, number: usize) -> Now {
    let number = i64::try_from(number).unwrap_or(0);
    let wall = UnixMs(NOW_MS - number % DAYS * Day::MS + number);
    Now { tick: Tick::from_ms(random.below(1 << 40)), wall }
}

fn accepted(random: &mut Random, number: usize) -> Record {
    let merchant = u32::try_from(random.below(MERCHANTS.into())).unwrap_or(0) + 1;
    let key = OrderKey {
        merchant: MerchantId(merchant),
        number: format!("order-{number:06}").parse().expect("a number"),
    };
    Record {
        amount: Fen::new(1 + random.below(100_000)).ok(),
        digest: random.next().to_le_bytes().repeat(2).try_into().expect("sixteen bytes"),
        attach: random.next(),
        changed_at: UnixMs(NOW_MS),
        ..Record::begun(key, ProviderId(7), born(random, number), BootId(random.next()))
    }
}

fn moved(record: &Record, state: State, random: &mut Random) -> Record {
    let mut next = Record { version: record.version + 1, state, ..record.clone() };
    next.changed_at = UnixMs(record.changed_at.0 + 1_000);
    next.left_tick = Some(Tick::from_ms(random.below(1 << 40)));
    match state {
        State::Accepted | State::Pending => {}
        State::Paid => {
            next.cause = Some(Cause::Row(Row::B4));
            next.decided_at = Some(next.changed_at);
            next.paid = Some(Box::new(Paid {
                amount: record.amount.unwrap_or_else(|| Fen::new(1).expect("an amount")),
                transaction_id: format!("42{:018}", random.below(1_000_000_000)).parse().expect("a number"),
                time_end_s: Some(1_795_393_803),
                attach: random.next(),
                merchant_matches: true,
                fields: Fields::new([("openid", "oUpF8uMuAJO"), ("bank_type", "CMB_DEBIT")]),
            }));
        }
        State::Failed => {
            next.cause = Some(Cause::Row(Row::A11));
            next.decided_at = Some(next.changed_at);
            next.refusal = Some(Box::new(Refusal {
                code: Text::new("NOTENOUGH").expect("a short text"),
                description: "余额不足".repeat(random.index(40)).into(),
            }));
        }
        State::Reversing => {
            next.cause = Some(Cause::Deadline);
            next.decided_at = Some(next.changed_at);
        }
        State::Reversed => next.proof = Some(Row::B8),
    }
    next
}
