//! What one till was told about one payment, in the order in which it was told.

use super::client::{Answer, NoAnswer};

/// What a till may conclude from an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Word {
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
    /// Whether the till need not ask any more.
    pub(super) const fn is_definite(self) -> bool {
        matches!(self, Self::Paid(_) | Self::NotPaid | Self::Reversed)
    }

    /// As the report has it.
    pub(super) fn text(self) -> String {
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
pub(super) enum Call {
    Pay,
    Query,
    Reverse,
}

/// One answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Note {
    /// When it came, Unix milliseconds.
    pub(super) at_ms: i64,
    /// What was asked.
    pub(super) call: Call,
    /// What it means.
    pub(super) word: Word,
    /// The wire's own words.
    pub(super) wire: String,
}

/// The notes about one payment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Notebook {
    pub(super) notes: Vec<Note>,
    /// Whether the till ever asked for a reversal.
    pub(super) reversal_asked: bool,
    /// Answers that were lost, unsigned or wrongly signed.
    pub(super) unusable: u32,
}

impl Notebook {
    /// Writes an answer down and says what it means. `asked_fen` is what the till charged.
    pub(super) fn note(
        &mut self,
        at_ms: i64,
        call: Call,
        asked_fen: u64,
        answer: Result<Answer, NoAnswer>,
    ) -> Word {
        let (word, wire) = match answer {
            Ok(answer) => (word(call, asked_fen, &answer), wire(&answer)),
            Err(why) => {
                self.unusable += 1;
                (Word::Nothing, format!("{why:?}"))
            }
        };
        self.notes.push(Note { at_ms, call, word, wire });
        word
    }

    /// What the till goes by: the last thing it was told that means something.
    pub(super) fn told(&self) -> Word {
        let last =
            |wanted: fn(Word) -> bool| self.notes.iter().rev().map(|note| note.word).find(|w| wanted(*w));
        last(Word::is_definite)
            .or_else(|| last(|word| word == Word::Open))
            .or_else(|| last(|word| word != Word::Nothing))
            .unwrap_or(Word::Nothing)
    }

    /// When the till first had this outcome in hand.
    pub(super) fn told_at_ms(&self, wanted: impl Fn(Word) -> bool) -> Option<i64> {
        self.notes.iter().find(|note| wanted(note.word)).map(|note| note.at_ms)
    }

    /// The first two notes that contradict each other. Paid may become reversed, if the till asked for that;
    /// nothing else that is definite may change.
    pub(super) fn contradiction(&self) -> Option<(&Note, &Note)> {
        let mut before: Option<&Note> = None;
        for note in &self.notes {
            if let Some(before) = before {
                let fits = match note.word {
                    Word::Paid(_) => before.word == note.word,
                    Word::NotPaid | Word::Reversed => {
                        !matches!(before.word, Word::Paid(_))
                            || (note.word == Word::Reversed && self.reversal_asked)
                    }
                    Word::Open | Word::Absent | Word::NotTaken => false,
                    Word::Nothing => true,
                };
                if !fits {
                    return Some((before, note));
                }
            }
            if note.word.is_definite() {
                before = Some(note);
            }
        }
        None
    }
}

/// What an answer means to a till. Source: DESIGN §4.
fn word(call: Call, asked_fen: u64, answer: &Answer) -> Word {
    match (call, answer.success) {
        (Call::Pay, true) => Word::Paid(answer.total_fee.unwrap_or(0)),
        (Call::Pay, false) => match answer.err_code.as_str() {
            "USERPAYING" | "SYSTEMERROR" | "BANKERROR" => Word::Open,
            "ORDERPAID" => Word::Paid(asked_fen),
            "FREQUENCY_LIMITED" => Word::NotTaken,
            _ => Word::NotPaid,
        },
        (Call::Query, true) => match answer.trade_state.as_str() {
            "SUCCESS" => Word::Paid(answer.total_fee.unwrap_or(0)),
            "REVOKED" => Word::Reversed,
            "PAYERROR" | "CLOSED" | "REFUND" => Word::NotPaid,
            _ => Word::Open,
        },
        (Call::Query, false) if answer.err_code == "ORDERNOTEXIST" => Word::Absent,
        (Call::Reverse, true) if answer.recall != "Y" => Word::Reversed,
        (Call::Query | Call::Reverse, _) => Word::Nothing,
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
        ] {
            assert_eq!(book(story, asked).contradiction().is_some(), contradicts, "{story}");
        }
    }

    #[test]
    fn the_first_answer_is_read_as_a_till_reads_it() {
        for (code, word) in [
            ("USERPAYING", Word::Open),
            ("SYSTEMERROR", Word::Open),
            ("ORDERPAID", Word::Paid(1288)),
            ("ORDERREVERSED", Word::NotPaid),
            ("FREQUENCY_LIMITED", Word::NotTaken),
            ("NOTENOUGH", Word::NotPaid),
        ] {
            assert_eq!(Notebook::default().note(0, Call::Pay, 1288, answer(code)), word, "{code}");
        }
    }
}
