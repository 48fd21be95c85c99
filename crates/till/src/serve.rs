//! One till serving one customer, by the wallet's own rules: ask every 5 s until the outcome is definite.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use protocol::wechat_v2::field;
use signer::Kind;
use simulator::Code;
use simulator::http::unix_ms;
use tokio::time::{Instant, sleep};

use crate::client::{Client, Merchant};
use crate::notebook::{Call, Notebook, Word};
use crate::tally::Tally;

/// From one question to the next. Source: wechatpay-v2 §4.3.
const POLL_MS: u64 = 5_000;
/// When an impatient till gives up and reverses.
const GIVE_UP_MS: u64 = 20_000;
/// From one call for a reversal to the next.
const REVERSE_AGAIN_MS: u64 = 1_000;
/// How often a till repeats a request that was lost or not taken.
const REPEATS_MAX: u32 = 10;

/// How a till behaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Habit {
    /// Asks until it knows.
    Patient,
    /// Reverses what is not decided after 20 s.
    GivesUp,
    /// Loses the first answer after so many milliseconds and sends the same request again.
    LosesAnswer(u64),
    /// Its reversal overtakes its pay request.
    ReversesFirst,
    /// Reverses as soon as it was told that the payment is paid.
    ChangesMind,
}

/// One payment as the till makes it.
#[derive(Clone)]
pub struct Sale {
    /// Which of the merchants, as an index.
    pub merchant: usize,
    /// The merchant's number.
    pub number: String,
    /// What it charges.
    pub amount_fen: u64,
    /// The customer's payment code.
    pub code: Code,
    /// How its till behaves.
    pub habit: Habit,
    /// How it signs.
    pub kind: Kind,
}

/// What every till needs.
pub struct Shop {
    /// Connections to the switch.
    pub client: Client,
    /// Who is paid.
    pub merchants: Vec<Merchant>,
    /// Divides every pause of the tills.
    pub speed: u64,
    /// When tills stop asking; until it is set they go on.
    pub until: OnceLock<Instant>,
    /// How it goes.
    pub tally: Tally,
}

/// A till, its customer, its notebook.
pub struct Till {
    shop: Arc<Shop>,
    /// The payment.
    pub sale: Sale,
    /// What it was told.
    pub notebook: Notebook,
}

impl Till {
    /// A till that has not begun yet.
    #[must_use]
    pub fn new(shop: Arc<Shop>, sale: Sale) -> Self {
        Self { shop, sale, notebook: Notebook::default() }
    }

    /// Serves the customer until the outcome is definite, or tills stop asking.
    pub async fn serve(&mut self) {
        let shop = Arc::clone(&self.shop);
        shop.tally.began();
        match self.sale.habit {
            Habit::ReversesFirst => {
                self.reverse_until_done().await;
                self.pay().await;
            }
            Habit::LosesAnswer(after_ms) => {
                let (amount, fields) = (self.sale.amount_fen.to_string(), self.sale.clone());
                let pairs = pay_fields(&fields, &amount);
                let patience = Duration::from_millis(after_ms);
                if let Some(merchant) = shop.merchants.get(self.sale.merchant) {
                    shop.client.ask_and_hang_up(merchant, "/pay/micropay", &pairs, patience).await;
                }
                self.pay_and_ask(None).await;
            }
            Habit::GivesUp => self.pay_and_ask(Some(shop.pace(GIVE_UP_MS))).await,
            Habit::Patient => self.pay_and_ask(None).await,
            Habit::ChangesMind => {
                self.pay_and_ask(None).await;
                if matches!(self.notebook.told(), Word::Paid(_)) {
                    self.reverse_until_done().await;
                }
            }
        }
        shop.tally.ended(self.notebook.told());
    }

    /// Asks once more at the end of the day: what was told must still be so.
    pub async fn close_the_day(&mut self) {
        if self.notebook.told() != Word::NotTaken {
            self.query().await;
        }
    }

    /// Pays, then asks until it knows; reverses after `give_up`, if that is given.
    async fn pay_and_ask(&mut self, give_up: Option<Duration>) {
        let began = Instant::now();
        let mut word = self.pay().await;
        let mut repeats = 0;
        while !word.is_definite() && !self.shop.is_over() {
            if give_up.is_some_and(|after| began.elapsed() >= after) {
                self.reverse_until_done().await;
                return;
            }
            sleep(self.shop.pace(POLL_MS)).await;
            word = match word {
                // Not taken, or not even known: the same request again.
                Word::NotTaken | Word::Absent if repeats < REPEATS_MAX => {
                    repeats += 1;
                    self.pay().await
                }
                Word::NotTaken | Word::Absent => return,
                Word::Open | Word::Nothing | Word::Paid(_) | Word::NotPaid | Word::Reversed => {
                    self.query().await
                }
            };
        }
    }

    async fn reverse_until_done(&mut self) {
        self.notebook.reversal_asked = true;
        while self.reverse().await != Word::Reversed && !self.shop.is_over() {
            sleep(self.shop.pace(REVERSE_AGAIN_MS)).await;
        }
    }

    async fn pay(&mut self) -> Word {
        let (sale, amount) = (self.sale.clone(), self.sale.amount_fen.to_string());
        self.ask(Call::Pay, "/pay/micropay", &pay_fields(&sale, &amount)).await
    }

    async fn query(&mut self) -> Word {
        let number = self.sale.number.clone();
        self.ask(Call::Query, "/pay/orderquery", &[(field::OUT_TRADE_NO, &number)]).await
    }

    async fn reverse(&mut self) -> Word {
        let number = self.sale.number.clone();
        self.ask(Call::Reverse, "/secapi/pay/reverse", &[(field::OUT_TRADE_NO, &number)]).await
    }

    async fn ask(&mut self, call: Call, path: &'static str, fields: &[(&str, &str)]) -> Word {
        let Some(merchant) = self.shop.merchants.get(self.sale.merchant) else { return Word::Nothing };
        let answer = self.shop.client.ask(merchant, path, self.sale.kind, fields).await;
        self.notebook.note(unix_ms(), call, self.sale.amount_fen, answer)
    }
}

impl Shop {
    /// Whether tills have stopped asking.
    fn is_over(&self) -> bool {
        self.until.get().is_some_and(|until| Instant::now() >= *until)
    }

    /// So many milliseconds at this speed.
    fn pace(&self, ms: u64) -> Duration {
        Duration::from_millis(ms / self.speed.max(1))
    }
}

fn pay_fields<'a>(sale: &'a Sale, amount: &'a str) -> [(&'a str, &'a str); 6] {
    [
        (field::BODY, "虎符演示店-饮品"),
        (field::DEVICE_INFO, "till-1"),
        (field::OUT_TRADE_NO, &sale.number),
        (field::TOTAL_FEE, amount),
        (field::SPBILL_CREATE_IP, "203.0.113.10"),
        (field::AUTH_CODE, sale.code.as_str()),
    ]
}
