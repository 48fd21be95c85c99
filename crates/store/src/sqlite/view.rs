//! The store as it is: the database, and over it the recent records that it does not have yet.
//!
//! Recent records are looked at first and the database after them: what is folded in between is in both, and counts
//! once, by the number of its commit.

use protocol::TransactionId;
use rusqlite::Connection;
use state_machine::step::Step;
use state_machine::{MerchantId, OrderKey, Record};

use super::fold;
use super::read::{Reads, unreadable};
use super::recent::memory::{Entry, Recent};
use crate::contract::{Cursor, Event, EventQuery, Events, Filter, Listing, StoreError};
use crate::seal::Sealer;

/// What reads look at.
#[derive(Clone, Copy)]
pub(super) struct View<'a> {
    pub(super) conn: &'a Connection,
    pub(super) sealer: &'a Sealer,
    pub(super) recent: &'a Recent,
}

impl View<'_> {
    const fn reads(&self) -> Reads<'_> {
        Reads { conn: self.conn, sealer: self.sealer }
    }

    pub(super) fn find(&self, key: &OrderKey) -> Result<Option<Record>, StoreError> {
        match self.recent.latest(key) {
            Some(record) => Ok(Some(Record::clone(&record))),
            None => self.reads().find(key),
        }
    }

    pub(super) fn find_by_transaction(
        &self,
        merchant: MerchantId,
        id: &TransactionId,
    ) -> Result<Option<Record>, StoreError> {
        let recent = self.recent.by_transaction(merchant, id);
        // What is recent as well stands in the database as it did earlier.
        let passes = |key: &OrderKey| self.recent.latest(key).is_none();
        let stored = self.reads().find_by_transaction(merchant, id, &passes)?;
        let recent = recent.into_iter().map(|record| Record::clone(&record));
        Ok(recent.chain(stored).min_by_key(Cursor::of))
    }

    pub(super) fn list(&self, filter: &Filter) -> Result<Listing, StoreError> {
        let mut recent = self.recent.unfolded();
        // One moment of the database, for as many pages of it as are needed.
        let moment = self.conn.unchecked_transaction().map_err(|error| unreadable(&error))?;
        let folded = self.folded()?;
        recent.retain(|_, entry| entry.commit > folded);
        let follows = |at: Cursor, after: Cursor| if filter.newest_first { at < after } else { at > after };
        let mut fresh: Vec<Record> = recent
            .values()
            .map(|entry: &Entry| &entry.record)
            .filter(|record| filter.passes(record))
            .filter(|record| filter.after.is_none_or(|after| follows(Cursor::of(record), after)))
            .map(|record| Record::clone(record))
            .collect();
        fresh.sort_unstable_by_key(Cursor::of);
        // The next one is taken from the end.
        if !filter.newest_first {
            fresh.reverse();
        }
        let limit = usize::try_from(filter.limit()).unwrap_or(usize::MAX);
        let mut listing = Listing::default();
        let mut taken = 0_usize;
        let mut page = filter.clone();
        'pages: loop {
            let stored = self.reads().list_places(&page)?;
            for (place, found) in stored.rows {
                while fresh.last().zip(place).is_some_and(|(next, place)| follows(place, Cursor::of(next))) {
                    if !take_fresh(&mut listing, &mut fresh, &mut taken, limit) {
                        break 'pages;
                    }
                }
                let is_recent = match &found {
                    Ok(record) => recent.contains_key(&record.key),
                    Err(damaged) => damaged.key.is_some_and(|key| recent.contains_key(&key)),
                };
                if is_recent {
                    continue;
                }
                if taken == limit {
                    break 'pages;
                }
                taken = taken.saturating_add(1);
                match found {
                    Ok(record) => listing.records.push(record),
                    Err(damaged) => listing.damaged.push(damaged),
                }
                listing.next = if taken == limit { place } else { None };
            }
            page.after = stored.next;
            if page.after.is_none() || taken == limit {
                break;
            }
        }
        if page.after.is_none() {
            while take_fresh(&mut listing, &mut fresh, &mut taken, limit) {}
        }
        moment.finish().map_err(|error| unreadable(&error))?;
        Ok(listing)
    }

    pub(super) fn events(&self, query: &EventQuery) -> Result<Events, StoreError> {
        let mut told = self.recent.events(query.merchant);
        let moment = self.conn.unchecked_transaction().map_err(|error| unreadable(&error))?;
        let folded = self.folded()?;
        let mut found = self.reads().events(query, self.recent)?;
        moment.finish().map_err(|error| unreadable(&error))?;
        told.retain(|told| told.commit > folded);
        let limit = usize::try_from(query.limit()).unwrap_or(usize::MAX);
        for told in told {
            found.last = found.last.saturating_add(1);
            let asked =
                found.last > query.after && query.number.is_none_or(|number| number == told.key.number);
            if asked && found.events.len() < limit {
                let payment = Ok(Box::new(seen(told.step, &told.present)));
                found.events.push(Event { number: found.last, payment });
            }
        }
        Ok(found)
    }

    fn folded(&self) -> Result<u64, StoreError> {
        let folded = fold::folded(self.conn, self.sealer).map_err(|error| unreadable(&error))?;
        folded.map(|stamp| stamp.commit).ok_or_else(|| {
            StoreError::Contradicts("what it says of its recent records is damaged".to_owned())
        })
    }
}

fn seen(step: Step, present: &Record) -> Record {
    step.seen_in(present.clone())
}

/// Lists the next recent record; whether there was one, and room for it.
fn take_fresh(listing: &mut Listing, fresh: &mut Vec<Record>, taken: &mut usize, limit: usize) -> bool {
    if *taken == limit {
        return false;
    }
    let Some(record) = fresh.pop() else { return false };
    *taken = taken.saturating_add(1);
    listing.next = (*taken == limit).then(|| Cursor::of(&record));
    listing.records.push(record);
    true
}
