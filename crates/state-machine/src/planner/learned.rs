//! What was learned about every channel and band of amounts, and how it outlives the process.

use protocol::Fen;
use thiserror::Error;
use timer_wheel::Tick;

use super::ages::AGES;
use super::estimate::{Lesson, Shape, TAKEN_MAX, Table, first_guess};
use crate::key::Channel;

/// Where bands of amounts end, in fen: a customer looks at 800 CNY for longer than at 8.
const BAND_ENDS_FEN: [u64; BANDS - 1] = [10_000, 50_000, 100_000];

/// Bands of amounts in a channel.
pub(super) const BANDS: usize = 4;

/// Tables are worked out anew at most once in this time.
const REFRESH_MS: u64 = 1_000;

/// What the export begins with: a name and a version.
const MAGIC: &[u8; 8] = b"HUFULRN\x01";

/// A sum beyond this was never made by us.
const SUM_MAX: u64 = 1 << 56;

/// What an export of a channel holds: its code, then the tables.
const CHANNEL_BYTES: usize = 1 + (BANDS + 1) * TABLE_BYTES;
const TABLE_BYTES: usize = (2 * AGES + 1) * 8;

/// Why an export is not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum ImportError {
    /// It does not begin as one does.
    #[error("not what the query planner learned, or of another version")]
    Foreign,
    /// It is cut off, or was changed.
    #[error("what the query planner learned is damaged")]
    Damaged,
    /// It names a channel that this version does not know.
    #[error("what the query planner learned is about an unknown channel {0}")]
    UnknownChannel(u8),
}

/// One channel: all amounts together, which is the prior of each band, and the bands.
#[derive(Clone, Debug)]
struct Of {
    channel: Channel,
    all: Table,
    bands: [Table; BANDS],
    shape: Shape,
    shapes: [Shape; BANDS],
}

impl Of {
    fn new(channel: Channel) -> Self {
        let guess = Shape::of(&first_guess());
        Self {
            channel,
            all: Table::default(),
            bands: std::array::from_fn(|_| Table::default()),
            shapes: std::array::from_fn(|_| guess.clone()),
            shape: guess,
        }
    }

    fn tables(&mut self) -> impl Iterator<Item = &mut Table> {
        std::iter::once(&mut self.all).chain(&mut self.bands)
    }

    fn refresh(&mut self) {
        let all = self.all.rates(&first_guess());
        self.shape = Shape::of(&all);
        for (shape, band) in self.shapes.iter_mut().zip(&self.bands) {
            *shape = Shape::of(&band.rates(&all));
        }
    }
}

/// How long customers take to enter their password, by channel and band of amounts. 11 KB a channel.
#[derive(Clone, Debug, Default)]
pub struct Learned {
    channels: Vec<Of>,
    /// When sums were last faded and shapes worked out.
    refreshed: Tick,
    /// Whether something was seen since.
    changed: bool,
}

/// A channel and a band of amounts: small, for who keeps many.
pub(super) fn band_of(channel: Channel, amount: Option<Fen>) -> Band {
    let fen = amount.map_or(0, Fen::get);
    let band = BAND_ENDS_FEN.iter().take_while(|end| fen >= **end).count();
    Band { channel, band: u8::try_from(band).unwrap_or(0) }
}

/// A channel and a band of amounts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Band {
    channel: Channel,
    band: u8,
}

impl Learned {
    fn of(&mut self, channel: Channel) -> &mut Of {
        let place = self.channels.iter().position(|of| of.channel == channel).unwrap_or_else(|| {
            self.channels.push(Of::new(channel));
            self.channels.len().saturating_sub(1)
        });
        #[expect(clippy::indexing_slicing, reason = "the place was found or made above")]
        &mut self.channels[place]
    }

    /// Takes a lesson about a payment of this amount.
    pub fn learn(&mut self, channel: Channel, amount: Option<Fen>, lesson: Lesson, now: Tick) {
        self.refresh(now);
        self.changed = true;
        let band = usize::from(band_of(channel, amount).band);
        let Of { all, bands, shape, shapes, .. } = self.of(channel);
        all.learn(lesson, shape);
        if let (Some(table), Some(shape)) = (bands.get_mut(band), shapes.get(band)) {
            table.learn(lesson, shape);
        }
    }

    /// Forgets what is old and works the shapes out, if a second has passed.
    pub(super) fn refresh(&mut self, now: Tick) {
        let ms = now.ms_since(self.refreshed);
        if ms < REFRESH_MS || !self.changed {
            return;
        }
        self.refreshed = now;
        self.changed = false;
        for of in &mut self.channels {
            of.tables().for_each(|table| table.fade(ms));
            of.refresh();
        }
    }

    /// The shape of a band; that of the first guess where nothing was learned.
    pub(super) fn shape(&mut self, of: Band) -> &Shape {
        let of_channel = self.of(of.channel);
        of_channel.shapes.get(usize::from(of.band)).unwrap_or(&of_channel.shape)
    }

    /// The share of customers who are still typing at this age, in millionths.
    pub fn still_typing(&mut self, channel: Channel, amount: Option<Fen>, age_ms: u64) -> u64 {
        super::estimate::scaled(
            self.shape(band_of(channel, amount)).survival(age_ms),
            1_000_000,
            super::estimate::WHOLE,
        )
    }

    /// Adds what another shard has seen.
    pub fn merge(&mut self, other: &Self) {
        for theirs in &other.channels {
            let ours = self.of(theirs.channel);
            ours.all.add(&theirs.all);
            for (table, more) in ours.bands.iter_mut().zip(&theirs.bands) {
                table.add(more);
            }
            ours.refresh();
        }
    }

    /// What is worth keeping, as bytes: a name and version, for each channel its code and the sums, and a check.
    #[must_use]
    pub fn export(&self) -> Vec<u8> {
        let mut bytes = MAGIC.to_vec();
        for of in &self.channels {
            bytes.push(of.channel.code());
            for table in std::iter::once(&of.all).chain(&of.bands) {
                for sum in std::iter::once(&table.seen).chain(&table.ended).chain(&table.at_risk) {
                    bytes.extend_from_slice(&sum.to_le_bytes());
                }
            }
        }
        bytes.extend_from_slice(&check(&bytes).to_le_bytes());
        bytes
    }

    /// Reads what [`Learned::export`] wrote. Of a table that has seen much, only as much is taken as a minute's
    /// worth of the present can outweigh.
    ///
    /// # Errors
    ///
    /// [`ImportError`] for anything else; nothing of it is taken then.
    pub fn import(bytes: &[u8]) -> Result<Self, ImportError> {
        if bytes.get(..MAGIC.len()) != Some(MAGIC) {
            return Err(ImportError::Foreign);
        }
        let (body, written) = bytes.split_last_chunk::<8>().ok_or(ImportError::Damaged)?;
        let channels = body.get(MAGIC.len()..).ok_or(ImportError::Damaged)?;
        if check(body) != u64::from_le_bytes(*written) || channels.len() % CHANNEL_BYTES != 0 {
            return Err(ImportError::Damaged);
        }
        let mut learned = Self::default();
        for bytes in channels.chunks_exact(CHANNEL_BYTES) {
            let (code, sums) = bytes.split_first().ok_or(ImportError::Damaged)?;
            let channel = Channel::from_code(*code).ok_or(ImportError::UnknownChannel(*code))?;
            if learned.channels.iter().any(|of| of.channel == channel) {
                return Err(ImportError::Damaged);
            }
            let mut sums =
                sums.chunks_exact(8).filter_map(|sum| sum.first_chunk()).map(|sum| u64::from_le_bytes(*sum));
            let of = learned.of(channel);
            for table in of.tables() {
                let places =
                    std::iter::once(&mut table.seen).chain(&mut table.ended).chain(&mut table.at_risk);
                for place in places {
                    *place = sums.next().filter(|sum| *sum <= SUM_MAX).ok_or(ImportError::Damaged)?;
                }
                if table.seen > TAKEN_MAX {
                    table.scale(TAKEN_MAX, table.seen);
                }
            }
            of.refresh();
        }
        Ok(learned)
    }
}

/// FNV-1a: against bits that flipped and files that were cut, not against an enemy.
fn check(bytes: &[u8]) -> u64 {
    let step = |sum: u64, byte: &u8| (sum ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3);
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, step)
}

#[cfg(test)]
mod tests;
