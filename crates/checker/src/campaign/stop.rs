//! The switch is asked to stop under load, and started again.

use std::time::Duration;

use clap::Args;
use tokio::time::sleep;

use super::{Bench, FILL_MAX, Rig, SPEED, STOP_MAX};
use crate::load::Crowd;
use crate::report::{Report, millis};

/// How long everything may take to come to its end.
const CALM: Duration = Duration::from_secs(90);

/// `checker stop`.
#[derive(Clone, Debug, Args)]
pub struct Stop {
    /// How often.
    #[arg(long, default_value_t = 3, value_name = "N")]
    pub times: u32,
    /// Payments that begin in a second.
    #[arg(long, default_value_t = 250, value_name = "N")]
    pub rate: u32,
    /// The longest a stop may take, in milliseconds: what tills wait for, and a second.
    #[arg(long, default_value_t = 10_000, value_name = "MS")]
    pub stop_max_ms: u64,
}

/// Runs it.
///
/// # Errors
///
/// When processes cannot be started, or nothing comes to its end.
pub async fn run(bench: &Bench, args: &Stop, say: &dyn Fn(String)) -> anyhow::Result<Report> {
    let mut report = Report::new("stop under load");
    let mut rig = Rig::start(bench, "stop", SPEED, 1_000, false).await?;
    let load = rig.load(Crowd::Mixed, args.rate)?;
    let (mut stops, mut taken_up) = (Vec::new(), Vec::new());
    for time in 0..args.times {
        load.filled(u64::from(args.rate), FILL_MAX).await?;
        sleep(Duration::from_secs(2)).await;
        say(format!("stop {} of {}; {}", time + 1, args.times, load.shop.tally.line()));
        let (stopped, started) = rig.restart(STOP_MAX).await?;
        stops.push(stopped);
        taken_up.push(started.open);
    }
    sleep(Duration::from_secs(2)).await;
    let day = rig.close(load, CALM).await?;
    report.figure("seed", bench.seed);
    report.spread("stopped after, ms", &stops);
    report.figure("open payments taken up", &taken_up);
    report.figure("seconds", day.told.span.as_secs());
    report.check(stops.iter().all(|one| millis(*one) <= args.stop_max_ms), || {
        format!("a stop took longer than {} ms", args.stop_max_ms)
    });
    report.check(taken_up.iter().all(|open| *open > 0), || "nothing was open at a stop".to_owned());
    report.verdict = day.verdict;
    Ok(report)
}
