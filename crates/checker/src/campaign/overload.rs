//! More payments than the switch may take: what becomes of those it takes, and of those it does not.
//!
//! The limit is the provider's quota of pay requests, as it is in production. Real processes: a wallet, the switch, and
//! `hufu load` as the tills, whose schedule nothing changes. In turn: the load it was built for, its peak, three times
//! that, and at once again what it was built for. Then one merchant asks a hundred times its own rate beside the others.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use clap::Args;
use protocol::wechat_v2::field;
use serde_json::{Value, json};
use signer::{Key, Kind};
use simulator::Code;
use till::client::{Client, Merchant};
use tokio::time::sleep;

use super::{Bench, Rig, STOP_MAX};
use crate::process::without_settings;
use crate::report::Report;
use crate::usage::Cpu;

/// Of its peak, what the switch is built for, in percent.
const NORMAL_PERCENT: u32 = 80;
/// Of its peak, what the others ask while one merchant asks too much, in percent.
const OTHERS_PERCENT: u32 = 50;
/// What that merchant may, in a second, and how many times that it asks.
const OWN_PER_SECOND: u32 = 5;
const OWN_TIMES: u32 = 100;
/// Seconds after the overload in which everything may still be as it was under it.
const RECOVERY_S: u32 = 10;
/// Customers: most pay at once, some after three seconds, some do not pay.
const CUSTOMERS: &str = "00=85,0103=10,05=5";
/// What every refusal must say.
const NOTHING_SENT: &str = "未扣款";

/// `checker overload`.
#[derive(Clone, Debug, Args)]
pub struct Overload {
    /// The provider's quota: pay requests in a second.
    #[arg(long, default_value_t = 300, value_name = "N", value_parser = clap::value_parser!(u32).range(20..=5_000))]
    pub capacity: u32,
    /// Times the capacity that is asked for.
    #[arg(long, default_value_t = 3, value_name = "N", value_parser = clap::value_parser!(u32).range(2..=20))]
    pub times: u32,
    /// How long that lasts, in seconds.
    #[arg(long, default_value_t = 120, value_name = "S", value_parser = clap::value_parser!(u32).range(2..=3_600))]
    pub overload_s: u32,
    /// How long each other part lasts, in seconds.
    #[arg(long, default_value_t = 30, value_name = "S", value_parser = clap::value_parser!(u32).range(2..=3_600))]
    pub seconds: u32,
    /// Rounds without and with the merchant that asks too much, in turn.
    #[arg(long, default_value_t = 3, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=20))]
    pub rounds: u32,
    /// Only say how long things took: a short run on a machine that does other things too.
    #[arg(long)]
    pub untimed: bool,
}

/// What the tills of one part saw.
struct Part {
    /// Taken in each second, in hundredths.
    taken: u64,
    /// Taken in all.
    accepted: u64,
    refused: u64,
    accepted_p50_us: u64,
    accepted_p99_us: u64,
    refused_p50_us: u64,
    refused_p99_us: u64,
    lost: u64,
    books: bool,
    generator: String,
    /// Processor time of the switch, in milliseconds.
    cpu_ms: u64,
}

/// Runs it.
///
/// # Errors
///
/// When processes cannot be started, or a part cannot be read.
pub async fn run(bench: &Bench, args: &Overload, say: &dyn Fn(String)) -> anyhow::Result<Report> {
    let mut report = Report::new("overload");
    let capacity = args.capacity;
    let mut rig =
        Rig::start_with(bench, "overload", 1, 1_000, |policy| policy.pay_per_second = capacity).await?;
    let stand = Stand::new(bench, &rig)?;
    let normal_rate = capacity * NORMAL_PERCENT / 100;
    say(format!("{normal_rate} payments a second: what it was built for"));
    let normal = stand.part(normal_rate, args.seconds, 3, &stand.all).await?;
    say(format!("{capacity} payments a second: its peak"));
    let peak = stand.part(capacity, args.seconds, 0, &stand.all).await?;
    say(format!("{} payments a second: too many", capacity * args.times));
    let told = async {
        sleep(Duration::from_secs(u64::from(args.overload_s) / 2)).await;
        stand.refusal().await
    };
    let (flood, refusal) =
        tokio::join!(stand.part(capacity * args.times, args.overload_s, 0, &stand.all), told);
    let (flood, refusal) = (flood?, refusal?);
    say(format!("{normal_rate} payments a second again"));
    let after = stand.part(normal_rate, args.seconds, RECOVERY_S, &stand.all).await?;
    let noisy = noisy(&stand, args, &rig, say).await?;
    rig.switch.stop(STOP_MAX).await?;

    report.figure("pay requests that the provider may send in a second", capacity);
    report.figure("customers", CUSTOMERS);
    let parts = [("normal", &normal), ("peak", &peak), ("overload", &flood), ("afterwards", &after)];
    for (name, part) in parts {
        report.figure(name, part.seen());
    }
    report.figure("what a refusal says", &refusal);
    let each_us = cost_us(&peak, &flood);
    report.figure("processor time of one refusal, us", each_us);
    report.figure("processor time of one payment, us", normal.cpu_ms * 1_000 / normal.accepted.max(1));
    report.figure("others beside one that asks too much: p99 without, with, us", json!(noisy));
    for (name, part) in parts {
        report.check(part.books, || format!("{name}: the books do not agree"));
        report.check(part.lost == 0, || format!("{name}: {} requests were lost", part.lost));
    }
    report.check(refusal.contains(NOTHING_SENT), || format!("a refusal says {refusal:?}"));
    let percent = flood.taken * 100 / peak.taken.max(1);
    report.figure("goodput under overload, percent of the peak", percent);
    report.check(percent >= 90, || format!("under overload {percent} % of the peak are taken"));
    // Customers come as they like, so in some seconds there are more than the quota at any time.
    report.check(after.refused * 100 <= after.accepted, || {
        format!("{} refused {RECOVERY_S} s after the overload and later", after.refused)
    });
    if !args.untimed {
        let slower = flood.accepted_p99_us * 100 / normal.accepted_p99_us.max(1);
        report.check(slower <= 200, || format!("p99 of what is taken: {slower} % of normal"));
        let still = after.accepted_p99_us * 100 / normal.accepted_p99_us.max(1);
        report.check(still <= 125, || format!("p99 afterwards: {still} % of normal"));
        let beside = noisy[1] * 100 / noisy[0].max(1);
        report.check(beside < 110, || format!("p99 of others beside one that asks too much: {beside} %"));
        for (name, part) in parts {
            report.check(part.generator.is_empty(), || format!("{name}: {}", part.generator));
        }
    }
    Ok(report)
}

/// What one refusal costs: what the overload cost beyond the payments that it took, each at its price at the peak.
fn cost_us(peak: &Part, flood: &Part) -> u64 {
    let payments_us = peak.cpu_ms * 1_000 / peak.accepted.max(1) * flood.accepted;
    (flood.cpu_ms * 1_000).saturating_sub(payments_us) / flood.refused.max(1)
}

fn hundredths(count: u64) -> String {
    format!("{}.{:02}", count / 100, count % 100)
}

/// One merchant asks a hundred times its rate: the p99 of others without and with it, medians of the rounds.
async fn noisy(stand: &Stand, args: &Overload, rig: &Rig, say: &dyn Fn(String)) -> anyhow::Result<[u64; 2]> {
    let own = OWN_PER_SECOND.to_string();
    let whose = format!("#{}", rig.site.numbers.first().context("a merchant")?.0);
    rig.site.hufu(&["merchant", "set", &whose, "--per-second", &own, "--burst", &own])?;
    let rate = args.capacity * OTHERS_PERCENT / 100;
    let (mut quiet, mut beside) = (Vec::new(), Vec::new());
    for round in 1..=args.rounds {
        say(format!("one merchant asks too much: round {round} of {}", args.rounds));
        let alone = stand.part(rate, args.seconds, 2, &stand.others).await?;
        // It has asked for a while when the others are measured, and does so until they are done.
        let asks = stand.part(OWN_PER_SECOND * OWN_TIMES, args.seconds + 4, 0, &stand.first);
        let (with, asked) = tokio::join!(stand.part(rate, args.seconds, 2, &stand.others), asks);
        let (with, asked) = (with?, asked?);
        ensure!(asked.refused > asked.accepted, "the merchant that asks too much is not refused");
        ensure!((with.refused + alone.refused) * 100 <= with.accepted, "others are refused");
        quiet.push(alone.accepted_p99_us);
        beside.push(with.accepted_p99_us);
    }
    Ok([median(quiet), median(beside)])
}

fn median(mut all: Vec<u64>) -> u64 {
    all.sort_unstable();
    all.get(all.len() / 2).copied().unwrap_or(0)
}

/// Whom the tills are, and whom they ask.
struct Stand {
    hufu: PathBuf,
    gateway: String,
    books: String,
    pid: u32,
    /// Files that name merchants.
    all: PathBuf,
    others: PathBuf,
    first: PathBuf,
    client: Client,
    merchant: Merchant,
}

impl Stand {
    fn new(bench: &Bench, rig: &Rig) -> anyhow::Result<Self> {
        let merchants = &rig.site.merchants;
        let file = |name: &str, lines: &[String]| -> anyhow::Result<PathBuf> {
            let path = rig.site.folder.join(name);
            std::fs::write(&path, lines.join("\n"))?;
            Ok(path)
        };
        let lines: Vec<String> =
            merchants.iter().map(|one| format!("{}:{}:{}", one.mch_id, one.key, one.appid)).collect();
        let (first, others) = lines.split_at(1);
        let identity = merchants.get(1).context("two merchants")?.clone();
        Ok(Self {
            hufu: bench.hufu.clone(),
            gateway: format!("http://{}", rig.site.gateway),
            books: format!("http://{}", rig.wallet.plain),
            pid: rig.switch.id(),
            all: file("all.txt", &lines)?,
            others: file("others.txt", others)?,
            first: file("first.txt", first)?,
            client: Client::new(rig.site.gateway),
            merchant: Merchant { key: Key::new(&identity.key)?, identity },
        })
    }

    /// Tills of the merchants in `who`, `rate` payments a second for `seconds` after `warmup` that are not measured.
    async fn part(&self, rate: u32, seconds: u32, warmup: u32, who: &Path) -> anyhow::Result<Part> {
        let before = Cpu::of(&[self.pid])?;
        let mut command = Command::new(&self.hufu);
        without_settings(&mut command);
        command.args(["load", &self.gateway, "--json", "--customer", CUSTOMERS, "--connections", "256"]);
        command.args(["--rate", &rate.to_string(), "--duration", &seconds.to_string()]);
        command.args(["--warmup", &warmup.to_string(), "--books", &self.books, "--merchants"]).arg(who);
        command.stdin(Stdio::null());
        let done = tokio::task::spawn_blocking(move || command.output()).await??;
        let read: Value = serde_json::from_slice(&done.stdout)
            .with_context(|| format!("hufu load: {}", String::from_utf8_lossy(&done.stderr)))?;
        Part::read(&read, Cpu::of(&[self.pid])?.since(before).us() / 1_000)
    }

    /// What somebody is told who is not taken.
    async fn refusal(&self) -> anyhow::Result<String> {
        for n in 0..2_000_u64 {
            let number = format!("REFUSED{n:06}");
            let code = Code::for_customer(0, 900_000 + n);
            let fields = [
                (field::BODY, "tea"),
                (field::OUT_TRADE_NO, number.as_str()),
                (field::TOTAL_FEE, "1"),
                (field::SPBILL_CREATE_IP, "203.0.113.10"),
                (field::AUTH_CODE, code.as_str()),
            ];
            let answer = self.client.ask(&self.merchant, "/pay/micropay", Kind::Md5, &fields).await;
            if let Some(answer) = answer.ok().filter(|answer| answer.err_code == "FREQUENCY_LIMITED") {
                return Ok(answer.err_code_des);
            }
        }
        bail!("nobody is refused")
    }
}

impl Part {
    #[expect(clippy::float_arithmetic, reason = "a rate, as it is reported")]
    fn read(read: &Value, cpu_ms: u64) -> anyhow::Result<Self> {
        let at = |path: &str| read.pointer(path).and_then(Value::as_u64).unwrap_or(0);
        let results = read.pointer("/payments/results").and_then(Value::as_object).context("results")?;
        let limited = "/payments/results/FREQUENCY_LIMITED";
        let paid = "/payments/results/SUCCESS";
        let refused = at(&format!("{limited}/count"));
        let answered: u64 = results.values().filter_map(|one| one.get("count")?.as_u64()).sum();
        let taken = read.get("taken_per_second").and_then(Value::as_f64).context("taken_per_second")?;
        Ok(Self {
            taken: format!("{:.0}", taken * 100.0).parse()?,
            accepted: answered.saturating_sub(refused),
            refused,
            accepted_p50_us: at(&format!("{paid}/p50")),
            accepted_p99_us: at(&format!("{paid}/p99")),
            refused_p50_us: at(&format!("{limited}/p50")),
            refused_p99_us: at(&format!("{limited}/p99")),
            lost: at("/payments/lost") + at("/payments/timed_out") + at("/payments/unanswered"),
            books: read.pointer("/books/agree").and_then(Value::as_bool).unwrap_or(false),
            generator: read.pointer("/generator/reason").and_then(Value::as_str).unwrap_or("?").to_owned(),
            cpu_ms,
        })
    }

    fn seen(&self) -> Value {
        json!({
            "taken in a second": hundredths(self.taken),
            "taken": self.accepted,
            "refused": self.refused,
            "paid p50 us": self.accepted_p50_us,
            "paid p99 us": self.accepted_p99_us,
            "refused p50 us": self.refused_p50_us,
            "refused p99 us": self.refused_p99_us,
            "switch cpu ms": self.cpu_ms,
        })
    }
}
