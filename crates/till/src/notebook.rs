//! What one till was told about one payment, in the order in which it was told.

use crate::client::{Answer, NoAnswer};

/// What a till may conclude from an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Word {
    /// The payment is open: ask again.
    Open,
    /// Paid, this many fen.
    Paid(u64),
    /// Not paid.
    NotPaid,
    /// Reversed.
    Reversed,
    /// Not taken: nothing was stored and nothing was sent.
    NotTaken,
    /// There is no such payment.
    Absent,
    /// Says nothing about the payment.
    Nothing,
}

impl Word {
    /// What an answer means to a till that charged `asked_fen`. Source: DESIGN §4.
    #[must_use]
    pub fn of(call: Call, asked_fen: u64, answer: &Answer) -> Self {
        match (call, answer.success) {
            (Call::Pay, true) => Self::Paid(answer.total_fee.unwrap_or(0)),
            (Call::Pay, false) => match answer.err_code.as_str() {
                "USERPAYING" => Self::Open,
                // The outcome is unknown, and so is whether there will be a payment at all.
                "SYSTEMERROR" | "BANKERROR" => Self::Nothing,
                "ORDERPAID" => Self::Paid(asked_fen),
                "FREQUENCY_LIMITED" => Self::NotTaken,
                _ => Self::NotPaid,
            },
            (Call::Query, true) => match answer.trade_state.as_str() {
                "SUCCESS" => Self::Paid(answer.total_fee.unwrap_or(0)),
                "REVOKED" => Self::Reversed,
                "PAYERROR" | "CLOSED" | "REFUND" => Self::NotPaid,
                _ => Self::Open,
            },
            (Call::Query, false) if answer.err_code == "ORDERNOTEXIST" => Self::Absent,
            (Call::Reverse, true) if answer.recall != "Y" => Self::Reversed,
            (Call::Query | Call::Reverse, _) => Self::Nothing,
        }
    }

    /// Whether the till need not ask any more.
    pub const fn is_definite(self) -> bool {
        matches!(self, Self::Paid(_) | Self::NotPaid | Self::Reversed)
    }

    /// As the report has it.
    pub fn text(self) -> String {
        match self {
            Self::Open => "open".to_owned(),
            Self::Paid(fen) => format!("paid {fen} fen"),
            Self::NotPaid => "not paid".to_owned(),
            Self::Reversed => "reversed".to_owned(),
            Self::NotTaken => "not taken".to_owned(),
            Self::Absent => "no such payment".to_owned(),
            Self::Nothing => "nothing".to_owned(),
        }
    }
}

/// What a till asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Call {
    /// `/pay/micropay`.
    Pay,
    /// `/pay/orderquery`.
    Query,
    /// `/secapi/pay/reverse`.
    Reverse,
}

/// One answer, and how often it came again without another in between.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Note {
    /// When it came, Unix milliseconds.
    pub at_ms: i64,
    /// When it came last.
    pub last_at_ms: i64,
    /// How often it came in a row.
    pub times: u32,
    /// What was asked.
    pub call: Call,
    /// What it means.
    pub word: Word,
    /// The wire's own words.
    pub wire: String,
}

/// The notes about one payment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Notebook {
    /// In the order in which they were heard.
    pub notes: Vec<Note>,
    /// Whether the till ever asked for a reversal.
    pub reversal_asked: bool,
    /// Answers that were lost, unsigned or wrongly signed.
    pub unusable: u32,
}

impl Notebook {
    /// Writes an answer down and says what it means. `asked_fen` is what the till charged.
    pub fn note(&mut self, at_ms: i64, call: Call, asked_fen: u64, answer: Result<Answer, NoAnswer>) -> Word {
        let (word, wire) = match answer {
            Ok(answer) => (Word::of(call, asked_fen, &answer), wire(&answer)),
            Err(why) => {
                self.unusable += 1;
                (Word::Nothing, format!("{why:?}"))
            }
        };
        match self.notes.last_mut() {
            Some(last) if last.call == call && last.word == word && last.wire == wire => {
                last.last_at_ms = at_ms;
                last.times = last.times.saturating_add(1);
            }
            Some(_) | None => self.notes.push(Note { at_ms, last_at_ms: at_ms, times: 1, call, word, wire }),
        }
        word
    }

    /// What the till goes by: the last thing it was told that means something.
    pub fn told(&self) -> Word {
        let last =
            |wanted: fn(Word) -> bool| self.notes.iter().rev().map(|note| note.word).find(|w| wanted(*w));
        last(Word::is_definite)
            .or_else(|| last(|word| word == Word::Open))
            .or_else(|| last(|word| word != Word::Nothing))
            .unwrap_or(Word::Nothing)
    }

    /// When the till first had this outcome in hand.
    pub fn told_at_ms(&self, wanted: impl Fn(Word) -> bool) -> Option<i64> {
        self.notes.iter().find(|note| wanted(note.word)).map(|note| note.at_ms)
    }

    /// The first two notes that contradict each other. Paid may become reversed, if the till asked for that;
    /// nothing else that is definite may change; and what was accepted exists from then on (INV-13).
    pub fn contradiction(&self) -> Option<(&Note, &Note)> {
        let mut before: Option<&Note> = None;
        for note in &self.notes {
            if let Some(before) = before {
                let fits = match note.word {
                    Word::Absent => false,
                    // A repeat may be refused while the payment goes on.
                    Word::Open | Word::NotTaken if before.word == Word::Open => true,
                    Word::Paid(_) => matches!(before.word, Word::Open) || before.word == note.word,
                    Word::NotPaid | Word::Reversed => {
                        !matches!(before.word, Word::Paid(_))
                            || (note.word == Word::Reversed && self.reversal_asked)
                    }
                    Word::Open | Word::NotTaken => false,
                    Word::Nothing => true,
                };
                if !fits {
                    return Some((before, note));
                }
            }
            if note.word.is_definite() || (note.word == Word::Open && before.is_none()) {
                before = Some(note);
            }
        }
        None
    }
}

fn wire(answer: &Answer) -> String {
    let words = [&answer.trade_state, &answer.err_code, &answer.err_code_des, &answer.recall];
    let words: Vec<&str> = words.into_iter().map(String::as_str).filter(|word| !word.is_empty()).collect();
    format!("{} {}", if answer.success { "SUCCESS" } else { "FAIL" }, words.join(" ")).trim_end().to_owned()
}

#[cfg(test)]
mod tests {
    use super::{Answer, Call, NoAnswer, Notebook, Word};

    fn answer(text: &str) -> Result<Answer, NoAnswer> {
        let success = |success, trade_state: &str, total_fee| {
            Ok(Answer { success, trade_state: trade_state.to_owned(), total_fee, ..Answer::default() })
        };
        match text {
            "paid" => success(true, "SUCCESS", Some(1288)),
            "paid-less" => success(true, "SUCCESS", Some(1)),
            "revoked" => success(true, "REVOKED", None),
            "error" => success(true, "PAYERROR", None),
            "open" => success(true, "USERPAYING", None),
            "lost" => Err(NoAnswer::Lost),
            code => Ok(Answer { err_code: code.to_owned(), ..Answer::default() }),
        }
    }

    fn book(story: &str, reversal_asked: bool) -> Notebook {
        let mut book = Notebook { reversal_asked, ..Notebook::default() };
        for (text, at_ms) in story.split_whitespace().zip(0..) {
            book.note(at_ms, Call::Query, 1288, answer(text));
        }
        book
    }

    #[test]
    fn the_last_definite_word_counts() {
        for (story, told) in [
            ("", Word::Nothing),
            ("lost", Word::Nothing),
            ("lost open open", Word::Open),
            ("open paid", Word::Paid(1288)),
            ("open lost error", Word::NotPaid),
            ("error revoked", Word::Reversed),
            ("ORDERNOTEXIST", Word::Absent),
        ] {
            assert_eq!(book(story, false).told(), told, "{story}");
        }
        assert_eq!(book("open paid paid", false).told_at_ms(Word::is_definite), Some(1));
    }

    #[test]
    fn a_story_that_changes_is_found() {
        for (story, asked, contradicts) in [
            ("open open paid paid", false, false),
            ("paid lost paid", false, false),
            ("error revoked error", false, false),
            ("paid revoked", true, false),
            ("paid revoked", false, true),
            ("paid error", true, true),
            ("paid open", false, true),
            ("paid paid-less", false, true),
            ("error paid", false, true),
            ("revoked paid", true, true),
            ("paid ORDERNOTEXIST", false, true),
            ("ORDERNOTEXIST open open paid", false, false),
            ("open lost ORDERNOTEXIST", false, true),
        ] {
            assert_eq!(book(story, asked).contradiction().is_some(), contradicts, "{story}");
        }
    }

    #[test]
    fn the_first_answer_is_read_as_a_till_reads_it() {
        for (code, word) in [
            ("USERPAYING", Word::Open),
            ("SYSTEMERROR", Word::Nothing),
            ("ORDERPAID", Word::Paid(1288)),
            ("ORDERREVERSED", Word::NotPaid),
            ("FREQUENCY_LIMITED", Word::NotTaken),
            ("NOTENOUGH", Word::NotPaid),
        ] {
            assert_eq!(Notebook::default().note(0, Call::Pay, 1288, answer(code)), word, "{code}");
        }
    }
}
