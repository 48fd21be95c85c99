//! The network between tills and switch, and between switch and wallet, is cut in every way.

use std::time::Duration;

use clap::Args;
use simulator::Rng;
use tokio::time::sleep;

use super::{Bench, FILL_MAX, Rig};
use crate::load::{Crowd, Load};
use crate::proxy::{Fault, Proxy};
use crate::report::Report;
use crate::site::free_port;

/// Customers and clocks go this many times faster: the network never holds a request for as long as absence needs to
/// be believed.
const SPEED: u32 = 5;
/// How long everything may take to come to its end.
const CALM: Duration = Duration::from_secs(150);
/// Between two faults.
const PAUSE: Duration = Duration::from_millis(600);

/// `checker cut`.
#[derive(Clone, Debug, Args)]
pub struct Cut {
    /// How long each fault lasts, in milliseconds, on each side and on both.
    #[arg(long, default_value_t = 1_500, value_name = "MS", value_parser = clap::value_parser!(u64).range(100..=6_000))]
    pub fault_ms: u64,
    /// How often all of them come.
    #[arg(long, default_value_t = 1, value_name = "N")]
    pub times: u32,
    /// Payments that begin in a second.
    #[arg(long, default_value_t = 200, value_name = "N")]
    pub rate: u32,
}

/// Runs it.
///
/// # Errors
///
/// When processes cannot be started, or nothing comes to its end.
pub async fn run(bench: &Bench, args: &Cut, say: &dyn Fn(String)) -> anyhow::Result<Report> {
    let mut report = Report::new("network cut");
    // A pay request that is held on its way comes later to the wallet than a reversal may, by the switch's clock.
    let slack_ms = 2_000 + u32::try_from(args.fault_ms)?;
    let rig = Rig::start(bench, "cut", SPEED, slack_ms, true).await?;
    let mut rng = Rng::keyed(bench.seed ^ u64::from(std::process::id()), "cuts");
    let tills = Proxy::start(free_port(&mut rng)?, rig.site.gateway, bench.seed).await?;
    let load = Load::start(&rig.site, tills.address, Crowd::Mixed, args.rate, SPEED, bench.seed)?;
    load.filled(u64::from(args.rate), FILL_MAX).await?;
    let mut faults = 0;
    for _ in 0..args.times {
        for fault in Fault::ALL {
            // The wallet's side, the tills', both.
            for (wallet, till) in [(true, false), (false, true), (true, true)] {
                let on = |side| if side { fault } else { Fault::None };
                say(format!(
                    "{}{}{}; {}",
                    fault.text(),
                    if wallet { ", wallet" } else { "" },
                    if till { ", tills" } else { "" },
                    load.shop.tally.line()
                ));
                rig.network(on(wallet));
                tills.set(on(till));
                sleep(Duration::from_millis(args.fault_ms)).await;
                rig.network(Fault::None);
                tills.set(Fault::None);
                faults += 1;
                sleep(PAUSE).await;
            }
        }
    }
    let day = rig.close(load, CALM).await?;
    let unusable: u64 = day.told.tills.iter().map(|till| u64::from(till.notebook.unusable)).sum();
    report.figure("seed", bench.seed);
    report.figure("faults", faults);
    report.figure("each for, ms", args.fault_ms);
    report.figure("answers that tills lost", unusable);
    report.figure("seconds", day.told.span.as_secs());
    report.check(unusable > 0, || "no till ever lost an answer: nothing was cut".to_owned());
    report.verdict = day.verdict;
    Ok(report)
}
