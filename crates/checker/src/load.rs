//! An open loop of tills: so many payments begin in a second, whatever the switch does.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use anyhow::Context as _;
use protocol::wechat_v2::field;
use signer::{Key, Kind};
use simulator::{Code, Rng};
use till::client::{Client, Merchant};
use till::serve::{Habit, Sale, Shop, Till};
use till::tally::Tally;
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::{Instant, interval, sleep, sleep_until, timeout};

use crate::site::Site;

/// How often payments are begun; each time as many as are due.
const TICK: Duration = Duration::from_millis(5);
/// Tills that ask at the same time when the day is closed.
const CLOSING_AT_ONCE: usize = 64;
/// How long a till that is told to stop may take to do so: it waits for an answer at most.
const LAST_ANSWER: Duration = Duration::from_secs(30);

/// Who comes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Crowd {
    /// Mostly customers who take 24 to 29 s over the password: many payments are open at once.
    Slow,
    /// Every kind of customer and wallet answer, most of them quick.
    Mixed,
}

/// One in a hundred: customers (`BBSS`, the range of SS) and their share of [`Crowd::Slow`].
const SLOW: [(u16, std::ops::RangeInclusive<u16>, u64); 13] = [
    (1, 24..=29, 70),
    (2, 0..=0, 8),
    (3, 5..=25, 4),
    (0, 0..=0, 7),
    (11, 0..=0, 2),
    (12, 0..=0, 1),
    (13, 1..=6, 2),
    (8, 0..=0, 1),
    (5, 0..=0, 1),
    (14, 1..=3, 1),
    (16, 0..=1, 1),
    (17, 1..=2, 1),
    (36, 1..=2, 1),
];

/// The same for [`Crowd::Mixed`].
const MIXED: [(u16, std::ops::RangeInclusive<u16>, u64); 20] = [
    (0, 0..=0, 30),
    (1, 2..=28, 30),
    (2, 0..=0, 6),
    (3, 2..=20, 4),
    (5, 0..=0, 2),
    (6, 0..=0, 2),
    (8, 0..=0, 2),
    (9, 0..=0, 1),
    (10, 2..=10, 2),
    (11, 0..=0, 3),
    (12, 0..=0, 2),
    (13, 1..=12, 3),
    (14, 1..=3, 2),
    (15, 4..=10, 2),
    (16, 0..=1, 2),
    (17, 1..=2, 2),
    (19, 0..=0, 1),
    (31, 1..=3, 2),
    (36, 1..=2, 1),
    (39, 0..=0, 1),
];

/// The customer of `percent`, 0 to 99.
fn customer(crowd: Crowd, percent: u64, rng: &mut Rng) -> u16 {
    let shares = match crowd {
        Crowd::Slow => SLOW.as_slice(),
        Crowd::Mixed => MIXED.as_slice(),
    };
    let mut left = percent;
    for (bb, seconds, share) in shares {
        if left < *share {
            let span = u64::from(seconds.end() - seconds.start()) + 1;
            let second = u16::try_from(rng.below(span)).unwrap_or_default();
            return bb * 100 + seconds.start() + second;
        }
        left -= share;
    }
    0
}

/// 84 % patient, 4 % give up, 8 % lose the first answer, 2 % reverse first, 2 % change their mind.
fn habit(rng: &mut Rng) -> Habit {
    match rng.below(100) {
        0..84 => Habit::Patient,
        84..88 => Habit::GivesUp,
        88..96 => Habit::LosesAnswer(rng.below(40)),
        96..98 => Habit::ReversesFirst,
        _ => Habit::ChangesMind,
    }
}

/// The `n`-th sale.
fn sale(crowd: Crowd, n: u64, merchants: u64, rng: &mut Rng) -> Sale {
    let percent = rng.below(100);
    Sale {
        merchant: usize::try_from(n % merchants.max(1)).unwrap_or_default(),
        number: format!("C{n:010}"),
        amount_fen: 1 + rng.below(30_000),
        code: Code::for_customer(customer(crowd, percent, rng), n + 1),
        habit: habit(rng),
        kind: if rng.below(4) == 0 { Kind::HmacSha256 } else { Kind::Md5 },
    }
}

/// Tills at work.
pub struct Load {
    /// What they share.
    pub shop: Arc<Shop>,
    per_second: Arc<AtomicU32>,
    began: Instant,
    opening: JoinHandle<JoinSet<Till>>,
}

/// What tills have written down.
pub struct Told {
    /// Every till.
    pub tills: Vec<Till>,
    /// How long payments were begun.
    pub span: Duration,
}

impl Load {
    /// Begins `per_second` payments a second at `site`, through `gateway`.
    ///
    /// # Errors
    ///
    /// When a merchant's key is malformed.
    pub fn start(
        site: &Site,
        gateway: std::net::SocketAddr,
        crowd: Crowd,
        per_second: u32,
        speed: u32,
        seed: u64,
    ) -> anyhow::Result<Self> {
        let merchants = site.merchants.iter().map(|identity| {
            Ok(Merchant { identity: identity.clone(), key: Key::new(&identity.key).context("a key")? })
        });
        let shop = Arc::new(Shop {
            client: Client::new(gateway),
            merchants: merchants.collect::<anyhow::Result<_>>()?,
            speed: speed.into(),
            until: OnceLock::new(),
            tally: Tally::default(),
        });
        let rate = Arc::new(AtomicU32::new(per_second));
        let opening = tokio::spawn(open(Arc::clone(&shop), Arc::clone(&rate), crowd, seed));
        Ok(Self { shop, per_second: rate, began: Instant::now(), opening })
    }

    /// Changes how many payments begin in a second; 0 pauses.
    pub fn rate(&self, per_second: u32) {
        self.per_second.store(per_second, Ordering::Relaxed);
    }

    /// Asks about a number that nobody has, until there is a signed answer.
    ///
    /// # Errors
    ///
    /// When there is none within `most`.
    pub async fn answered(&self, most: Duration) -> anyhow::Result<()> {
        let merchant = self.shop.merchants.first().context("a merchant")?;
        let fields = [(field::OUT_TRADE_NO, "NOBODYS")];
        let ask = async {
            while self.shop.client.ask(merchant, "/pay/orderquery", Kind::Md5, &fields).await.is_err() {
                sleep(Duration::from_millis(2)).await;
            }
        };
        timeout(most, ask).await.with_context(|| format!("no till is answered within {most:?}"))
    }

    /// Payments that tills have no definite word of.
    #[must_use]
    pub fn pending(&self) -> u64 {
        self.shop.tally.open()
    }

    /// Waits until `pending` payments are open.
    ///
    /// # Errors
    ///
    /// When they are not within `most`.
    pub async fn filled(&self, pending: u64, most: Duration) -> anyhow::Result<()> {
        let fill = async {
            while self.pending() < pending {
                sleep(Duration::from_millis(20)).await;
            }
        };
        timeout(most, fill).await.with_context(|| {
            format!("only {} payments are open after {most:?}, not {pending}", self.pending())
        })
    }

    /// Begins no more payments, and waits until every till has a definite word, at most `most`. Then each asks once
    /// more: what was told must still be so.
    ///
    /// # Errors
    ///
    /// When tills do not come to their end.
    pub async fn settle(self, most: Duration) -> anyhow::Result<Told> {
        let span = self.began.elapsed();
        self.rate(u32::MAX);
        let mut tills = self.opening.await?;
        let until = Instant::now() + most;
        let mut told = Vec::new();
        let end = async {
            while let Some(till) = tills.join_next().await {
                told.push(till?);
            }
            Ok::<_, anyhow::Error>(())
        };
        let shop = Arc::clone(&self.shop);
        let last_call = async {
            sleep_until(until).await;
            let _ = shop.until.set(Instant::now());
            sleep(LAST_ANSWER).await;
        };
        tokio::select! {
            ended = end => ended?,
            () = last_call => anyhow::bail!("tills do not come to their end"),
        }
        let _ = self.shop.until.set(Instant::now());
        Ok(Told { tills: close(told).await?, span })
    }
}

/// Begins payments until the rate is [`u32::MAX`].
async fn open(shop: Arc<Shop>, per_second: Arc<AtomicU32>, crowd: Crowd, seed: u64) -> JoinSet<Till> {
    let mut rng = Rng::keyed(seed, "crowd");
    let merchants = u64::try_from(shop.merchants.len()).unwrap_or(1);
    let (mut tills, mut n, mut due_us) = (JoinSet::new(), 0, 0_u64);
    let mut ticks = interval(TICK);
    let mut before = Instant::now();
    loop {
        ticks.tick().await;
        let rate = per_second.load(Ordering::Relaxed);
        if rate == u32::MAX {
            return tills;
        }
        let now = Instant::now();
        let passed = u64::try_from((now - before).as_micros()).unwrap_or(0);
        before = now;
        due_us += passed * u64::from(rate);
        while due_us >= 1_000_000 {
            due_us -= 1_000_000;
            let mut till = Till::new(Arc::clone(&shop), sale(crowd, n, merchants, &mut rng));
            n += 1;
            tills.spawn(async move {
                till.serve().await;
                till
            });
        }
    }
}

/// Every till asks once more, some at a time.
async fn close(tills: Vec<Till>) -> anyhow::Result<Vec<Till>> {
    let mut closed = Vec::with_capacity(tills.len());
    let mut asking = JoinSet::new();
    for mut till in tills {
        if asking.len() >= CLOSING_AT_ONCE
            && let Some(done) = asking.join_next().await
        {
            closed.push(done?);
        }
        asking.spawn(async move {
            till.close_the_day().await;
            till
        });
    }
    while let Some(done) = asking.join_next().await {
        closed.push(done?);
    }
    Ok(closed)
}

#[cfg(test)]
mod tests {
    use simulator::Rng;

    use super::{Crowd, MIXED, SLOW, customer};

    #[test]
    fn shares_are_whole_and_every_customer_comes() {
        assert_eq!(SLOW.iter().map(|(_, _, share)| share).sum::<u64>(), 100);
        assert_eq!(MIXED.iter().map(|(_, _, share)| share).sum::<u64>(), 100);
        let mut rng = Rng::new(1);
        for (crowd, kinds) in [(Crowd::Slow, SLOW.as_slice()), (Crowd::Mixed, MIXED.as_slice())] {
            let mut percent = 0;
            for (bb, seconds, share) in kinds {
                let drawn = customer(crowd, percent, &mut rng);
                assert_eq!(drawn / 100, *bb, "{percent} %");
                assert!(seconds.contains(&(drawn % 100)), "{drawn}");
                percent += share;
            }
        }
    }
}
