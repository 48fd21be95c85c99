//! One store through many power cuts, and the judge of what is left.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use protocol::{AppId, MchId};
use secrecy::SecretString;
use state_machine::{Channel, MerchantId, Record, UnixMs};

use super::disk::{Disk, Faults, Image};
use super::orders::{Orders, TODAY};
use super::random::Random;
use super::vfs::Mount;
use super::{CUTS_PER_LIFE, Machine, Place, Report, Spoiled, Violation, grouped};
use crate::contract::{CommitError, Filter, Recovered, Store};
use crate::memory::CrashStore;
use crate::merchant::{Mode, NewMerchant, Northbound, SignKinds, Status};
use crate::seal::SealKey;
use crate::sqlite::layer::Layer;
use crate::sqlite::{MerchantBook, Options, SqliteStore};

/// Why a boot did not go on to its end.
pub(super) enum Stop {
    /// The power went.
    Off,
    /// The judge has seen enough.
    Wrong(String),
}

/// A merchant as the judge knows it.
type Merchant = (MerchantId, bool);

pub(super) struct Life {
    seed: u64,
    spoiled: Spoiled,
    pub(super) random: Random,
    image: Image,
    /// Has what was acknowledged; what was offered without an answer is staged, in order.
    pub(super) model: CrashStore,
    pub(super) orders: Orders,
    merchants: Vec<Merchant>,
    /// What the merchants are if the change without an answer is durable.
    merchants_doubtful: Option<Vec<Merchant>>,
    fence: u64,
    /// A store was opened: from now on there is something to lose.
    exists: bool,
    threads: bool,
    pub(super) place: Place,
    pub(super) report: Report,
}

impl Life {
    pub(super) fn new(seed: u64, spoiled: Spoiled) -> Self {
        let mut random = Random::new(seed);
        Self {
            seed,
            spoiled,
            threads: random.one_in(4),
            random,
            image: Image::new(),
            model: CrashStore::new(),
            orders: Orders::default(),
            merchants: Vec::new(),
            merchants_doubtful: None,
            fence: 0,
            exists: false,
            place: Place::Creation,
            report: Report::default(),
        }
    }

    /// Goes through all power cuts, or to the first violation.
    pub(super) fn live(mut self) -> Report {
        for boot in 0..=CUTS_PER_LIFE {
            let last = boot == CUTS_PER_LIFE;
            if let Err(what) = self.boot(last) {
                self.report.violations.push(Violation { seed: self.seed, cuts: boot, what });
                break;
            }
        }
        self.report
    }

    /// From the power coming on to the power going; the last one is only judged.
    fn boot(&mut self, last: bool) -> Result<(), String> {
        let random = Random::new(self.random.next());
        let disk = Disk::new(std::mem::take(&mut self.image), random);
        disk.set_faults(Faults { lies: self.spoiled == Spoiled::LyingDisk, ..Faults::default() });
        if !last {
            // An opening is some ten steps, a commit six, a checkpoint a few dozen.
            let within = [6, 14, 40, 200, 600][self.random.index(5)];
            disk.cut_in(1 + self.random.below(within));
        }
        let machine = Machine { mount: Arc::new(Mount::new(Arc::clone(&disk))), spoiled: self.spoiled };
        self.place = if self.exists { Place::Opening } else { Place::Creation };
        let done = self.work(&machine, last);
        match done {
            Ok(()) => {}
            Err(Stop::Off) if disk.is_off() => {}
            Err(Stop::Off) => return Err("a call failed with the power on".to_owned()),
            Err(Stop::Wrong(what)) => return Err(what),
        }
        if last {
            return Ok(());
        }
        if !disk.is_off() {
            self.place = Place::Idle;
        }
        let (image, sectors) = disk.cut();
        self.image = image;
        self.report.cuts += 1;
        let place = Place::ALL.iter().position(|place| *place == self.place).unwrap_or(0);
        self.report.places[place] += 1;
        self.report.sectors.kept += sectors.kept;
        self.report.sectors.lost += sectors.lost;
        self.report.sectors.torn += sectors.torn;
        self.report.sectors.junk += sectors.junk;
        Ok(())
    }

    fn work(&mut self, machine: &Machine, last: bool) -> Result<(), Stop> {
        let mut store = self.open(machine)?;
        self.judge(machine, &mut store)?;
        if last {
            return Ok(());
        }
        for _ in 0..self.random.index(40) {
            self.place = Place::Idle;
            match self.random.below(20) {
                10 | 11 => {
                    self.place = Place::Fold;
                    self.check(machine, store.fold())?;
                }
                0 | 1 => {
                    self.place = Place::Checkpoint;
                    self.check(machine, store.checkpoint())?;
                }
                2 => {
                    self.place = Place::Closing;
                    drop(store);
                    self.place = Place::Opening;
                    store = self.open(machine)?;
                    self.judge(machine, &mut store)?;
                }
                3 | 4 => self.change_merchants(machine, &store)?,
                12 | 13 => self.archive(machine, &store)?,
                5..=9 if self.threads => {
                    self.place = Place::Threads;
                    grouped::run(self, machine, store)?;
                    self.place = Place::Opening;
                    store = self.open(machine)?;
                    self.judge(machine, &mut store)?;
                }
                _ => self.commit(machine, &mut store)?,
            }
        }
        self.place = Place::Closing;
        if self.random.one_in(2) {
            drop(store);
        }
        Ok(())
    }

    fn open(&mut self, machine: &Machine) -> Result<SqliteStore, Stop> {
        let path = PathBuf::from(machine.mount.path() + "store.db");
        let options = Options {
            checkpoint_pages: if self.threads { 24 } else { u32::MAX },
            fold_records: if self.threads { 8 } else { u32::MAX },
            fold_after: Duration::from_millis(5),
            cache_kib: 256,
            busy_timeout: Duration::from_secs(5),
            ..Options::default()
        };
        let layer = Layer::Disk(machine.clone());
        let opened = SqliteStore::open_on(layer, &path, &seal_key(), options);
        let store = self.check(machine, opened)?;
        if store.fence().0 <= self.fence {
            return Err(Stop::Wrong(format!("fence {} after {}", store.fence(), self.fence)));
        }
        self.fence = store.fence().0;
        self.report.frames_dropped += store.opening().dropped_frames;
        self.exists = true;
        Ok(store)
    }

    /// An error is the power's, or the store's.
    pub(super) fn check<T, E: std::fmt::Display>(
        &self,
        machine: &Machine,
        done: Result<T, E>,
    ) -> Result<T, Stop> {
        done.map_err(|error| {
            if machine.mount.disk.is_off() {
                Stop::Off
            } else {
                Stop::Wrong(format!("{:?}: {error}", self.place))
            }
        })
    }

    fn commit(&mut self, machine: &Machine, store: &mut SqliteStore) -> Result<(), Stop> {
        self.place = Place::Commit;
        let most = [1, 4, 30][self.random.index(3)];
        let batch = self.orders.batch(&mut self.random, most, 0, 1);
        let expected = self.model.commit(&batch);
        match store.commit(&batch) {
            Ok(outcomes) => {
                if Ok(&outcomes) != expected.as_ref() {
                    return Err(Stop::Wrong(format!("outcomes {outcomes:?} instead of {expected:?}")));
                }
                self.acknowledge(batch.len());
                Ok(())
            }
            Err(error) => self.check(machine, Err(error)),
        }
    }

    /// Everything staged is durable by the store's word.
    pub(super) fn acknowledge(&mut self, records: usize) {
        self.model.sync();
        self.report.acknowledged += 1;
        self.report.records += u64::try_from(records).unwrap_or(0);
    }

    fn change_merchants(&mut self, machine: &Machine, store: &SqliteStore) -> Result<(), Stop> {
        self.place = Place::Merchants;
        let mut book: MerchantBook = self.check(machine, store.merchant_book())?;
        let mut after = self.merchants.clone();
        let disabled = self.random.index(after.len() + 1);
        let done = if let Some((id, active)) = after.get_mut(disabled).filter(|_| self.random.one_in(2)) {
            *active = !*active;
            let status = if *active { Status::Active } else { Status::Disabled };
            book.set_status(*id, status).map_err(|error| error.to_string())
        } else {
            let provider = book.provider(Channel::WechatV2, &mch_id(1));
            let provider = self.check(machine, provider)?;
            let count = u32::try_from(after.len()).unwrap_or(u32::MAX);
            let more: Vec<NewMerchant> = (1..=1 + u32::try_from(self.random.below(3)).unwrap_or(0))
                .map(|number| NewMerchant {
                    northbound: Northbound {
                        mch_id: mch_id(1_000 + count + number),
                        sub_mch_id: None,
                        appid: "wx1234567890abcdef".parse::<AppId>().expect("an appid"),
                    },
                    provider,
                    upstream_sub_mch_id: mch_id(5_000 + count + number),
                    sub_appid: None,
                    signing_key: SecretString::from("k".repeat(32)),
                    api_key_digest: None,
                    mode: Mode::Relay,
                    settings: crate::settings::Settings::default(),
                    sign_kinds: SignKinds::Both,
                })
                .collect();
            after.extend((count + 1..).zip(&more).map(|(id, _)| (MerchantId(id), true)));
            book.import(&more, UnixMs(1)).map(drop).map_err(|error| error.to_string())
        };
        if done.is_err() {
            self.merchants_doubtful = Some(after);
            return self.check(machine, done);
        }
        self.merchants = after;
        self.report.acknowledged += 1;
        Ok(())
    }

    /// Compares the store with what was acknowledged, and settles what was not.
    fn judge(&mut self, machine: &Machine, store: &mut SqliteStore) -> Result<(), Stop> {
        let listed = store.list(&Filter::default());
        let found = self.check(machine, listed)?;
        if !found.damaged.is_empty() || found.next.is_some() {
            return wrong(machine, format!("damaged rows: {:?}", found.damaged));
        }
        let staged = self.model.staged();
        let settled = (0..=staged).find_map(|kept| {
            let mut model = self.model.clone();
            model.crash(kept);
            let same = model.list(&Filter::default()).is_ok_and(|listing| listing.records == found.records);
            same.then_some((kept, model))
        });
        let Some((kept, model)) = settled else {
            return wrong(machine, self.difference(&found.records));
        };
        self.report.doubtful_kept += u64::from(kept > 0);
        self.report.doubtful_lost += u64::from(kept < staged);
        self.model = model;
        self.orders.set(found.records.iter().cloned());

        let mut open: Vec<Record> = Vec::new();
        let mut damaged = Vec::new();
        let counted = store.open_orders(&mut |found| match found {
            Recovered::Open(record) => open.push(*record),
            Recovered::Damaged(row) => damaged.push(row.to_string()),
        });
        self.check(machine, counted)?;
        open.sort_by_key(|record| record.key);
        let expected: Vec<Record> =
            self.model.durable().map(|record| Record::clone(record)).filter(Record::is_open).collect();
        if open != expected || !damaged.is_empty() {
            return wrong(
                machine,
                format!("{} open orders instead of {}, damaged: {damaged:?}", open.len(), expected.len()),
            );
        }
        self.judge_merchants(machine, store)
    }

    /// Archives a day that is over, or a part of it: what was read of the store before is read behind it.
    fn archive(&mut self, machine: &Machine, store: &SqliteStore) -> Result<(), Stop> {
        self.place = Place::Archive;
        let archivist = store.archivist();
        let mut archivist = self.check(machine, archivist)?;
        let mut pieces = self.random.below(6);
        let archived = archivist.archive(TODAY, &mut || {
            pieces = pieces.saturating_sub(1);
            pieces > 0
        });
        self.check(machine, archived).map(drop)
    }

    fn judge_merchants(&mut self, machine: &Machine, store: &SqliteStore) -> Result<(), Stop> {
        let reader = store.reader();
        let mut reader = self.check(machine, reader)?;
        let rows = reader.merchants();
        let rows = self.check(machine, rows)?;
        let found: Vec<Merchant> =
            rows.rows.iter().map(|row| (row.id, row.status == Status::Active)).collect();
        let doubtful = self.merchants_doubtful.take();
        if found != self.merchants {
            if doubtful.as_ref() != Some(&found) {
                return wrong(
                    machine,
                    format!(
                        "merchants {found:?} instead of {:?}, {} damaged",
                        self.merchants,
                        rows.damaged.len()
                    ),
                );
            }
            self.merchants = found;
        }
        let mut damaged = Vec::new();
        let sound = reader.verify(&mut |row| damaged.push(row.to_string()));
        let sound = self.check(machine, sound)?;
        let all = self.model.durable().count();
        if u64::try_from(all) != Ok(sound) || !damaged.is_empty() {
            return wrong(machine, format!("{sound} sound rows of {all}, damaged: {damaged:?}"));
        }
        Ok(())
    }

    fn difference(&self, found: &[Record]) -> String {
        let mut model = self.model.clone();
        model.crash(0);
        let acknowledged: Vec<&Arc<Record>> = model.durable().collect();
        let lost = acknowledged
            .iter()
            .filter(|record| !found.iter().any(|other| other == record.as_ref()))
            .take(4)
            .map(|record| {
                let there = found.iter().find(|other| other.key == record.key).map(|other| other.version);
                format!("{} version {}, found {there:?}", record.key.number, record.version)
            });
        format!(
            "{} orders are found where {} were acknowledged and {} commits had no answer; not as acknowledged: {}",
            found.len(),
            acknowledged.len(),
            self.model.staged(),
            lost.collect::<Vec<_>>().join("; "),
        )
    }
}

/// What was read is wrong, unless the power went while it was read: the checkpointer may be at work.
fn wrong<T>(machine: &Machine, what: String) -> Result<T, Stop> {
    Err(if machine.mount.disk.is_off() { Stop::Off } else { Stop::Wrong(what) })
}

fn mch_id(number: u32) -> MchId {
    format!("{}", 1_000_000_000 + number).parse().expect("a number")
}

pub(super) fn seal_key() -> SealKey {
    SealKey::from_bytes([0x5a; 32])
}

/// Whether the committer gave up because of the disk, not because another writer came.
pub(super) const fn is_fatal(error: &CommitError) -> bool {
    matches!(error, CommitError::Fatal(_))
}
