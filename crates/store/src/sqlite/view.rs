//! The store as it is: the database, and over it the recent records that it does not have yet.
//!
//! Recent records are looked at first and the database after them: what is folded in between is in both, and counts
//! once, by the number of its commit.

use std::collections::BTreeMap;
use std::sync::Arc;

use protocol::TransactionId;
use rusqlite::Connection;
use state_machine::step::Step;
use state_machine::{MerchantId, OrderKey, Record};

use super::archive::{Archive, Shelf};
use super::fold;
use super::read::{Placed, Places, Reads, known, unreadable};
use super::recent::memory::{Entry, Recent};
use crate::contract::{Cursor, Damaged, Day, Event, EventQuery, Events, Filter, Listing, StoreError};
use crate::seal::Sealer;

/// What reads look at.
#[derive(Clone, Copy)]
pub(super) struct View<'a> {
    pub(super) conn: &'a Connection,
    pub(super) sealer: &'a Sealer,
    pub(super) recent: &'a Recent,
    pub(super) shelf: &'a Shelf,
}

impl View<'_> {
    const fn reads(&self) -> Reads<'_> {
        Reads { conn: self.conn, sealer: self.sealer }
    }

    pub(super) fn find(&self, key: &OrderKey) -> Result<Option<Record>, StoreError> {
        match self.recent.latest(key) {
            Some(record) => Ok(Some(Record::clone(&record))),
            None => {
                let stored = self.reads().row_or_archived(key, self.shelf);
                known(stored.map_err(|error| unreadable(&error))?)
            }
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
        let look = || {
            let stored = self.reads().by_transaction(merchant, id, &passes)?;
            // What came back into the database stands in its archive as it did earlier.
            let passes = |key: &OrderKey| passes(key) && self.reads().row(key).is_ok_and(|row| row.is_none());
            let mut found = self.shelf.by_transaction(merchant, id, self.sealer, &passes)?;
            found.extend(stored);
            Ok(found)
        };
        let stored = look().map_err(|error: rusqlite::Error| unreadable(&error))?;
        let mut all: Vec<Record> = recent.into_iter().map(|record| Record::clone(&record)).collect();
        for found in stored {
            all.push(found.map_err(|damaged| StoreError::Damaged(Box::new(damaged)))?);
        }
        Ok(all.into_iter().min_by_key(Cursor::of))
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
            let stored = self.list_stored(&page)?;
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
        let mut found = self.stored_events(query).map_err(|error| unreadable(&error))?;
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

    /// The events that are in the database and in archives; what is missing is an event too, and says so.
    fn stored_events(&self, query: &EventQuery) -> rusqlite::Result<Events> {
        let mut found = Events { events: Vec::new(), last: self.reads().last_event(query.merchant)? };
        if query.after >= found.last {
            return Ok(found);
        }
        let limit = usize::try_from(query.limit()).unwrap_or(usize::MAX);
        let newest = |present: Record| {
            let latest = self.recent.latest(&present.key).map(|latest| Record::clone(&latest));
            Ok(latest.unwrap_or(present))
        };
        let of = |events: Vec<Event>| events.into_iter().map(|event| (event.number, event));
        let mut events: BTreeMap<u64, Event> = of(self.reads().events(query, &newest)?).collect();
        let is_whole = |events: &BTreeMap<u64, Event>| {
            let follows =
                events.keys().zip(query.after.saturating_add(1)..).all(|(number, wanted)| *number == wanted);
            follows && (events.len() >= limit || events.keys().next_back() == Some(&found.last))
        };
        if query.number.is_some() || !is_whole(&events) {
            // A payment may have come back into the database since.
            let newest = |present: Record| match self.recent.latest(&present.key) {
                Some(latest) => Ok(Record::clone(&latest)),
                None => Ok(self.reads().row(&present.key)?.and_then(Result::ok).unwrap_or(present)),
            };
            for archive in self.shelf.list().iter() {
                let archived = self.shelf.look(archive, self.sealer, |reads| reads.events(query, &newest))?;
                for (number, event) in of(archived.unwrap_or_default()) {
                    events.entry(number).or_insert(event);
                }
            }
        }
        let mut expected = query.after.saturating_add(1);
        for (number, event) in events {
            if query.number.is_none() && expected < number && found.events.len() < limit {
                // One word for all of them: a flipped bit may make it billions.
                let last = number.saturating_sub(1);
                let why = format!("events {expected} to {last} are missing");
                found.events.push(Event { number: last, payment: Err(Damaged { key: None, why }) });
            }
            if found.events.len() == limit {
                break;
            }
            found.events.push(event);
            expected = number.saturating_add(1);
        }
        Ok(found)
    }

    /// A page of what the database and the archives list together.
    fn list_stored(&self, filter: &Filter) -> Result<Places, StoreError> {
        let mut page = self.reads().list_places(filter)?;
        // Neither is ever archived.
        if filter.held_only || filter.open_only {
            return Ok(page);
        }
        let limit = usize::try_from(filter.limit()).unwrap_or(usize::MAX);
        let mut rows: Vec<Placed> = Vec::new();
        let list = self.shelf.list();
        let mut archives: Vec<&Arc<Archive>> =
            list.iter().filter(|archive| is_asked(archive.day, filter)).collect();
        if !filter.newest_first {
            archives.reverse();
        }
        for archive in archives {
            let mut next = filter.clone();
            while rows.len() < limit {
                let look = |reads: Reads<'_>| Ok(reads.list_places(&next));
                let found =
                    self.shelf.look(archive, self.sealer, look).map_err(|error| unreadable(&error))?;
                let found = found.transpose()?.unwrap_or_default();
                for (place, row) in found.rows {
                    // What is in the database counts, whatever it is now.
                    let stored = place.map(|place| self.reads().row(&place.key)).transpose();
                    if stored.map_err(|error| unreadable(&error))?.flatten().is_none() {
                        rows.push((place, row));
                    }
                }
                next.after = found.next;
                if next.after.is_none() {
                    break;
                }
            }
        }
        if rows.is_empty() {
            return Ok(page);
        }
        page.rows.append(&mut rows);
        page.rows.sort_by_key(|(place, _)| *place);
        if filter.newest_first {
            page.rows.reverse();
        }
        let is_full = page.rows.len() >= limit;
        page.rows.truncate(limit);
        page.next = if is_full { page.rows.last().and_then(|(place, _)| *place) } else { None };
        Ok(page)
    }

    fn folded(&self) -> Result<u64, StoreError> {
        let folded = fold::folded(self.conn, self.sealer).map_err(|error| unreadable(&error))?;
        folded.map(|stamp| stamp.commit).ok_or_else(|| {
            StoreError::Contradicts("what it says of its recent records is damaged".to_owned())
        })
    }
}

/// Whether the listing may have payments of `day`.
fn is_asked(day: Day, filter: &Filter) -> bool {
    let Filter { from, until, after, newest_first, .. } = filter;
    let place = after.map(|after| after.accepted_at);
    let (lowest, highest) = if *newest_first { (None, place) } else { (place, None) };
    from.is_none_or(|from| from < day.end())
        && until.is_none_or(|until| until > day.start())
        && lowest.is_none_or(|lowest| lowest < day.end())
        && highest.is_none_or(|highest| highest >= day.start())
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
