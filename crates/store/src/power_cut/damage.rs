//! Files cut short at every byte and flipped bit by bit: the store recovers, sets aside, or refuses, and says so.
//!
//! Judged by what was committed: nothing may be shown that is not so, and nothing may be missing unless the opening
//! refused, a row was set aside, or (for a commit at the very end of a log without a mark) the opening said that it
//! left out the end. What only the full check ([`crate::SqliteReader::verify`]) notices is counted apart: closed
//! orders that a damaged index hides from a lookup, or an old page shows as they were. Source: faults-and-invariants DB-10, DB-11, DB-17, DB-18.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use state_machine::{MerchantId, OrderKey, Record};

use super::disk::{Disk, Image};
use super::life::seal_key;
use super::orders::Orders;
use super::random::Random;
use super::vfs::Mount;
use super::{Machine, Spoiled};
use crate::contract::{Event, EventQuery, Filter, Recovered, Store, StoreError};
use crate::memory::CrashStore;
use crate::sqlite::layer::Layer;
use crate::sqlite::{OpenError, Options, SqliteStore};

/// What is done to the files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Blow {
    /// The file ends after so many bytes.
    CutAt(usize),
    /// The bit is flipped.
    Flip(usize),
    /// So many bits from there on are flipped at random.
    Scramble(usize, usize),
    /// The page (of 4,096 bytes) is as it was at the checkpoint before.
    OldPage(usize),
    /// The file is as it was at the checkpoint before.
    OldFile,
    /// The file is gone.
    Gone,
}

/// Which file is hit, by the end of its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Target {
    /// The database.
    Database,
    /// The write-ahead log.
    Log,
    /// The file of recent records that takes commits.
    Recent,
    /// The mark.
    Mark,
}

impl Target {
    const fn name(self) -> &'static str {
        match self {
            Self::Database => "store.db",
            Self::Log => "store.db-wal",
            Self::Recent => "store.db-recent-0",
            Self::Mark => "store.db-mark",
        }
    }
}

/// Where the sample's commits are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Files {
    /// All in a file of recent records.
    Log,
    /// The last third there, the third before in the log, the first in the database.
    Both,
    /// All in the database: the store was closed.
    Database,
}

/// What became of all blows.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Damages {
    /// Blows.
    pub cases: u64,
    /// Nothing acknowledged was hurt, or all of it was recovered.
    pub intact: u64,
    /// The opening left out the last commit, and said so.
    pub tail: u64,
    /// Rows were set aside, each said; all else was there.
    pub set_aside: u64,
    /// Refused, by kind of refusal.
    pub refused: BTreeMap<String, u64>,
    /// Only the full check saw it: a lookup by number missed a row, or found it as it was earlier.
    pub full_check: u64,
    /// Must be empty.
    pub violations: Vec<String>,
}

impl fmt::Display for Damages {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let refused: u64 = self.refused.values().sum();
        write!(
            f,
            "{} blows: {} intact, {} without the last commit, {} with rows set aside, {refused} refused {:?}, {} \
             seen by the full check, {} violations",
            self.cases,
            self.intact,
            self.tail,
            self.set_aside,
            self.refused,
            self.full_check,
            self.violations.len()
        )?;
        self.violations.iter().take(20).try_for_each(|what| write!(f, "\nVIOLATION {what}"))
    }
}

type State = BTreeMap<OrderKey, Record>;

/// A store with some commits in the database and some in the log.
#[derive(Debug)]
pub struct Sample {
    image: Image,
    /// The files at the checkpoint before.
    earlier: Image,
    /// After the last commit, and after the one before it.
    states: [State; 2],
    /// What merchants may be told, at the same two moments.
    events: [Vec<Event>; 2],
}

enum Verdict {
    Intact,
    Tail,
    SetAside,
    Refused(String),
    FullCheck,
    Wrong(String),
}

impl Sample {
    /// Makes a store of `commits` commits.
    ///
    /// # Panics
    ///
    /// If the store fails on a sound disk.
    #[must_use]
    pub fn new(seed: u64, commits: u64, files: Files) -> Self {
        let mut random = Random::new(seed);
        let disk = Disk::new(Image::new(), Random::new(seed));
        let machine = machine(&disk);
        let mut store = open(&machine).expect("a new store");
        let mut model = CrashStore::synced();
        let mut orders = Orders::default();
        let mut earlier = Image::new();
        let mut states = [State::new(), State::new()];
        let mut events = [Vec::new(), Vec::new()];
        for number in 0..commits {
            let batch = orders.batch(&mut random, 6, 0, 1);
            let expected = model.commit(&batch);
            assert_eq!(store.commit(&batch), expected, "a sound disk");
            if files != Files::Log && (number * 3 == commits || number * 3 == commits * 2) {
                store.fold().expect("a sound disk");
                if earlier.is_empty() || files == Files::Database {
                    store.checkpoint().expect("a sound disk");
                }
                if earlier.is_empty() {
                    earlier = disk.image();
                }
            }
            let now = state(model.durable().map(|record| Record::clone(record)));
            states = [now, std::mem::take(&mut states[0])];
            events = [told(&mut model).expect("a model"), std::mem::take(&mut events[0])];
        }
        if files == Files::Database {
            drop(store);
            return Self { image: disk.image(), earlier, states, events };
        }
        let image = disk.image();
        drop(store);
        Self { image, earlier, states, events }
    }

    /// How long the file is.
    #[must_use]
    pub fn length(&self, target: Target) -> usize {
        self.image.get(target.name()).map_or(0, Vec::len)
    }

    /// The same store without the mark beside it.
    #[must_use]
    pub fn without_mark(mut self) -> Self {
        self.image.remove(Target::Mark.name());
        self
    }

    /// Strikes each blow at a copy of the store and judges what the store makes of it.
    #[must_use]
    pub fn strike(&self, blows: impl Iterator<Item = (Target, Blow)>, seed: u64) -> Damages {
        let mut damages = Damages::default();
        let mut random = Random::new(seed);
        for (target, blow) in blows {
            let image = self.hit(target, blow, &mut random);
            damages.cases += 1;
            match self.judge(image) {
                Verdict::Intact => damages.intact += 1,
                Verdict::Tail => damages.tail += 1,
                Verdict::SetAside => damages.set_aside += 1,
                Verdict::Refused(kind) => *damages.refused.entry(kind).or_default() += 1,
                Verdict::FullCheck => damages.full_check += 1,
                Verdict::Wrong(what) => damages.violations.push(format!("{target:?} {blow:?}: {what}")),
            }
        }
        damages
    }

    fn hit(&self, target: Target, blow: Blow, random: &mut Random) -> Image {
        let mut image = self.image.clone();
        let old = self.earlier.get(target.name()).cloned().unwrap_or_default();
        let Some(file) = image.get_mut(target.name()) else { return image };
        match blow {
            Blow::CutAt(length) => file.truncate(length),
            Blow::Flip(bit) => file[bit / 8] ^= 1 << (bit % 8),
            Blow::Scramble(from, count) => {
                for _ in 0..count {
                    let bit = from + random.index(count * 8);
                    if let Some(byte) = file.get_mut(bit / 8) {
                        *byte ^= 1 << (bit % 8);
                    }
                }
            }
            Blow::OldPage(page) => {
                let range = page * 4_096..(page + 1) * 4_096;
                if let (Some(new), Some(old)) = (file.get_mut(range.clone()), old.get(range)) {
                    new.copy_from_slice(old);
                }
            }
            Blow::OldFile => *file = old,
            Blow::Gone => drop(image.remove(target.name())),
        }
        image
    }

    fn judge(&self, image: Image) -> Verdict {
        let disk = Disk::new(image, Random::new(0));
        let machine = machine(&disk);
        let mut store = match open(&machine) {
            Ok(store) => store,
            Err(error) => return Verdict::Refused(kind(&error)),
        };
        let (mut open, mut damaged) = (Vec::new(), 0_usize);
        let recovery = store.open_orders(&mut |found| match found {
            Recovered::Open(record) => open.push(*record),
            Recovered::Damaged(_) => damaged += 1,
        });
        match recovery {
            Ok(_) => {}
            Err(StoreError::Contradicts(_)) => return Verdict::Refused("Contradicts at recovery".to_owned()),
            Err(error) => return Verdict::Refused(format!("recovery: {error}").chars().take(60).collect()),
        }
        let [newest, before] = &self.states;
        let tail = before != newest && store.opening().dropped_frames > 0 && {
            let all = store.list(&Filter::default());
            all.is_ok_and(|all| all.damaged.is_empty() && state(all.records) == *before)
        };
        let expected = if tail { before } else { newest };
        let events = &self.events[usize::from(tail)];

        // Recovery: what is taken up again, and would be acted on.
        if let Some(wrong) = open.iter().find(|record| expected.get(&record.key) != Some(record)) {
            return Verdict::Wrong(format!("recovery shows {wrong:?}"));
        }
        let all_open = expected.values().filter(|record| record.is_open()).count();
        if open.len() + damaged < all_open {
            return Verdict::Wrong(format!("{} of {all_open} open orders, {damaged} set aside", open.len()));
        }
        // Lookups and listings: what is missing or old must be said by somebody.
        let mut missing = 0;
        for (key, record) in expected {
            match store.find(key) {
                Ok(Some(found)) if found == *record => {}
                Ok(Some(_) | None) => missing += 1,
                Err(_) => damaged += 1,
            }
        }
        match store.list(&Filter::default()) {
            Ok(listing) => {
                missing +=
                    listing.records.iter().filter(|record| expected.get(&record.key) != Some(record)).count();
                missing += expected.len().saturating_sub(listing.records.len() + listing.damaged.len());
                damaged += listing.damaged.len();
            }
            Err(_) => damaged += 1,
        }
        // Events: none is told that is not so; what is missing at the end, only the full check can see.
        match told(&mut store) {
            Ok(told) => {
                let sound: Vec<_> = told.iter().filter(|event| event.payment.is_ok()).collect();
                damaged += told.len() - sound.len();
                if let Some(wrong) = sound.iter().find(|event| !events.contains(event)) {
                    let old = wrong.payment.as_ref().ok().and_then(|record| expected.get(&record.key));
                    // A payment that stands as it was earlier shows its early events without what came later.
                    if old.is_some_and(|new| store.find(&new.key).ok().flatten().as_ref() == Some(new)) {
                        return Verdict::Wrong(format!("merchants are told {wrong:?}"));
                    }
                    missing += 1;
                }
                missing += events.len().saturating_sub(told.len());
            }
            Err(_) => damaged += 1,
        }
        let mut hurt = 0;
        let verified = store
            .reader()
            .map_err(|error| error.to_string())
            .and_then(|mut reader| reader.verify(&mut |_| hurt += 1).map_err(|error| error.to_string()));
        let noticed = verified.is_err() || hurt > 0;
        match (missing, damaged) {
            (0, 0) if tail => Verdict::Tail,
            (0, 0) => Verdict::Intact,
            (0, _) => Verdict::SetAside,
            _ if noticed => Verdict::FullCheck,
            _ => Verdict::Wrong(format!(
                "{missing} lookups find nothing or something old, and the full check is content"
            )),
        }
    }
}

/// Everything that any merchant may be told.
fn told(store: &mut dyn Store) -> Result<Vec<Event>, StoreError> {
    let mut all = Vec::new();
    for merchant in 0..=super::orders::MERCHANTS {
        let query = EventQuery { merchant: MerchantId(merchant), number: None, after: 0, limit: 0 };
        all.extend(store.events(&query)?.events);
    }
    Ok(all)
}

fn state(records: impl IntoIterator<Item = Record>) -> State {
    records.into_iter().map(|record| (record.key, record)).collect()
}

fn kind(error: &OpenError) -> String {
    let name = format!("{error:?}");
    name.split([' ', '{']).next().unwrap_or_default().to_owned()
}

fn machine(disk: &Arc<Disk>) -> Machine {
    Machine { mount: Arc::new(Mount::new(Arc::clone(disk))), spoiled: Spoiled::Nothing }
}

fn open(machine: &Machine) -> Result<SqliteStore, OpenError> {
    let path = PathBuf::from(machine.mount.path() + "store.db");
    let options =
        Options { checkpoint_pages: u32::MAX, fold_records: u32::MAX, cache_kib: 256, ..Options::default() };
    SqliteStore::open_on(Layer::Disk(machine.clone()), Path::new(&path), &seal_key(), options)
}
