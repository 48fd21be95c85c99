//! Very many tills that are held at once: what each costs the switch, and how soon they hear.
//!
//! In one run: tills that poll every 5 s (relay), tills whose query waits (long poll), tills whose pay request waits
//! (hold mode), tills that listen to their payment's events, and listeners to all of a merchant's. How late a till is told is the time between the moment that the switch's record names and the moment
//! at which the till had read the answer, by one wall clock.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context as _, bail};
use clap::Args;
use protocol::wechat_v2::field;
use serde_json::json;
use signer::{Key, Kind};
use simulator::http::unix_ms;
use simulator::{Code, Rng};
use state_machine::record::State;
use state_machine::{MerchantId, OrderKey};
use till::books::records;
use till::client::{Answer, Client, Merchant, NoAnswer};
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::{Instant, interval, sleep, sleep_until, timeout};

use self::listen::Stream;
use super::{Bench, STOP_MAX};
use crate::ledger;
use crate::report::Report;
use crate::site::{Policy, Site, Wallet};
use crate::usage::resident;

mod listen;

/// What each payment is about, in fen.
const FEN: u64 = 1_288;
/// From the last held till to the first customer who pays.
const QUIET: Duration = Duration::from_secs(25);
/// In which time they pay.
const PAYING_S: u64 = 20;
/// How often a till of relay mode asks. Source: wechatpay-v2 §4.3.
const POLL: Duration = Duration::from_secs(5);
/// How often the switch's memory is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(200);
/// How long one till may take altogether.
const PATIENCE: Duration = Duration::from_secs(240);
/// How long after the last till a merchant's stream may still lack a payment.
const SILENCE: Duration = Duration::from_secs(10);
/// One till in so many hangs up while it is held, and never asks again.
const HANGS_UP_ONE_IN: u64 = 20;
/// For so many tills that are to be held at once one more comes.
const SPARE_ONE_IN: u64 = 100;
/// Merchants that poll, merchants in hold mode, and merchants that listen; all others have the long poll.
const APART: usize = 4;

/// `checker held`.
#[derive(Clone, Debug, Args)]
pub struct Held {
    /// Tills whose queries are held at once; some more come, since a few are always between two queries.
    #[arg(long, default_value_t = 15_000, value_name = "N", value_parser = clap::value_parser!(u64).range(20..=18_000))]
    pub count: u64,
    /// Tills in relay mode, as many in hold mode, and as many that listen, beside them.
    #[arg(long, default_value_t = 300, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=1_000))]
    pub beside: u64,
    /// Payments that begin in a second.
    #[arg(long, default_value_t = 400, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=2_000))]
    pub rate: u64,
    /// How long a query waits, in milliseconds: the merchants' setting.
    #[arg(long, default_value_t = 7_000, value_name = "MS")]
    pub long_poll_ms: u32,
    /// The most memory that one held request may cost, in bytes.
    #[arg(long, default_value_t = 24 * 1_024, value_name = "BYTES")]
    pub bytes_max: u64,
}

/// How a till hears.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Manner {
    Relay,
    LongPoll,
    Hold,
    /// Server-sent events of the payment.
    Stream,
    /// The same payments, heard in the stream of their merchant.
    MerchantStream,
}

/// One payment and the moment at which its till had the outcome.
struct Told {
    manner: Manner,
    key: OrderKey,
    /// `None` for a till that hung up.
    told_ms: Option<i64>,
}

/// What all tills share.
struct Stand {
    site: Site,
    merchants: Vec<Merchant>,
    /// For what is not held.
    client: Client,
    /// Queries that the long-poll tills have under way.
    held: AtomicU64,
}

/// Runs it.
///
/// # Errors
///
/// When processes cannot be started, or a till has no outcome in the end.
pub async fn run(bench: &Bench, args: &Held, say: &dyn Fn(String)) -> anyhow::Result<Report> {
    let mut report = Report::new("held tills");
    let folder = bench.folder("held")?;
    let wallet = Wallet::start(&bench.hufu, folder.path(), bench.seed, 1, 1_000)?;
    // Nobody is given up: what is measured is how an outcome is told.
    let policy = Policy { query_per_second: 4_000, ..Policy::patient(300_000) };
    let site = Site::make(&bench.hufu, folder.path(), folder.path(), wallet.tls, &policy, bench.seed)?;
    let merchants = site.merchants.iter().map(|identity| {
        Ok(Merchant { identity: identity.clone(), key: Key::new(&identity.key).context("a key")? })
    });
    let merchants = merchants.collect::<anyhow::Result<Vec<_>>>()?;
    for (place, number) in site.numbers.iter().enumerate() {
        let whose = format!("#{}", number.0);
        let poll = args.long_poll_ms.to_string();
        let settings: &[&str] = match manner_of(place) {
            Manner::Relay | Manner::Stream | Manner::MerchantStream => {
                &["--mode", "relay", "--long-poll-ms", "0"]
            }
            Manner::LongPoll => &["--mode", "relay", "--long-poll-ms", &poll],
            Manner::Hold => &["--mode", "hold", "--hold-ms", "30000"],
        };
        site.hufu(&[&["merchant", "set", &whose], settings].concat())?;
    }
    let (mut switch, _) = site.serve().await?;
    let stand =
        Arc::new(Stand { client: Client::new(site.gateway), merchants, held: AtomicU64::new(0), site });
    let seen = tills(&stand, args, bench.seed, &switch, say).await?;
    switch.stop(STOP_MAX).await?;
    compare(&stand.site, &wallet, &seen.told, &mut report).await?;
    let each = seen.after.saturating_sub(seen.before).checked_div(seen.most_held).unwrap_or(0);
    report.figure("seed", bench.seed);
    report.figure("held at once", seen.most_held);
    report.figure("long poll, ms", args.long_poll_ms);
    report.figure("resident before, KiB", seen.before / 1_024);
    report.figure("resident while all are held, KiB", seen.after / 1_024);
    report.figure("bytes for each held request", each);
    report.figure(
        "tills that hung up while they were held",
        seen.told.iter().filter(|one| one.told_ms.is_none()).count(),
    );
    delays(&stand.site, &seen.told, &mut report)?;
    report.check(each <= args.bytes_max, || format!("{each} bytes for each held request"));
    report.check(seen.most_held >= args.count, || format!("only {} were held at once", seen.most_held));
    Ok(report)
}

/// The merchants are shared out by their place.
const fn manner_of(place: usize) -> Manner {
    match place {
        0..APART => Manner::Relay,
        place if place < 2 * APART => Manner::Hold,
        place if place < 3 * APART => Manner::Stream,
        _ => Manner::LongPoll,
    }
}

struct Seen {
    told: Vec<Told>,
    most_held: u64,
    /// Resident bytes of the switch with every payment open and nobody held.
    before: u64,
    /// The same with all tills held and none beside them, at most.
    after: u64,
}

/// Begins the payments, lets the tills ask, and waits until each has its outcome.
async fn tills(
    stand: &Arc<Stand>,
    args: &Held,
    seed: u64,
    switch: &crate::process::Process,
    say: &dyn Fn(String),
) -> anyhow::Result<Seen> {
    let mut rng = Rng::keyed(seed, "held");
    let began = Instant::now();
    let count = args.count + args.count / SPARE_ONE_IN;
    let asking = began + Duration::from_secs(count / args.rate + 3);
    let paying = asking + QUIET;
    let mut all = JoinSet::new();
    let mut due = interval(Duration::from_micros(1_000_000 / args.rate));
    for n in 0..count {
        due.tick().await;
        let seconds = (paying - Instant::now()).as_secs() + rng.below(PAYING_S);
        let place = 3 * APART + usize::try_from(n)? % (stand.merchants.len() - 3 * APART);
        let hangs_up = n % HANGS_UP_ONE_IN == 0;
        all.spawn(long_polling(Arc::clone(stand), n, place, seconds, asking, hangs_up));
    }
    let listeners = listeners(stand, args.beside).await?;
    sleep_until(asking).await;
    let before = resident(switch.id())?;
    say(format!("{count} payments are open; their tills ask"));
    let (mut most_held, mut after) = (0, 0);
    let mut beside = 0;
    let mut look = interval(LOOK_EVERY);
    let mut told = Vec::new();
    let until = paying + PATIENCE;
    while !all.is_empty() {
        if Instant::now() > until {
            bail!("{} tills have no outcome", all.len());
        }
        tokio::select! {
            one = all.join_next() => told.extend(one.transpose()?.transpose()?),
            _ = look.tick() => {
                let held = stand.held.load(Ordering::Relaxed);
                most_held = most_held.max(held);
                if Instant::now() < asking + QUIET / 2 {
                    after = after.max(resident(switch.id())?);
                }
                // The others come a few at a time, in the quiet before everybody pays and after it has begun.
                if Instant::now() > asking + QUIET / 2 && beside < args.beside {
                    let n = count + 3 * beside;
                    let place = usize::try_from(beside)? % APART;
                    all.spawn(relay(Arc::clone(stand), n, place, 10 + rng.below(15)));
                    all.spawn(hold(Arc::clone(stand), n + 1, APART + place, 5 + rng.below(10)));
                    all.spawn(listening(Arc::clone(stand), n + 2, 2 * APART + place, 5 + rng.below(15)));
                    beside += 1;
                }
                say(format!("{held} held, {} have their outcome", told.len()));
            }
        }
    }
    told.extend(heard(listeners, &told).await?);
    Ok(Seen { told, most_held, before, after })
}

/// What a merchant's listener heard to be paid, and when.
type Hearing = JoinHandle<anyhow::Result<HashMap<String, i64>>>;

/// A stream for each merchant of those that listen, before the first of their payments.
async fn listeners(stand: &Stand, beside: u64) -> anyhow::Result<Vec<(MerchantId, Hearing)>> {
    let mut all = Vec::new();
    for turn in 0..APART {
        let place = 2 * APART + turn;
        let merchant = stand.merchants.get(place).context("a merchant")?;
        let stream = Stream::open(stand.site.gateway, merchant, "/v1/events").await?;
        let turn = u64::try_from(turn)?;
        let count = (beside + u64::try_from(APART)? - 1 - turn) / u64::try_from(APART)?;
        all.push((*stand.site.numbers.get(place).context("a number")?, tokio::spawn(stream.paid(count))));
    }
    Ok(all)
}

/// Each payment of a till that listened, as its merchant's stream told it.
async fn heard(listeners: Vec<(MerchantId, Hearing)>, told: &[Told]) -> anyhow::Result<Vec<Told>> {
    let mut all = Vec::new();
    for (merchant, hearing) in listeners {
        let paid = timeout(SILENCE, hearing).await.context("a merchant's stream lacks payments")???;
        for one in told.iter().filter(|one| one.manner == Manner::Stream && one.key.merchant == merchant) {
            let told_ms = paid.get(&one.key.number.to_string()).copied();
            let told_ms = Some(told_ms.context("a payment is not in its merchant's stream")?);
            all.push(Told { manner: Manner::MerchantStream, key: one.key, told_ms });
        }
    }
    Ok(all)
}

/// A till whose queries wait.
async fn long_polling(
    stand: Arc<Stand>,
    n: u64,
    place: usize,
    seconds: u64,
    asking: Instant,
    hangs_up: bool,
) -> anyhow::Result<Told> {
    let (key, merchant) = stand.sale(n, place)?;
    stand.pay(n, merchant, seconds).await?;
    // In the time that the first of them wait, and not all in one moment.
    sleep_until(asking + Duration::from_micros(n * 300)).await;
    let number = key.number.to_string();
    let fields = [(field::OUT_TRADE_NO, number.as_str())];
    // A connection of its own.
    let client = Client::new(stand.site.gateway);
    if hangs_up {
        // In the middle of its second question.
        stand.held.fetch_add(1, Ordering::Relaxed);
        let answer = client.ask(merchant, "/pay/orderquery", Kind::Md5, &fields).await;
        if is_paid(answer)? {
            bail!("{number} is paid before anybody pays");
        }
        client.ask_and_hang_up(merchant, "/pay/orderquery", &fields, Duration::from_secs(6)).await;
        stand.held.fetch_sub(1, Ordering::Relaxed);
        return Ok(Told { manner: Manner::LongPoll, key, told_ms: None });
    }
    loop {
        stand.held.fetch_add(1, Ordering::Relaxed);
        let answer = client.ask(merchant, "/pay/orderquery", Kind::Md5, &fields).await;
        let told_ms = unix_ms();
        stand.held.fetch_sub(1, Ordering::Relaxed);
        if is_paid(answer)? {
            return Ok(Told { manner: Manner::LongPoll, key, told_ms: Some(told_ms) });
        }
    }
}

/// A till that asks again every few seconds.
async fn relay(stand: Arc<Stand>, n: u64, place: usize, seconds: u64) -> anyhow::Result<Told> {
    let (key, merchant) = stand.sale(n, place)?;
    stand.pay(n, merchant, seconds).await?;
    let number = key.number.to_string();
    loop {
        sleep(POLL).await;
        let fields = [(field::OUT_TRADE_NO, number.as_str())];
        if is_paid(stand.client.ask(merchant, "/pay/orderquery", Kind::Md5, &fields).await)? {
            return Ok(Told { manner: Manner::Relay, key, told_ms: Some(unix_ms()) });
        }
    }
}

/// A till that listens to its payment.
async fn listening(stand: Arc<Stand>, n: u64, place: usize, seconds: u64) -> anyhow::Result<Told> {
    let (key, merchant) = stand.sale(n, place)?;
    stand.pay(n, merchant, seconds).await?;
    let path = format!("/v1/payments/{}/events", key.number);
    let mut stream = Stream::open(stand.site.gateway, merchant, &path).await?;
    loop {
        let heard = stream.next().await?;
        match heard.state.as_str() {
            "paid" => return Ok(Told { manner: Manner::Stream, key, told_ms: Some(heard.at_ms) }),
            "processing" | "awaiting_password" => {}
            other => bail!("{number} is told {other}", number = key.number),
        }
    }
}

/// A till whose pay request waits.
async fn hold(stand: Arc<Stand>, n: u64, place: usize, seconds: u64) -> anyhow::Result<Told> {
    let (key, merchant) = stand.sale(n, place)?;
    let client = Client::new(stand.site.gateway);
    let answer = stand.ask_to_pay(&client, n, merchant, seconds).await;
    let mut told_ms = unix_ms();
    let answer = answer.map_err(|err| anyhow::anyhow!("{number}: {err:?}", number = key.number))?;
    if !answer.success {
        // Longer than the hold time: it asks, as any till does.
        let number = key.number.to_string();
        let fields = [(field::OUT_TRADE_NO, number.as_str())];
        while !is_paid(client.ask(merchant, "/pay/orderquery", Kind::Md5, &fields).await)? {}
        told_ms = unix_ms();
    }
    Ok(Told { manner: Manner::Hold, key, told_ms: Some(told_ms) })
}

impl Stand {
    fn sale(&self, n: u64, place: usize) -> anyhow::Result<(OrderKey, &Merchant)> {
        let merchant = *self.site.numbers.get(place).context("a number")?;
        let key = OrderKey { merchant, number: number(n).parse()? };
        Ok((key, self.merchants.get(place).context("a merchant")?))
    }

    async fn ask_to_pay(
        &self,
        client: &Client,
        n: u64,
        merchant: &Merchant,
        seconds: u64,
    ) -> Result<Answer, NoAnswer> {
        let (number, fen) = (number(n), FEN.to_string());
        let customer = 100 + u16::try_from(seconds.clamp(1, 99)).unwrap_or(99);
        let code = Code::for_customer(customer, n);
        let fields = [
            (field::BODY, "held"),
            (field::OUT_TRADE_NO, number.as_str()),
            (field::TOTAL_FEE, fen.as_str()),
            (field::SPBILL_CREATE_IP, "127.0.0.1"),
            (field::AUTH_CODE, code.as_str()),
        ];
        client.ask(merchant, "/pay/micropay", Kind::Md5, &fields).await
    }

    /// Begins a payment whose customer enters the password after `seconds`.
    async fn pay(&self, n: u64, merchant: &Merchant, seconds: u64) -> anyhow::Result<()> {
        match self.ask_to_pay(&self.client, n, merchant, seconds).await {
            Ok(answer) if answer.err_code == "USERPAYING" => Ok(()),
            other => bail!("payment {n} is not open: {other:?}"),
        }
    }
}

fn number(n: u64) -> String {
    format!("HELD{n:010}")
}

/// Whether a query's answer is the outcome; every customer here pays.
fn is_paid(answer: Result<Answer, NoAnswer>) -> anyhow::Result<bool> {
    match answer {
        Ok(answer) if answer.trade_state == "SUCCESS" => Ok(true),
        Ok(answer) if answer.trade_state == "USERPAYING" => Ok(false),
        other => bail!("a query is answered {other:?}"),
    }
}

/// Every payment must be paid, once, in the switch's book and the wallet's; also where the till hung up.
async fn compare(site: &Site, wallet: &Wallet, told: &[Told], report: &mut Report) -> anyhow::Result<()> {
    let ledger = ledger::fetch(wallet.plain).await?;
    let records = records(&site.store, &site.seal_key)?;
    let verdict = &mut report.verdict;
    // What a merchant's stream told are payments of other tills.
    for one in told.iter().filter(|one| one.manner != Manner::MerchantStream) {
        verdict.payments += 1;
        let number = one.key.number.to_string();
        let at = site.numbers.iter().position(|of| *of == one.key.merchant);
        let upstream = at.and_then(|at| site.merchants.get(at)).context("a merchant")?.upstream.clone();
        let entry = ledger.get(&(upstream, number.clone()));
        let held = entry.map_or(0, simulator::Entry::held_fen);
        verdict.held_fen += held;
        verdict.charged_twice += u64::from(entry.is_some_and(|entry| entry.captures > 1));
        match records.get(&(one.key.merchant, number)).map(|record| record.state) {
            Some(State::Paid) => {
                verdict.paid += 1;
                verdict.told_fen += FEN;
                verdict.contradicted += u64::from(held != FEN);
            }
            _ => verdict.lost += 1,
        }
    }
    Ok(())
}

/// How late the tills were told, for each manner.
fn delays(site: &Site, told: &[Told], report: &mut Report) -> anyhow::Result<()> {
    let records = records(&site.store, &site.seal_key)?;
    for (manner, name) in [
        (Manner::Relay, "relay, poll every 5 s: the switch knows -> the till has it, ms"),
        (Manner::LongPoll, "long poll: the same"),
        (Manner::Hold, "hold: the same"),
        (Manner::Stream, "server-sent events of the payment: the same"),
        (Manner::MerchantStream, "server-sent events of the merchant: the same"),
    ] {
        let mut late: Vec<i64> = told
            .iter()
            .filter(|one| one.manner == manner)
            .filter_map(|one| {
                let record = records.get(&(one.key.merchant, one.key.number.to_string()))?;
                Some((one.told_ms? - record.decided_at?.0).max(0))
            })
            .collect();
        late.sort_unstable();
        let at = |percent: usize| late.get(late.len() * percent / 100).or(late.last()).copied();
        report.figure(
            name,
            json!({ "tills": late.len(), "p50": at(50), "p95": at(95), "p99": at(99), "max": late.last() }),
        );
    }
    Ok(())
}
