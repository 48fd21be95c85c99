//! Slots with generations: an answer for an order that has left finds nobody.

use super::{Entry, OrderRef};

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
    held: u32,
    orders_max: u32,
}

impl Orders {
    pub(super) const fn new(orders_max: u32) -> Self {
        Self { slots: Vec::new(), free: Vec::new(), held: 0, orders_max }
    }

    /// Whether one more may be accepted.
    pub(super) const fn has_room(&self) -> bool {
        self.held < self.orders_max
    }

    #[expect(
        clippy::expect_used,
        reason = "an order without a place would be an order lost: the process ends, and recovery takes it up"
    )]
    pub(super) fn insert(&mut self, entry: Entry) -> OrderRef {
        self.held = self.held.saturating_add(1);
        let slot = self.free.pop().unwrap_or_else(|| {
            self.slots.push(Slot::default());
            u32::try_from(self.slots.len().saturating_sub(1)).expect("orders are far fewer than 2^32")
        });
        let place = self.slots.get_mut(slot as usize).expect("a free slot is one of the slots");
        place.generation = place.generation.wrapping_add(1);
        place.entry = Some(Box::new(entry));
        OrderRef { slot, generation: place.generation }
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
            && slot.entry.take().is_some()
        {
            self.free.push(order.slot);
            self.held = self.held.saturating_sub(1);
        }
    }

    /// In the order of slots.
    pub(super) fn iter(&self) -> impl Iterator<Item = &Entry> {
        self.slots.iter().filter_map(|slot| slot.entry.as_deref())
    }
}
