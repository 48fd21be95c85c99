//! Slots with generations: an answer for an order that has left finds nobody.
//!
//! The index by key holds slots, not keys: whose slot it is stands in the entry. With millions of orders a map of keys
//! would cost a hundred bytes each.

use std::hash::{BuildHasher, RandomState};

use hashbrown::HashTable;

use super::{Entry, OrderRef};
use crate::key::OrderKey;

#[derive(Debug, Default)]
#[cfg_attr(feature = "model", derive(Clone))]
struct Slot {
    generation: u32,
    entry: Option<Box<Entry>>,
}

/// The orders of a shard.
#[derive(Debug)]
#[cfg_attr(feature = "model", derive(Clone))]
pub(super) struct Orders {
    slots: Vec<Slot>,
    free: Vec<u32>,
    /// The slot of each order that is held.
    by_key: HashTable<u32>,
    hasher: RandomState,
    orders_max: u32,
}

/// Whose order is in `slot`.
fn key(slots: &[Slot], slot: u32) -> Option<&OrderKey> {
    slots.get(slot as usize)?.entry.as_deref().map(|entry| &entry.latest.key)
}

impl Orders {
    pub(super) fn new(orders_max: u32) -> Self {
        let (by_key, hasher) = (HashTable::new(), RandomState::new());
        Self { slots: Vec::new(), free: Vec::new(), by_key, hasher, orders_max }
    }

    /// How many are held.
    pub(super) fn len(&self) -> usize {
        self.by_key.len()
    }

    /// Whether one more may be accepted.
    pub(super) fn has_room(&self) -> bool {
        self.len() < self.orders_max as usize
    }

    /// The order of `key`.
    pub(super) fn find(&self, wanted: &OrderKey) -> Option<OrderRef> {
        let is_it = |slot: &u32| key(&self.slots, *slot) == Some(wanted);
        let slot = *self.by_key.find(self.hasher.hash_one(wanted), is_it)?;
        Some(OrderRef { slot, generation: self.slots.get(slot as usize)?.generation })
    }

    #[expect(
        clippy::expect_used,
        reason = "an order without a place would be an order lost: the process ends, and recovery takes it up"
    )]
    pub(super) fn insert(&mut self, entry: Entry) -> OrderRef {
        debug_assert!(self.find(&entry.latest.key).is_none(), "one order of a key");
        let hash = self.hasher.hash_one(entry.latest.key);
        let slot = self.free.pop().unwrap_or_else(|| {
            self.slots.push(Slot::default());
            u32::try_from(self.slots.len().saturating_sub(1)).expect("orders are far fewer than 2^32")
        });
        let place = self.slots.get_mut(slot as usize).expect("a free slot is one of the slots");
        place.generation = place.generation.wrapping_add(1);
        place.entry = Some(Box::new(entry));
        let order = OrderRef { slot, generation: place.generation };
        let (slots, hasher) = (&self.slots, &self.hasher);
        let hashed = |slot: &u32| key(slots, *slot).map_or(0, |key| hasher.hash_one(key));
        self.by_key.insert_unique(hash, slot, hashed);
        order
    }

    pub(super) fn get(&self, order: OrderRef) -> Option<&Entry> {
        let slot = self.slots.get(order.slot as usize)?;
        slot.entry.as_deref().filter(|_| slot.generation == order.generation)
    }

    pub(super) fn get_mut(&mut self, order: OrderRef) -> Option<&mut Entry> {
        let slot = self.slots.get_mut(order.slot as usize)?;
        slot.entry.as_deref_mut().filter(|_| slot.generation == order.generation)
    }

    pub(super) fn remove(&mut self, order: OrderRef) {
        if let Some(slot) = self.slots.get_mut(order.slot as usize)
            && slot.generation == order.generation
            && let Some(entry) = slot.entry.take()
        {
            let hash = self.hasher.hash_one(entry.latest.key);
            if let Ok(found) = self.by_key.find_entry(hash, |slot| *slot == order.slot) {
                found.remove();
            }
            self.free.push(order.slot);
        }
    }

    /// Every order, in the order of slots.
    pub(super) fn refs(&self) -> impl Iterator<Item = OrderRef> {
        let of = |(slot, place): (u32, &Slot)| {
            place.entry.is_some().then_some(OrderRef { slot, generation: place.generation })
        };
        (0..).zip(&self.slots).filter_map(of)
    }

    /// In the order of slots.
    pub(super) fn iter(&self) -> impl Iterator<Item = &Entry> {
        self.slots.iter().filter_map(|slot| slot.entry.as_deref())
    }
}
