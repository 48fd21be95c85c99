//! The wallet's own books, held against what the tills of a run were told.

use std::collections::HashSet;
use std::io::{self, BufRead as _, BufReader, Write as _};
use std::net::TcpStream;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::Outcome;
use crate::measure::Heard;
use crate::target::Target;

/// How long the wallet may be silent.
const SILENCE: Duration = Duration::from_secs(20);
/// Numbers that are named in a report.
const NAMED_MAX: usize = 10;

/// What the wallet's books say of the payments of a run, warm-up included.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Books {
    /// Whether nothing is wrong: none of the next four.
    pub agree: bool,
    /// Charged more than once.
    pub charged_twice: u64,
    /// Told paid, and the money is not there or is another amount.
    pub told_paid_not_held: u64,
    /// Told not paid, reversed or not taken, and money is kept.
    pub held_not_told: u64,
    /// Paid by the answer, but another amount than was asked for.
    pub wrong_amount: u64,
    /// Money is kept, and the till has no definite word yet.
    pub held_and_open: u64,
    /// Payments of this run on the books.
    pub found: u64,
    /// Numbers of those that are wrong, the first ten.
    pub numbers: Vec<String>,
}

/// Why the books cannot be read.
#[derive(Debug, Error)]
pub enum BooksError {
    /// The wallet does not answer, or not with its books.
    #[error("{0}")]
    Wallet(#[from] io::Error),
    /// A line that is no page of the books.
    #[error("a line of its books cannot be read: {0}")]
    Line(#[from] serde_json::Error),
}

/// What is needed of a page.
#[derive(Deserialize)]
struct Entry<'a> {
    #[serde(borrow)]
    out_trade_no: std::borrow::Cow<'a, str>,
    captures: u32,
    captured_fen: u64,
    returned_fen: u64,
}

impl Outcome {
    /// Reads `/sim/ledger` of a simulated wallet (without TLS) and holds it against what was heard.
    ///
    /// # Errors
    ///
    /// [`BooksError`].
    pub fn compare(&self, wallet: &Target) -> Result<Books, BooksError> {
        let mut stream = TcpStream::connect(wallet.resolve()?)?;
        stream.set_read_timeout(Some(SILENCE))?;
        // To HTTP/1.0 the books come until the connection ends, without chunks.
        let request =
            format!("GET {}/sim/ledger HTTP/1.0\r\nHost: {}\r\n\r\n", wallet.prefix, wallet.authority());
        stream.write_all(request.as_bytes())?;
        let mut reader = BufReader::new(stream);
        let mut line = String::new();
        reader.read_line(&mut line)?;
        if line.split(' ').nth(1) != Some("200") {
            let told =
                format!("{wallet}/sim/ledger answers {:?}: only a simulated wallet has it", line.trim());
            return Err(io::Error::other(told).into());
        }
        while !line.trim().is_empty() {
            line.clear();
            reader.read_line(&mut line)?;
        }
        self.hold(reader.lines())
    }

    /// Holds the books' lines against what was heard.
    fn hold(&self, lines: impl Iterator<Item = io::Result<String>>) -> Result<Books, BooksError> {
        let prefix = self.plan.number_prefix();
        let mut books = Books::default();
        let mut seen = HashSet::new();
        for line in lines {
            let line = line?;
            // Most lines may be of others: they need not be read.
            if !line.contains(&prefix) {
                continue;
            }
            let entry: Entry<'_> = serde_json::from_str(&line)?;
            let Some(n) = entry.out_trade_no.strip_prefix(&prefix).and_then(|n| n.parse::<usize>().ok())
            else {
                continue;
            };
            let Some(heard) = self.words.get(n) else { continue };
            books.found += 1;
            seen.insert(n);
            let held_fen = entry.captured_fen.saturating_sub(entry.returned_fen);
            let wrong = books.judge(*heard, entry.captures, held_fen, self.plan.amount_fen);
            if wrong && books.numbers.len() < NAMED_MAX {
                books.numbers.push(entry.out_trade_no.into_owned());
            }
        }
        for (n, heard) in self.words.iter().enumerate() {
            if matches!(heard, Heard::Paid | Heard::PaidOther) && !seen.contains(&n) {
                books.told_paid_not_held += 1;
                if books.numbers.len() < NAMED_MAX {
                    books.numbers.push(self.plan.number(u64::try_from(n).unwrap_or(u64::MAX)));
                }
            }
        }
        books.agree =
            [books.charged_twice, books.told_paid_not_held, books.held_not_told, books.wrong_amount]
                == [0; 4];
        Ok(books)
    }
}

impl Books {
    /// Counts a page; whether it is wrong.
    fn judge(&mut self, heard: Heard, captures: u32, held_fen: u64, asked_fen: u64) -> bool {
        let counter = match heard {
            _ if captures > 1 => &mut self.charged_twice,
            Heard::Paid if held_fen != asked_fen => &mut self.told_paid_not_held,
            Heard::PaidOther => &mut self.wrong_amount,
            Heard::NotPaid | Heard::Reversed | Heard::NotTaken if held_fen > 0 => &mut self.held_not_told,
            Heard::Unsent | Heard::Nothing | Heard::Open | Heard::Absent if held_fen > 0 => {
                self.held_and_open += 1;
                return false;
            }
            Heard::Unsent
            | Heard::Nothing
            | Heard::Open
            | Heard::Absent
            | Heard::Paid
            | Heard::NotPaid
            | Heard::Reversed
            | Heard::NotTaken => return false,
        };
        *counter += 1;
        true
    }
}

#[cfg(test)]
mod tests;
