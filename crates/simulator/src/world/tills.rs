//! The tills: they pay, ask every 5 s as V2 clients do, retry, give up and reverse.

use protocol::Fen;
use state_machine::shard::Wait;
use state_machine::{MerchantId, OrderKey, ProviderId};

use super::kind::Kind;
use super::setup::{Customers, Setup, Tills};
use super::told::Told;
use super::{Event, World};
use crate::code::Code;
use crate::rng::Rng;

/// Merchants of the run; half of them to each provider.
pub(super) const MERCHANTS: u32 = 8;
/// Providers of the run.
pub(super) const PROVIDERS: usize = 2;
/// A side request: its answer moves nothing.
const ASIDE: u16 = u16::MAX;
/// How often a till repeats itself in a storm of retries.
const RETRIES: u32 = 64;
/// How often a V2 client asks. Source: wechatpay-v2 §4.3.
const POLL_MS: u64 = 5_000;

/// What a till asks of the switch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ask {
    /// To be paid.
    Pay(Wait),
    /// The same number with another amount.
    PayOther,
    /// What has become of it.
    Query,
    /// To tell once it is decided.
    Watch,
    /// To reverse.
    Reverse,
}

/// What a till does in the course of one payment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Script {
    /// Asks for a minute and a half, then reverses: a V2 client.
    Client,
    /// Asks until it hears an outcome.
    Patient,
    /// Waits for the outcome on one connection, again and again.
    Watcher,
    /// Never comes back after its first request.
    Silent,
    /// Reverses after this many milliseconds, whatever it has heard.
    Reverses(u32),
    /// Its payment takes this long to the switch, and its reversal overtakes it.
    Overtaken(u32),
    /// Has a paid order reversed after this many milliseconds.
    Returns(u32),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Paying,
    Asking,
    Reversing,
    Over,
}

/// One payment, as its till sees it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Till {
    pub(super) amount: Fen,
    pub(super) code: Code,
    pub(super) wait: Wait,
    script: Script,
    stage: Stage,
    /// Which request or timer is waited for; older ones change nothing.
    turn: u16,
    tries: u8,
    began_at: u64,
}

/// The key of the `n`-th payment. Two merchants use each number.
pub(super) fn key_of(n: u32) -> OrderKey {
    let mut text = *b"W000000000";
    let mut rest = n / 2;
    for digit in text.iter_mut().skip(1).rev() {
        *digit = b'0' + u8::try_from(rest % 10).unwrap_or(0);
        rest /= 10;
    }
    let number = std::str::from_utf8(&text).unwrap_or_default().parse();
    OrderKey { merchant: merchant_of(n), number: number.expect("a letter and nine digits are a number") }
}

/// The merchant of the `n`-th payment: both of a pair have the parity of `n`, so that the key leads back to it.
pub(super) const fn merchant_of(n: u32) -> MerchantId {
    MerchantId(2 * (n / 2 % (MERCHANTS / 2)) + n % 2)
}

/// The payment of a key.
pub(super) fn n_of(key: &OrderKey) -> u32 {
    n_of_bytes(key.number.as_bytes()).unwrap_or(u32::MAX / 2).saturating_mul(2) + key.merchant.0 % 2
}

/// The half of a payment's place that stands in its number.
pub(super) fn n_of_text(number: &str) -> Option<u32> {
    n_of_bytes(number.as_bytes())
}

fn n_of_bytes(number: &[u8]) -> Option<u32> {
    let digits = number.strip_prefix(b"W").filter(|digits| (1..=9).contains(&digits.len()))?;
    digits.iter().try_fold(0, |n, byte| byte.is_ascii_digit().then(|| 10 * n + u32::from(byte - b'0')))
}

/// Who carries a merchant.
pub(super) const fn provider_of(merchant: MerchantId) -> ProviderId {
    ProviderId(if merchant.0 < MERCHANTS / 2 { 0 } else { 1 })
}

fn pick<T: Copy>(rng: &mut Rng, from: &[T], otherwise: T) -> T {
    let index = usize::try_from(rng.below(u64::try_from(from.len()).unwrap_or(1))).unwrap_or(0);
    from.get(index).copied().unwrap_or(otherwise)
}

fn draw_code(rng: &mut Rng, customers: Customers, n: u32) -> Code {
    let bbss = match customers {
        Customers::Only(bbss) => bbss,
        Customers::Slow => 140 + u16::try_from(rng.below(20)).unwrap_or(0),
        Customers::Mixed if rng.below(10) < 6 => 9_900,
        Customers::Mixed => {
            let bb = rng.below(40);
            let seconds = match bb {
                1 | 10 | 15 | 33..=35 => 60,
                3 | 20 => 56,
                4 => 9,
                13 => 20,
                14 | 16 | 17 | 36 => 5,
                31 => 10,
                _ => 3,
            };
            u16::try_from(bb * 100 + rng.below(seconds)).unwrap_or(0)
        }
    };
    // One in a hundred shows a code that has been used before.
    let serial = if n > 0 && rng.below(100) == 0 && customers == Customers::Mixed { n - 1 } else { n };
    Code::for_customer(bbss, u64::from(serial))
}

impl Till {
    pub(super) fn new(rng: &mut Rng, setup: &Setup, n: u32, now: u64) -> Self {
        let fen = match rng.below(20) {
            0 => 100_001 + rng.below(400_000),
            _ => 1 + rng.below(100_000),
        };
        let fen = if matches!(setup.customers, Customers::Only(_)) { 1_288 } else { fen };
        let script = match (setup.tills, rng.below(20)) {
            (Tills::Patient, _) | (Tills::Mixed, 9..=12) | (Tills::Few, 0..=2) => Script::Patient,
            (Tills::Few, _) => Script::Silent,
            (Tills::Mixed, 0..=8) => Script::Client,
            (Tills::Mixed, 13) => Script::Watcher,
            (Tills::Mixed, 14) => Script::Silent,
            (Tills::Mixed, 15 | 16) => Script::Reverses(pick(rng, &[1, 30, 200, 4_000, 12_000, 30_000], 50)),
            (Tills::Mixed, 17) => Script::Overtaken(pick(rng, &[5, 100, 700, 3_000, 20_000, 90_000], 50)),
            (Tills::Mixed, _) => Script::Returns(pick(rng, &[1, 500, 10_000, 100_000, 400_000], 50)),
        };
        Self {
            amount: Fen::new(fen).expect("1 to 500,001 fen are an amount"),
            code: draw_code(rng, setup.customers, n),
            wait: if rng.below(2) == 0 { Wait::FirstWord } else { Wait::Definite },
            script,
            stage: Stage::Paying,
            turn: 0,
            tries: 0,
            began_at: now,
        }
    }

    /// Its cashier stands there and looks: it is no till that is gone, or late.
    pub(super) const fn comes_back(&mut self) {
        if !matches!(self.script, Script::Patient | Script::Watcher) {
            self.script = Script::Client;
        }
    }

    /// The `attach` that is sent: one in three has one.
    pub(super) const fn attach(n: u32) -> &'static str {
        if n.is_multiple_of(3) { "店员=07&班次=早" } else { "" }
    }
}

impl World {
    /// A customer stands at a till.
    pub(super) fn begin_payment(&mut self) {
        let n = u32::try_from(self.tills.len()).unwrap_or(u32::MAX);
        let mut till = Till::new(&mut self.rng.tills, &self.setup, n, self.now);
        if self.setup.tills == Tills::Mixed {
            self.scan_again(n, &mut till);
        }
        self.tills.push(till);
        self.active += 1;
        self.note(n, || format!("till: {:?}, {:?}, {} fen", till.script, till.code, till.amount.get()));
        let pay = Ask::Pay(till.wait);
        match till.script {
            Script::Overtaken(late_ms) => {
                self.later(u64::from(late_ms), Event::Request { n, turn: ASIDE, ask: pay });
                let before_ms = self.rng.tills.below(u64::from(late_ms) + 20);
                self.set_stage(n, Stage::Reversing, before_ms);
            }
            Script::Reverses(after_ms) => {
                self.send(n, ASIDE, pay);
                self.set_stage(n, Stage::Reversing, u64::from(after_ms));
            }
            Script::Client | Script::Patient | Script::Watcher | Script::Silent | Script::Returns(_) => {
                let turn = self.next_turn(n);
                self.send(n, turn, pay);
            }
        }
        if self.weather.is(Kind::RetryStorm) && self.rng.tills.below(4) == 0 {
            self.judge.probes.other("retried_dozens_of_times");
            // All within the time of a commit, or over a second and a half.
            let spread_ms = if self.rng.tills.below(2) == 0 { 4 } else { 1_500 };
            for _ in 0..RETRIES {
                let ask = match self.rng.tills.below(4) {
                    0 => Ask::Query,
                    1 => Ask::Watch,
                    _ => pay,
                };
                let after_ms = self.rng.tills.below(spread_ms);
                self.later(after_ms, Event::Aside { n, ask });
            }
        }
        // Nervous cashiers: the same again, or the same number for something else.
        if self.setup.tills == Tills::Mixed {
            let aside = match self.rng.tills.below(16) {
                0 => Some((self.rng.tills.below(3_000), pay)),
                1 => Some((self.rng.tills.below(120_000), pay)),
                2 => Some((self.rng.tills.below(20_000), Ask::PayOther)),
                3 => Some((self.rng.tills.below(200_000), Ask::Query)),
                _ => None,
            };
            if let Some((after_ms, ask)) = aside {
                self.later(after_ms, Event::Aside { n, ask });
            }
        }
    }

    fn till(&mut self, n: u32) -> &mut Till {
        let index = usize::try_from(n).unwrap_or(usize::MAX);
        #[expect(clippy::indexing_slicing, reason = "only payments that have begun are named")]
        &mut self.tills[index]
    }

    fn next_turn(&mut self, n: u32) -> u16 {
        let till = self.till(n);
        till.turn = (till.turn + 1) % ASIDE;
        till.turn
    }

    /// The till waits, then goes on in `stage`.
    fn set_stage(&mut self, n: u32, stage: Stage, after_ms: u64) {
        let was_over = self.till(n).stage == Stage::Over;
        let turn = self.next_turn(n);
        self.till(n).stage = stage;
        match (was_over, stage == Stage::Over) {
            (false, true) => self.active -= 1,
            (true, false) => self.active += 1,
            (true, true) | (false, false) => {}
        }
        if stage != Stage::Over {
            self.later(after_ms, Event::Till { n, turn });
        }
    }

    /// A request leaves the till; the network may lose it.
    fn send(&mut self, n: u32, turn: u16, ask: Ask) {
        if ask == Ask::Reverse {
            self.judge.on_reversal_asked(n);
        }
        if matches!(ask, Ask::Pay(_) | Ask::PayOther) && self.counters.is_put_away(n) {
            if turn != ASIDE {
                self.set_stage(n, Stage::Over, 0);
            }
            return;
        }
        if self.till_network_loses() {
            self.judge.probes.fault("till_request_lost");
            if turn != ASIDE {
                self.on_told(n, turn, Told::Lost, 10_000);
            }
            return;
        }
        let delay_ms = 1 + self.rng.tills.below(20);
        self.later(delay_ms, Event::Request { n, turn, ask });
    }

    /// A request on the side.
    pub(super) fn on_aside(&mut self, n: u32, ask: Ask) {
        self.send(n, ASIDE, ask);
    }

    /// A till's own timer.
    pub(super) fn on_till(&mut self, n: u32, turn: u16) {
        let till = *self.till(n);
        if till.turn != turn {
            return;
        }
        let turn = self.next_turn(n);
        match till.stage {
            Stage::Paying => self.send(n, turn, Ask::Pay(till.wait)),
            Stage::Asking if till.script == Script::Watcher => self.send(n, turn, Ask::Watch),
            Stage::Asking => self.send(n, turn, Ask::Query),
            Stage::Reversing => self.send(n, turn, Ask::Reverse),
            Stage::Over => {}
        }
    }

    /// An answer reaches its till after `delay_ms`, or it learns then that the connection has broken.
    pub(super) fn on_told(&mut self, n: u32, turn: u16, told: Told, delay_ms: u64) {
        let till = *self.till(n);
        if till.turn != turn || turn == ASIDE {
            return;
        }
        let patience_ms = match till.script {
            Script::Client => 90_000,
            Script::Patient
            | Script::Watcher
            | Script::Silent
            | Script::Reverses(_)
            | Script::Overtaken(_)
            | Script::Returns(_) => u64::MAX,
        };
        let waited_ms = self.now + delay_ms - till.began_at;
        let (stage, after_ms) = match (till.stage, told) {
            (Stage::Over, _) => return,
            // What became of the sale is the first payment's to say.
            (Stage::Paying, Told::Unsettled) => (Stage::Over, 0),
            (Stage::Paying, Told::NotAccepted(_) | Told::Lost) if till.tries >= 3 => (Stage::Over, 0),
            (Stage::Paying, Told::NotAccepted(_)) => (Stage::Paying, 1_000 + self.rng.tills.below(5_000)),
            (Stage::Paying, Told::Lost | Told::Open | Told::NumberUsed) if till.script == Script::Silent => {
                (Stage::Over, 0)
            }
            (Stage::Paying, Told::Lost) if self.rng.tills.below(3) == 0 => (Stage::Paying, 500),
            (Stage::Paying | Stage::Asking, Told::Paid | Told::OrderPaid) => match till.script {
                Script::Returns(after_ms) => (Stage::Reversing, u64::from(after_ms)),
                Script::Client
                | Script::Patient
                | Script::Watcher
                | Script::Silent
                | Script::Reverses(_)
                | Script::Overtaken(_) => (Stage::Over, 0),
            },
            (
                Stage::Paying | Stage::Asking,
                Told::Refunded
                | Told::Failed
                | Told::Closing
                | Told::Revoked
                | Told::ReverseDone
                | Told::TooOld,
            ) => (Stage::Over, 0),
            (Stage::Asking, Told::NotExist) if till.tries >= 3 => (Stage::Over, 0),
            (Stage::Asking, Told::NotExist) => (Stage::Paying, 100),
            // Held orders never answer; a till stops at some time.
            (Stage::Paying | Stage::Asking, _) if waited_ms > 2 * 3_600_000 => (Stage::Over, 0),
            (Stage::Paying | Stage::Asking, _) if waited_ms > patience_ms => (Stage::Reversing, 0),
            (Stage::Paying | Stage::Asking, _) => {
                // Who has asked for ten minutes asks less often.
                let pause_ms = if waited_ms > 600_000 { 12 * POLL_MS } else { POLL_MS };
                (Stage::Asking, pause_ms)
            }
            (Stage::Reversing, Told::ReverseDone | Told::TooOld) => (Stage::Over, 0),
            (Stage::Reversing, _) if till.tries >= 12 => (Stage::Over, 0),
            (Stage::Reversing, _) => (Stage::Reversing, 5_000 << till.tries.min(6)),
        };
        let counts =
            matches!((stage, told), (Stage::Reversing, _) | (_, Told::NotAccepted(_) | Told::NotExist))
                || (stage == Stage::Paying && told == Told::Lost);
        if counts {
            let till = self.till(n);
            till.tries = till.tries.saturating_add(1);
        }
        self.set_stage(n, stage, after_ms + delay_ms);
    }
}
