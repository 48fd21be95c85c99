//! One record as one row, without a database: for those who try what a damaged row, or one of another version,
//! comes to. Not for the product, which reads rows where they are stored.

use rusqlite::types::{Value, ValueRef};
use state_machine::Record;

use super::row::{self, LEN, Scratch};
use crate::contract::Fence;
use crate::seal::{SealKey, Sealer};

/// Lays records out as rows and takes them back, as the store does.
pub struct RowCodec {
    sealer: Sealer,
}

impl RowCodec {
    /// How many values a row has, its checksum apart.
    pub const LEN: usize = LEN;

    /// Rows of a store with this key.
    #[must_use]
    pub fn new(key: &SealKey) -> Self {
        Self { sealer: Sealer::new(key) }
    }

    /// The row of `record` and its checksum; `None` if the system gives no random bytes.
    #[must_use]
    pub fn encode(&self, record: &Record) -> Option<(Vec<Value>, Vec<u8>)> {
        let mut scratch = Scratch::new();
        let row = row::encode(record, Fence(1), &self.sealer, &mut scratch).ok()?;
        let values = row.values.iter().map(|value| Value::try_from(*value)).collect::<Result<_, _>>().ok()?;
        Some((values, row.checksum.to_vec()))
    }

    /// The checksum that a row would have.
    #[must_use]
    pub fn checksum(&self, values: &[Value]) -> Vec<u8> {
        let values: Vec<_> = values.iter().map(ValueRef::from).collect();
        let mut canonical = Vec::new();
        row::canonical_form(&values, &mut canonical);
        self.sealer.checksum(&canonical).to_vec()
    }

    /// Takes a row back.
    ///
    /// # Errors
    ///
    /// What is wrong with it.
    pub fn decode(&self, values: &[Value], checksum: &[u8]) -> Result<Record, &'static str> {
        let values: Vec<_> = values.iter().map(ValueRef::from).collect();
        let values =
            <&[ValueRef<'_>; LEN]>::try_from(values.as_slice()).map_err(|_| "it has other columns")?;
        row::decode(values, ValueRef::Blob(checksum), &self.sealer)
    }
}

impl std::fmt::Debug for RowCodec {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("RowCodec(..)")
    }
}
