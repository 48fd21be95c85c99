//! What the rounds of a campaign come to.

use serde_json::{Map, Value, json};

use super::part::PartKind;
use super::{Cost, Stage, median};
use crate::report::Report;
use crate::usage::{Cpu, Threads};

/// What a subject has spent in a measured time.
#[derive(Clone, Debug, Default)]
pub(super) struct Round {
    pub(super) payments: u64,
    pub(super) cpu: Cpu,
    pub(super) threads: Threads,
}

impl Round {
    /// Nanoseconds of processor time for each payment.
    pub(super) fn ns(&self) -> u64 {
        self.cpu.us() * 1_000 / self.payments.max(1)
    }
}

/// What has been measured, a value for each round.
#[derive(Default)]
pub(super) struct Rounds {
    switch: Vec<Round>,
    nginx: Vec<u64>,
    wallet: Vec<u64>,
    server: Vec<u64>,
    client: Vec<u64>,
    pace: Vec<u64>,
    digest: Vec<u64>,
    store: Vec<u64>,
}

impl Rounds {
    /// Measures everything once.
    pub(super) async fn take(&mut self, stage: &mut Stage, rate: u32) -> anyhow::Result<()> {
        let (switch, proxy) = (stage.switch.again(), stage.proxy.again());
        let wallet = &stage.direct.pids.clone();
        let before = Cpu::of(wallet)?;
        let of_switch = stage.spend(&switch, rate, true).await?;
        let whole = u64::from(rate) * (u64::from(stage.args.seconds) + 2);
        self.wallet.push(Cpu::of(wallet)?.since(before).us() * 1_000 / whole.max(1));
        self.switch.push(of_switch);
        self.nginx.push(stage.spend(&proxy, rate, true).await?.ns());
        self.server.push(stage.server(rate).await?.ns());
        self.client.push(stage.alone(PartKind::Client, rate).await?);
        self.pace.push(stage.alone(PartKind::Pace, rate).await?);
        self.store.push(stage.alone(PartKind::Store, rate).await?);
        self.digest.push(stage.alone(PartKind::Digest, rate).await?);
        Ok(())
    }

    /// Tells the medians, and judges them.
    pub(super) fn tell(&self, report: &mut Report, args: &Cost) {
        let of = |all: &[u64]| median(all.to_vec());
        let each: Vec<u64> = self.switch.iter().map(Round::ns).collect();
        let switch = of(&each);
        let client = of(&self.client).saturating_sub(of(&self.pace));
        let parts = of(&self.server) + client + of(&self.digest) + of(&self.store);
        let (of_parts, of_nginx) = (percent(switch, parts), percent(switch, of(&self.nginx)));
        report.figure("a payment costs the switch, ns", switch);
        report.figure("a payment costs the switch, ns, each round", each);
        report.figure("a payment costs nginx, ns", of(&self.nginx));
        report.figure("a payment costs nginx, ns, each round", &self.nginx);
        report.figure("part: bare hyper server, ns", of(&self.server));
        report.figure("part: bare hyper client over TLS, ns", client);
        report.figure("its waiting alone, taken away, ns", of(&self.pace));
        report.figure("part: read, check, write, sign twice, ns", of(&self.digest));
        report.figure("part: two records in the store, ns", of(&self.store));
        report.figure("sum of the parts, ns", parts);
        report.figure("switch, percent of the sum of its parts", of_parts);
        report.figure("switch, percent of nginx", of_nginx);
        report.figure("the wallet's own cost of a payment, ns", of(&self.wallet));
        report.figure("threads of the switch: ns, sleeps in 100 payments", self.threads());
        let system = |round: &Round| round.cpu.system_us * 1_000 / round.payments.max(1);
        report.figure("of the switch's, in the kernel, ns", median(self.switch.iter().map(system).collect()));
        report.check(args.parts_percent_max == 0 || of_parts <= args.parts_percent_max, || {
            format!("a payment costs {of_parts} % of the sum of its parts")
        });
        report.check(args.nginx_percent_max == 0 || of_nginx <= args.nginx_percent_max, || {
            format!("a payment costs {of_nginx} % of what it costs nginx")
        });
    }

    /// The last round by kinds of threads.
    fn threads(&self) -> Value {
        let Some(last) = self.switch.last() else { return Value::Null };
        let payments = last.payments.max(1);
        let each = last
            .threads
            .0
            .iter()
            .filter(|(_, (ns, _))| ns / payments > 0)
            .map(|(name, (ns, sleeps))| (name.clone(), json!([ns / payments, sleeps * 100 / payments])));
        Value::Object(each.collect::<Map<_, _>>())
    }
}

fn percent(of: u64, whole: u64) -> u64 {
    of * 100 / whole.max(1)
}
