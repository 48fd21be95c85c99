//! What archives have in the database's place, for the checks that look at everything.
//!
//! Every archive is read from one end to the other: each row and each event must be sound, and all together must be
//! what the database says was put there.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::ops::Range;

use super::archive::{Named, Shelf, entry};
use super::events;
use super::read::{Reads, Seen, unreadable};
use super::row::LEN;
use super::tally::{self, Share};
use crate::contract::{Damaged, StoreError};
use crate::seal::Sealer;

/// See the head of this file.
pub(super) struct Away<'a> {
    shelf: &'a Shelf,
    sealer: &'a Sealer,
    named: Named,
    /// One bit for each row number.
    rows: Vec<u64>,
    hurt: u64,
    /// What is wrong with a row or a file.
    wrong: RefCell<Vec<Damaged>>,
}

impl<'a> Away<'a> {
    /// Reads all archives that the database of `reads` names.
    pub(super) fn look(reads: &Reads<'a>, shelf: &'a Shelf) -> Result<Self, StoreError> {
        let named = Named::read(reads.conn, reads.sealer).map_err(|error| unreadable(&error))?;
        let named = named
            .ok_or_else(|| StoreError::Contradicts("what it says of an archive is damaged".to_owned()))?;
        let mut away =
            Self { shelf, sealer: reads.sealer, named, rows: Vec::new(), hurt: 0, wrong: RefCell::default() };
        for archive in shelf.list().iter() {
            let looked = shelf.look(archive, reads.sealer, |reads| away.add(&reads));
            let file = looked.map_err(|error| unreadable(&error))?.unwrap_or_default();
            let entry = away.named.entries.iter().find(|entry| entry.day == archive.day);
            if entry.is_some_and(|entry| {
                (entry.payments, entry.events, entry.sum) != (file.payments, file.events, file.sum)
            }) {
                let why = format!("the archive of {} is not what was put there", archive.day);
                away.wrong.borrow_mut().push(Damaged { key: None, why });
            }
        }
        Ok(away)
    }

    fn add(&mut self, reads: &Reads<'_>) -> rusqlite::Result<File> {
        let mut file = File::default();
        let mut statement = reads.conn.prepare(&super::read::ALL)?;
        let mut rows = statement.query([])?;
        while let Some(row) = rows.next()? {
            let seq: i64 = row.get(LEN.saturating_add(1))?;
            file.payments = file.payments.saturating_add(1);
            file.add(row.get_ref(LEN)?.as_blob().unwrap_or_default());
            self.set(seq);
            if let Err((damaged, _)) = reads.take(row)? {
                self.hurt = self.hurt.saturating_add(1);
                self.wrong.borrow_mut().push(damaged);
            }
        }
        reads.each_event(&mut |share, is_sound| {
            file.events = file.events.saturating_add(1);
            file.sum = file.sum.wrapping_add(share);
            if !is_sound {
                let why = "an archived event does not match its checksum".to_owned();
                self.wrong.borrow_mut().push(Damaged { key: None, why });
            }
        })?;
        Ok(file)
    }

    fn set(&mut self, seq: i64) {
        let Some((word, bit)) = place(seq) else { return };
        if self.rows.len() <= word {
            self.rows.resize(word.saturating_add(1), 0);
        }
        if let Some(found) = self.rows.get_mut(word) {
            *found |= bit;
        }
    }

    /// Whether an archive has the row of this number.
    pub(super) fn has(&self, seq: i64) -> bool {
        place(seq).is_some_and(|(word, bit)| self.rows.get(word).is_some_and(|found| found & bit != 0))
    }

    /// Whether archives have all these events of a merchant; of those that were given up nobody can say.
    pub(super) fn has_events(&self, merchant: i64, numbers: Range<u64>) -> rusqlite::Result<bool> {
        let mut found = BTreeSet::new();
        for archive in self.shelf.list().iter() {
            let look = |reads: Reads<'_>| events::numbers_between(reads.conn, merchant, &numbers);
            found.extend(self.shelf.look(archive, self.sealer, look)?.into_iter().flatten());
        }
        let wanted = numbers.end.saturating_sub(numbers.start);
        Ok(self.given_up() > 0 || u64::try_from(found.len()) == Ok(wanted))
    }

    /// Payments whose archive was given up.
    pub(super) fn given_up(&self) -> u64 {
        self.named.given_up()
    }

    /// Rows in archives that cannot be trusted.
    pub(super) const fn hurt(&self) -> u64 {
        self.hurt
    }

    /// What the entries add to the sums of the store.
    pub(super) fn sum(&self) -> Share {
        entry::sum(&self.named.entries, self.sealer)
    }

    /// Tells what is wrong with archives, and whether as many rows are away as the database says.
    pub(super) fn compare(&self, seen: &mut Seen, visit: &mut dyn FnMut(Damaged)) {
        for damaged in self.wrong.take() {
            seen.hurt = seen.hurt.saturating_add(1);
            visit(damaged);
        }
        let away = self.named.away().saturating_sub(self.given_up());
        if seen.away != away {
            seen.missing = seen.missing.saturating_add(1);
            let why = format!(
                "archives have {} payments in place of the database, and should have {away}",
                seen.away
            );
            visit(Damaged { key: None, why });
        }
    }
}

/// What a file holds.
#[derive(Default)]
struct File {
    payments: u64,
    events: u64,
    sum: Share,
}

impl File {
    fn add(&mut self, checksum: &[u8]) {
        self.sum = self.sum.wrapping_add(tally::share(checksum).unwrap_or_default());
    }
}

fn place(seq: i64) -> Option<(usize, u64)> {
    let seq = u64::try_from(seq).ok()?;
    Some((usize::try_from(seq / 64).ok()?, 1_u64.rotate_left(u32::try_from(seq % 64).ok()?)))
}
