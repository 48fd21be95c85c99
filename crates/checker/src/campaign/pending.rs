//! Very many payments that wait for a password at once: what each costs the switch, and how each ends.
//!
//! Wallet, switch and tills are processes of one machine, and speak through sockets. Payments begin at a fixed rate,
//! whatever the answers; when all of them are open there is a quiet, in which memory is read; then their customers pay,
//! have the wallet close or revoke them, or wait until they are given up. Each till asks until it has a definite word, and
//! that word is held against the wallet's ledger and the switch's store.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context as _, bail};
use clap::Args;
use protocol::wechat_v2::field;
use signer::{Key, Kind};
use simulator::{Code, Rng};
use state_machine::{MerchantId, OrderKey};
use till::books::Ending;
use till::client::{Client, Merchant};
use tokio::task::JoinSet;
use tokio::time::{Instant, interval, sleep, sleep_until};

use super::{Bench, STOP_MAX};
use crate::report::Report;
use crate::site::{Policy, Site, Wallet};
use crate::usage::{Cpu, resident};

mod books;
mod cost;

use cost::Cost;

/// What each payment is about, in fen.
const FEN: u64 = 1_288;
/// The longest that a customer of the simulated wallet takes. Source: DESIGN §5.
const CUSTOMER_MAX_S: u64 = 99;
/// How long after the outcome is due a till asks for it, and how often from then on. Source: wechatpay-v2 §4.3.
const ASK_AFTER: Duration = Duration::from_secs(3);
const POLL: Duration = Duration::from_secs(5);
/// How long everything may take once the last customer has paid.
const CALM: Duration = Duration::from_secs(300);
/// How often the switch is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// Payments before those that are measured, each paid at once.
const WARM: u64 = 1_000;
/// Below this, what the process itself needs hides what a payment costs.
const WEIGHED_FROM: u64 = 10_000;

/// `checker pending`.
#[derive(Clone, Debug, Args)]
pub struct Pending {
    /// Payments that are pending at once.
    #[arg(long, default_value_t = 50_000, value_name = "N", value_parser = clap::value_parser!(u64).range(100..=200_000))]
    pub count: u64,
    /// Payments that begin in a second.
    #[arg(long, default_value_t = 800, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=5_000))]
    pub rate: u64,
    /// How long all of them are pending before the first ends, in seconds.
    #[arg(long, default_value_t = 10, value_name = "S", value_parser = clap::value_parser!(u64).range(2..=60))]
    pub quiet_s: u64,
    /// In which time they end, in seconds.
    #[arg(long, default_value_t = 26, value_name = "S", value_parser = clap::value_parser!(u64).range(1..=60))]
    pub ending_s: u64,
    /// What the wallet allows in a second: the published quota.
    #[arg(long, default_value_t = 1_800, value_name = "N")]
    pub queries_per_second: u32,
    /// The most resident memory that one pending payment may cost, in bytes.
    #[arg(long, default_value_t = 1_024, value_name = "BYTES")]
    pub bytes_max: u64,
}

impl Pending {
    /// From the first payment to the last, in seconds.
    const fn filling_s(&self) -> u64 {
        self.count.div_ceil(self.rate) + 1
    }

    /// Later than every customer who ends by themselves.
    const fn give_up_s(&self) -> u64 {
        self.filling_s() + self.quiet_s + self.ending_s + 15
    }
}

/// What a till has been told in the end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Word {
    Paid,
    NotPaid,
    /// Nothing was accepted.
    NotTaken,
}

/// One till's payment.
struct Told {
    key: OrderKey,
    word: Word,
}

/// What all tills share.
struct Shop {
    site: Site,
    merchants: Arc<Vec<Merchant>>,
    client: Arc<Client>,
    begun: AtomicU64,
    /// Queries of tills.
    asked: AtomicU64,
    /// When the last payment has begun, and when the last customer ends by themselves.
    full: Instant,
    ended: Instant,
    give_up: Duration,
}

/// Runs it.
///
/// # Errors
///
/// When processes cannot be started, or a till has no definite word in the end.
pub async fn run(bench: &Bench, args: &Pending, say: &dyn Fn(String)) -> anyhow::Result<Report> {
    if args.filling_s() + args.quiet_s >= CUSTOMER_MAX_S {
        bail!("no customer waits so long: raise --rate, or lower --count");
    }
    let mut report = Report::new("pending payments");
    let folder = bench.folder("pending")?;
    let wallet = Wallet::start(&bench.hufu, folder.path(), bench.seed, 1, 1_000)?;
    let policy =
        Policy { query_per_second: args.queries_per_second, ..Policy::patient(args.give_up_s() * 1_000) };
    let site = Site::make(&bench.hufu, folder.path(), folder.path(), wallet.tls, &policy, bench.seed)?;
    let merchants = site.merchants.iter().map(|identity| {
        Ok(Merchant { identity: identity.clone(), key: Key::new(&identity.key).context("a key")? })
    });
    let merchants = merchants.collect::<anyhow::Result<Vec<_>>>()?;
    for number in &site.numbers {
        let whose = format!("#{}", number.0);
        site.hufu(&["merchant", "set", &whose, "--mode", "relay", "--long-poll-ms", "0"])?;
    }
    let (mut switch, _) = site.serve().await?;
    let client = Arc::new(Client::new(site.gateway));
    let merchants = Arc::new(merchants);
    let cold = resident(switch.id())?;
    // As much at once as comes later: what sockets and caches take is there before anything is pending.
    let mut told = warm(&site, &client, &merchants, args.rate).await?;
    let idle = resident(switch.id())?;
    let cpu_before = Cpu::of(&[switch.id()])?;
    let full = Instant::now() + Duration::from_secs(args.filling_s());
    let shop = Arc::new(Shop {
        client,
        merchants,
        site,
        begun: AtomicU64::new(0),
        asked: AtomicU64::new(0),
        full,
        ended: full + Duration::from_secs(args.quiet_s + args.ending_s),
        give_up: Duration::from_secs(args.give_up_s()),
    });
    let (crowd, mut cost) = crowd(&shop, args, bench.seed, switch.id(), say).await?;
    told.extend(crowd);
    // What tills need not wait for any more may still be on its way: reversals that are being proven.
    while super::open(&shop.site)? > 0 && Instant::now() < shop.ended + CALM {
        sleep(LOOK_EVERY).await;
    }
    (cost.cold, cost.idle) = (cold, idle);
    cost.cpu_us = Cpu::of(&[switch.id()])?.since(cpu_before).us();
    switch.stop(STOP_MAX).await?;
    report.figure("seed", bench.seed);
    report.figure("payments begun in a second", args.rate);
    report.figure("queries allowed in a second", args.queries_per_second);
    let seen = books::compare(&shop.site, &wallet, &told, &mut report).await?;
    cost.figures(&mut report, args.count, seen.queries, shop.asked.load(Ordering::Relaxed));
    report.figure("customer done -> the switch has decided, ms", seen.delays());
    report.check(cost.pending >= args.count - args.count / 100, || {
        format!("only {} payments were pending at once", cost.pending)
    });
    let each = cost.bytes_each();
    report.check(args.count < WEIGHED_FROM || each <= args.bytes_max, || {
        format!("{each} bytes of memory for each pending payment")
    });
    Ok(report)
}

/// Payments that are paid at once, at the same rate: they open the connections, and fill the caches.
async fn warm(
    site: &Site,
    client: &Arc<Client>,
    merchants: &Arc<Vec<Merchant>>,
    rate: u64,
) -> anyhow::Result<Vec<Told>> {
    let mut tills = JoinSet::new();
    let mut due = interval(Duration::from_micros(1_000_000 / rate));
    for n in 0..WARM {
        due.tick().await;
        let (client, merchants) = (Arc::clone(client), Arc::clone(merchants));
        let place = usize::try_from(n)? % merchants.len();
        let number: MerchantId = *site.numbers.get(place).context("a number")?;
        tills.spawn(async move {
            let out_trade_no = format!("WARM{n:010}");
            let key = OrderKey { merchant: number, number: out_trade_no.parse()? };
            let (fen, code) = (FEN.to_string(), Code::for_customer(0, n + 1));
            let fields = [
                (field::BODY, "warm"),
                (field::OUT_TRADE_NO, out_trade_no.as_str()),
                (field::TOTAL_FEE, fen.as_str()),
                (field::SPBILL_CREATE_IP, "127.0.0.1"),
                (field::AUTH_CODE, code.as_str()),
            ];
            let merchant = merchants.get(place).context("a merchant")?;
            match client.ask(merchant, "/pay/micropay", Kind::Md5, &fields).await {
                Ok(answer) if answer.success => Ok(Told { key, word: Word::Paid }),
                other => bail!("a payment without a password is answered {other:?}"),
            }
        });
    }
    tills.join_all().await.into_iter().collect()
}

/// Begins all payments on time, looks at the switch when all are pending, and waits until each till has its word.
async fn crowd(
    shop: &Arc<Shop>,
    args: &Pending,
    seed: u64,
    switch: u32,
    say: &dyn Fn(String),
) -> anyhow::Result<(Vec<Told>, Cost)> {
    let mut rng = Rng::keyed(seed, "pending");
    let mut tills = JoinSet::new();
    let mut due = interval(Duration::from_micros(1_000_000 / args.rate));
    for n in 0..args.count {
        due.tick().await;
        let ends = shop.full + Duration::from_millis(args.quiet_s * 1_000 + rng.below(args.ending_s * 1_000));
        let draw = rng.below(100);
        tills.spawn(till(Arc::clone(shop), n, draw, ends));
        if n % args.rate == 0 {
            say(format!("{} of {} begun", shop.begun.load(Ordering::Relaxed), args.count));
        }
    }
    let mut cost = Cost::default();
    let until = shop.ended + shop.give_up + CALM;
    let mut look = interval(LOOK_EVERY);
    let mut told = Vec::new();
    let quiet_ends = shop.full + Duration::from_secs(args.quiet_s);
    while !tills.is_empty() {
        if Instant::now() > until {
            bail!("{} tills have no definite word", tills.len());
        }
        tokio::select! {
            one = tills.join_next() => told.extend(one.transpose()?.transpose()?),
            _ = look.tick() => {
                let pending = crate::web::metric(shop.site.admin, "hufu_pending_payments").await?;
                if Instant::now() < quiet_ends {
                    cost.pending = cost.pending.max(pending);
                    cost.full = cost.full.max(resident(switch)?);
                }
                say(format!("{pending} pending, {} tills have their word", told.len()));
            }
        }
    }
    Ok((told, cost))
}

/// One till: asks for the payment, and from the moment on at which it should be over until it is.
async fn till(shop: Arc<Shop>, n: u64, draw: u64, ends: Instant) -> anyhow::Result<Told> {
    let place = usize::try_from(n)? % shop.merchants.len();
    let merchant = shop.merchants.get(place).context("a merchant")?;
    let number: MerchantId = *shop.site.numbers.get(place).context("a number")?;
    let out_trade_no = format!("WAIT{n:010}");
    let key = OrderKey { merchant: number, number: out_trade_no.parse()? };
    let begun = Instant::now();
    let seconds = (ends - begun).as_secs().clamp(1, CUSTOMER_MAX_S);
    // They pay; the wallet closes or revokes it; or they pay in the moment in which they are given up.
    let (customer, first) = match draw {
        0..90 => (100 + seconds, ends),
        90..94 => (3_300 + seconds, ends),
        94..98 => (3_400 + seconds, ends),
        _ => (1_600, begun + shop.give_up),
    };
    let (fen, code) = (FEN.to_string(), Code::for_customer(u16::try_from(customer)?, WARM + n + 1));
    let fields = [
        (field::BODY, "pending"),
        (field::OUT_TRADE_NO, out_trade_no.as_str()),
        (field::TOTAL_FEE, fen.as_str()),
        (field::SPBILL_CREATE_IP, "127.0.0.1"),
        (field::AUTH_CODE, code.as_str()),
    ];
    let answer = shop.client.ask(merchant, "/pay/micropay", Kind::Md5, &fields).await;
    shop.begun.fetch_add(1, Ordering::Relaxed);
    match answer {
        Ok(answer) if answer.err_code == "USERPAYING" => {}
        Ok(answer) if answer.err_code == "FREQUENCY_LIMITED" => {
            return Ok(Told { key, word: Word::NotTaken });
        }
        // No answer is no word: the till asks, as any does.
        Err(_) => {}
        Ok(other) => bail!("payment {n} is answered {other:?}"),
    }
    sleep_until(first + ASK_AFTER).await;
    loop {
        shop.asked.fetch_add(1, Ordering::Relaxed);
        let fields = [(field::OUT_TRADE_NO, out_trade_no.as_str())];
        let answer = shop.client.ask(merchant, "/pay/orderquery", Kind::Md5, &fields).await;
        let word = match answer {
            Ok(answer) => match (answer.trade_state.as_str(), answer.err_code.as_str()) {
                ("SUCCESS", _) => Some(Word::Paid),
                ("REVOKED" | "PAYERROR" | "CLOSED", _) => Some(Word::NotPaid),
                (_, "ORDERNOTEXIST") => Some(Word::NotTaken),
                _ => None,
            },
            Err(_) => None,
        };
        if let Some(word) = word {
            return Ok(Told { key, word });
        }
        sleep(POLL).await;
    }
}

/// Whether a till's last word and the store's record are the same outcome.
const fn agrees(word: Word, ending: Ending) -> bool {
    matches!(
        (word, ending),
        (Word::Paid, Ending::Paid)
            | (Word::NotPaid, Ending::Failed | Ending::Reversed)
            | (Word::NotTaken, Ending::NotTaken)
    )
}
