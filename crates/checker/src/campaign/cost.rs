//! What a payment costs the switch in processor time, beside nginx and beside the switch's own parts, all in one run.
//!
//! Everything is measured at the same rate, at moments of the same kind (independent customers), by processes of their
//! own on the same machine, and counts what the kernel did for them too. Tills speak plain HTTP to the switch, to nginx and
//! to the bare server alike; all speak TLS without a client certificate to the same wallet, over connections that stay
//! open. The bodies that nginx hands on are those that the switch makes: signed with the provider's key.

mod durable;
mod nginx;
pub mod part;
mod rounds;

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use clap::Args;
use load::{Account, Live, Plan, Process as Arrivals, Target};
use serde_json::json;
use signer::{Key, Kind};
use simulator::Rng;
use till::credentials::{PROVIDER_APPID, PROVIDER_KEY, PROVIDER_MCH_ID};
use tokio::time::{Instant, sleep};

use self::nginx::Nginx;
use self::part::{CONNECTIONS, PartKind, Spent};
use self::rounds::{Round, Rounds};
use super::{Bench, Rig, STOP_MAX};
use crate::process::Process;
use crate::report::Report;
use crate::site::free_port;
use crate::usage::{Cpu, Threads};

/// More than anything here can serve on two processors: the connections are never free.
const TOO_MANY: u32 = 20_000;
/// How often a run is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(2);

/// `checker cost`.
#[derive(Clone, Debug, Args)]
pub struct Cost {
    /// Rounds; in each everything is measured once, in turn, and what is told are medians.
    #[arg(long, default_value_t = 3, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=99))]
    pub rounds: u32,
    /// Seconds of each measurement.
    #[arg(long, default_value_t = 8, value_name = "S", value_parser = clap::value_parser!(u32).range(1..=600))]
    pub seconds: u32,
    /// Payments a second, instead of 80 % of the peak that is found first; added latency is measured at five eighths of
    /// it.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(10..=100_000))]
    pub rate: Option<u32>,
    /// nginx [default: as it is installed, or as tests/nginx/get has unpacked it].
    #[arg(long, value_name = "FILE")]
    pub nginx: Option<PathBuf>,
    /// The most that a payment may cost, in percent of the sum of its parts; 0 only measures.
    #[arg(long, default_value_t = 130, value_name = "PERCENT")]
    pub parts_percent_max: u64,
    /// The same, in percent of what it costs nginx; 0 only measures.
    #[arg(long, default_value_t = 300, value_name = "PERCENT")]
    pub nginx_percent_max: u64,
    /// No added latency.
    #[arg(long)]
    pub no_latency: bool,
    /// One short round at a low rate that judges no cost: whether everything works.
    #[arg(long)]
    pub tiny: bool,
}

/// Something that answers payments.
struct Subject {
    target: Target,
    accounts: Vec<Account>,
    pids: Vec<u32>,
}

/// Everything of one campaign that stays up.
struct Stage {
    rig: Rig,
    nginx: Nginx,
    switch: Subject,
    proxy: Subject,
    direct: Subject,
    args: Cost,
    /// Keeps numbers and codes of runs apart.
    run: u32,
    trust: Arc<rustls::ClientConfig>,
    wrong: u64,
}

/// Runs it.
///
/// # Errors
///
/// When something cannot be started, or no payment is answered.
pub async fn run(bench: &Bench, args: &Cost, say: &dyn Fn(String)) -> anyhow::Result<Report> {
    let mut report = Report::new("cost of a payment");
    let mut args = args.clone();
    if args.tiny {
        args = Cost {
            rounds: 1,
            seconds: 1,
            rate: Some(200),
            parts_percent_max: 0,
            nginx_percent_max: 0,
            ..args
        };
    }
    let mut stage = Stage::start(bench, &args).await?;
    let rate = match args.rate {
        Some(rate) => rate,
        None => {
            say("how many payments the switch takes at most".to_owned());
            let peak = stage.peak().await?;
            report.figure("peak, payments/s", peak);
            peak * 4 / 5
        }
    };
    report.figure("rate, payments/s", rate);
    report.figure("connections of tills, processors", json!([CONNECTIONS, processors()]));
    let mut all = Rounds::default();
    for round in 0..args.rounds {
        say(format!("round {} of {} at {rate} payments/s", round + 1, args.rounds));
        all.take(&mut stage, rate).await?;
    }
    all.tell(&mut report, &args);
    if !args.no_latency {
        let half = rate * 5 / 8;
        report.figure("rate of the latencies, payments/s", half);
        stage.latencies(&mut report, half, say).await?;
    }
    report.check(stage.wrong == 0, || format!("{} payments were not paid", stage.wrong));
    let books = stage.books(rate.min(500)).await?;
    report.check(books, || "the wallet's books and what tills were told differ".to_owned());
    stage.nginx.stop().await?;
    stage.rig.switch.stop(STOP_MAX).await?;
    Ok(report)
}

fn processors() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

impl Stage {
    async fn start(bench: &Bench, args: &Cost) -> anyhow::Result<Self> {
        let program = nginx::find(args.nginx.as_deref())?;
        let rig = Rig::start_with(bench, "cost", 1, 1_000, |_| ()).await?;
        let mut rng = Rng::keyed(bench.seed ^ u64::from(std::process::id()), "nginx");
        let nginx =
            Nginx::start(&program, &rig.site.folder, free_port(&mut rng)?, rig.wallet.tls, processors())
                .await?;
        let (mut tills, mut wallets) = (Vec::new(), Vec::new());
        for one in &rig.site.merchants {
            tills.push(Account {
                mch_id: one.mch_id.clone(),
                sub_mch_id: None,
                appid: one.appid.clone(),
                key: Key::new(&one.key)?,
            });
            wallets.push(Account {
                mch_id: PROVIDER_MCH_ID.to_owned(),
                sub_mch_id: Some(one.upstream.clone()),
                appid: PROVIDER_APPID.to_owned(),
                key: Key::new(PROVIDER_KEY)?,
            });
        }
        let subject = |tls: bool, at: SocketAddr, accounts: &[Account], pids: Vec<u32>| Subject {
            target: target(tls, at),
            accounts: accounts.to_vec(),
            pids,
        };
        let ca = fs::read(rig.site.folder.join("pki/ca.pem"))?;
        let trust = load::trust(Some(&ca)).map_err(anyhow::Error::msg)?;
        Ok(Self {
            switch: subject(false, rig.site.gateway, &tills, vec![rig.switch.id()]),
            proxy: subject(false, nginx.address, &wallets, nginx.pids()?),
            direct: subject(true, rig.wallet.tls, &wallets, vec![rig.wallet.process.id()]),
            args: args.clone(),
            run: std::process::id() << 8,
            trust,
            wrong: 0,
            rig,
            nginx,
        })
    }

    fn plan(&mut self, of: &Subject, rate: u32, seconds: u32) -> Plan {
        self.run = self.run.wrapping_add(1);
        Plan {
            target: of.target.clone(),
            tls: of.target.tls.then(|| Arc::clone(&self.trust)),
            accounts: of.accounts.clone(),
            customers: "00".parse().expect("a customer that is listed"),
            arrivals: Arrivals::Poisson,
            per_second: rate,
            warmup: Duration::from_secs(1),
            duration: Duration::from_secs(seconds.into()),
            drain: Duration::from_secs(10),
            connections: CONNECTIONS,
            poll_connections: CONNECTIONS,
            poll: None,
            timeout: Duration::from_secs(20),
            sign: Kind::Md5,
            amount_fen: 100,
            seed: self.run.into(),
            run: self.run,
        }
    }

    /// Payments a second that are answered while all connections are busy all the time.
    async fn peak(&mut self) -> anyhow::Result<u32> {
        let seconds = self.args.seconds.clamp(2, 5);
        let switch = self.switch.again();
        let plan = Arc::new(self.plan(&switch, TOO_MANY, seconds));
        let live = Arc::new(Live::default());
        let load = spawn(&plan, &live);
        after(&live, 1).await;
        let (began, before) = (Instant::now(), live.answered());
        sleep(Duration::from_secs(u64::from(seconds) - 1)).await;
        let (took, after) = (began.elapsed(), live.answered());
        live.stop.store(true, Ordering::Relaxed);
        load.await??;
        let per_second = u128::from(after - before) * 1_000_000 / took.as_micros().max(1);
        ensure!(per_second >= 10, "the switch answers {per_second} payments a second");
        Ok(u32::try_from(per_second)?)
    }

    /// What `subject` spends on payments at `rate`.
    async fn spend(&mut self, subject: &Subject, rate: u32, is_paid: bool) -> anyhow::Result<Round> {
        let seconds = self.args.seconds;
        // A second more than is measured: the end of a run is not like its middle.
        let plan = Arc::new(self.plan(subject, rate, seconds + 1));
        let live = Arc::new(Live::default());
        let load = spawn(&plan, &live);
        let first = *subject.pids.first().context("a process")?;
        after(&live, 1).await;
        let before = (live.answered(), Cpu::of(&subject.pids)?, Threads::of(first)?);
        after(&live, u64::from(seconds) + 1).await;
        let now = (live.answered(), Cpu::of(&subject.pids)?, Threads::of(first)?);
        let done = load.await??;
        let payments = now.0 - before.0;
        let due = u64::from(rate) * u64::from(seconds);
        ensure!(payments >= due / 2, "{} answers {payments} payments of some {due}", subject.target);
        if is_paid {
            self.wrong += done.report.due - done.report.outcomes.paid.min(done.report.due);
        }
        Ok(Round { payments, cpu: now.1.since(before.1), threads: now.2.since(&before.2) })
    }

    /// How long payments take at `rate`: of the switch, of nginx, and of the wallet alone.
    async fn latencies(
        &mut self,
        report: &mut Report,
        rate: u32,
        say: &dyn Fn(String),
    ) -> anyhow::Result<()> {
        let subjects = [self.direct.again(), self.proxy.again(), self.switch.again()];
        let mut all: [[Vec<u64>; 4]; 3] = Default::default();
        let mut lag = 0;
        for round in 0..self.args.rounds {
            say(format!("latencies, round {} of {}", round + 1, self.args.rounds));
            for (subject, all) in subjects.iter().zip(&mut all) {
                let plan = Arc::new(self.plan(subject, rate, self.args.seconds));
                let done = spawn(&plan, &Arc::new(Live::default())).await??;
                let us = &done.report.payments.latency_us;
                lag = lag.max(done.report.generator.lag_us.p99);
                self.wrong += done.report.due - done.report.outcomes.paid.min(done.report.due);
                for (all, us) in all.iter_mut().zip([us.p50, us.p90, us.p99, us.p999]) {
                    all.push(us);
                }
            }
        }
        let [direct, proxy, switch] = all.map(|of| of.map(median));
        report.figure("latency of the wallet alone, p50, p90, p99, p999, us", json!(direct));
        report.figure("latency of nginx, p50, p90, p99, p999, us", json!(proxy));
        report.figure("latency of the switch, p50, p90, p99, p999, us", json!(switch));
        // Of the percentiles: no payment has both.
        let added = |of: [u64; 4]| json!([of[0].saturating_sub(direct[0]), of[2].saturating_sub(direct[2])]);
        report.figure("latency that nginx adds, p50, p99, us", added(proxy));
        report.figure("latency that the switch adds, p50, p99, us", added(switch));
        report.figure("lag of the generator, p99, us, at most", lag);
        Ok(())
    }

    /// Whether the wallet's books say of a short run what tills were told.
    async fn books(&mut self, rate: u32) -> anyhow::Result<bool> {
        let switch = self.switch.again();
        let plan = Arc::new(self.plan(&switch, rate, 1));
        let done = spawn(&plan, &Arc::new(Live::default())).await??;
        let wallet = target(false, self.rig.wallet.plain);
        Ok(tokio::task::spawn_blocking(move || done.compare(&wallet)).await??.agree)
    }

    /// The bare server under the same load as the switch.
    async fn server(&mut self, rate: u32) -> anyhow::Result<Round> {
        let mut command = self.part(PartKind::Server, rate)?;
        command.stdout(Stdio::piped());
        let mut process = Process::spawn(command, &self.rig.site.folder.join("part.log"))?;
        let mut line = String::new();
        BufReader::new(process.stdout().context("its standard output")?).read_line(&mut line)?;
        let subject = Subject {
            target: target(false, line.trim().parse().context("the bare server does not start")?),
            accounts: self.switch.accounts.clone(),
            pids: vec![process.id()],
        };
        let round = self.spend(&subject, rate, false).await;
        process.kill()?;
        round
    }

    fn part(&mut self, kind: PartKind, rate: u32) -> anyhow::Result<Command> {
        self.run = self.run.wrapping_add(1);
        let mut command = Command::new(std::env::current_exe()?);
        command.args(["part", kind.word(), "--wallet", &self.rig.wallet.tls.to_string()]);
        command.args(["--rate", &rate.to_string(), "--seconds", &self.args.seconds.to_string()]);
        command.args(["--run", &self.run.to_string()]).arg("--folder").arg(&self.rig.site.folder);
        Ok(command)
    }

    /// What a part that ends by itself says that it has spent: nanoseconds a payment.
    async fn alone(&mut self, kind: PartKind, rate: u32) -> anyhow::Result<u64> {
        let mut command = self.part(kind, rate)?;
        let done = tokio::task::spawn_blocking(move || command.output()).await??;
        let told = String::from_utf8_lossy(&done.stderr).into_owned();
        ensure!(done.status.success(), "{}: {told}", kind.word());
        let spent: Spent = serde_json::from_slice(&done.stdout)?;
        Ok(spent.cpu_ns / spent.payments.max(1))
    }
}

impl Subject {
    fn again(&self) -> Self {
        Self { target: self.target.clone(), accounts: self.accounts.clone(), pids: self.pids.clone() }
    }
}

fn target(tls: bool, at: SocketAddr) -> Target {
    Target { tls, host: at.ip().to_string(), port: at.port(), prefix: String::new() }
}

fn spawn(
    plan: &Arc<Plan>,
    live: &Arc<Live>,
) -> tokio::task::JoinHandle<Result<load::Outcome, load::LoadError>> {
    let (plan, live) = (Arc::clone(plan), Arc::clone(live));
    tokio::task::spawn_blocking(move || load::run(&plan, &live))
}

/// Waits until a run is so many seconds old.
async fn after(live: &Live, seconds: u64) {
    // A run that ends sooner says so itself; this only must not wait for ever.
    let until = Instant::now() + Duration::from_secs(seconds + 30);
    while live.seconds() < seconds && Instant::now() < until {
        sleep(LOOK_EVERY).await;
    }
}

fn median(mut all: Vec<u64>) -> u64 {
    all.sort_unstable();
    all.get(all.len() / 2).copied().unwrap_or(0)
}
