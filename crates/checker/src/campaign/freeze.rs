//! The switch is frozen past every deadline, and thawed; meanwhile a second process tries to take its place.

use std::time::Duration;

use clap::Args;
use rustix::process::Signal;
use simulator::http::unix_ms;
use tokio::time::sleep;

use super::{Bench, FILL_MAX, Rig, SPEED};
use crate::load::Crowd;
use crate::process::exec;
use crate::report::Report;

/// A pay request leaves within this time of its record, or not at all. Source: wechatpay-v2 §4.5 G3.
const LEAVE_MS: i64 = 5_000;
/// What a busy machine may need from there to the wallet's clock.
const ARRIVE_MS: i64 = 1_500;
/// How long writing a record may take.
const WRITE_MAX_MS: i64 = 250;
/// How long a second process may take to see that it is one too many.
const REFUSE_MAX: Duration = Duration::from_secs(10);
/// How long everything may take to come to its end.
const CALM: Duration = Duration::from_secs(90);

/// `checker freeze`.
#[derive(Clone, Debug, Args)]
pub struct Freeze {
    /// How long the switch is frozen, in milliseconds; clocks go ten times faster, and a pay request may leave for 5 s.
    #[arg(long, default_value_t = 7_000, value_name = "MS")]
    pub stop_ms: u64,
    /// How often.
    #[arg(long, default_value_t = 1, value_name = "N")]
    pub times: u32,
    /// Payments that begin in a second.
    #[arg(long, default_value_t = 250, value_name = "N")]
    pub rate: u32,
}

/// Runs it.
///
/// # Errors
///
/// When processes cannot be started, or nothing comes to its end.
pub async fn run(bench: &Bench, args: &Freeze, say: &dyn Fn(String)) -> anyhow::Result<Report> {
    let mut report = Report::new("freeze past deadlines");
    let rig = Rig::start(bench, "freeze", SPEED, 1_000, false).await?;
    let load = rig.load(Crowd::Mixed, args.rate)?;
    let (mut refused, mut frozen_with, mut frozen_at_ms) = (0, Vec::new(), Vec::new());
    for time in 0..args.times {
        load.filled(u64::from(args.rate), FILL_MAX).await?;
        sleep(Duration::from_secs(1)).await;
        frozen_with.push(load.pending());
        rig.switch.signal(Signal::STOP)?;
        frozen_at_ms.push(unix_ms());
        say(format!("frozen, {} of {}; {}", time + 1, args.times, load.shop.tally.line()));
        // Somebody starts a second one, since the first does not answer.
        let (mut second, began) = exec(&rig.site.hufu, &rig.site.config, &rig.site.log)?;
        let status = second.wait(REFUSE_MAX).await?;
        refused += u32::from(status.code() == Some(69));
        sleep(Duration::from_millis(args.stop_ms).saturating_sub(began.elapsed())).await;
        rig.switch.signal(Signal::CONT)?;
        load.answered(FILL_MAX).await?;
    }
    sleep(Duration::from_secs(2)).await;
    let day = rig.close(load, CALM).await?;
    // The 5 s run from the moment at which the process knows that the record is durable. A payment whose record was
    // being written when it was frozen may leave after the thaw.
    let being_written = |at_ms: i64| {
        frozen_at_ms.iter().any(|frozen| (frozen - WRITE_MAX_MS..=frozen + WRITE_MAX_MS).contains(&at_ms))
    };
    let late: Vec<i64> = day
        .sent
        .iter()
        .filter(|(at_ms, after_ms)| *after_ms > LEAVE_MS + ARRIVE_MS && !being_written(*at_ms))
        .map(|(_, after_ms)| *after_ms)
        .collect();
    report.figure("seed", bench.seed);
    report.figure("frozen for, ms", args.stop_ms);
    report.figure("pending when frozen", &frozen_with);
    report.figure("second processes refused", refused);
    report.figure("longest from record to wallet, ms", day.sent.iter().map(|(_, after_ms)| *after_ms).max());
    report.figure("seconds", day.told.span.as_secs());
    report.check(refused == args.times, || "a second process did not refuse with exit code 69".to_owned());
    report.check(late.is_empty(), || format!("{} pay requests left too late: {late:?} ms", late.len()));
    report.check(args.stop_ms > u64::try_from(LEAVE_MS).unwrap_or(0), || {
        "frozen for too short a time".to_owned()
    });
    report.verdict = day.verdict;
    Ok(report)
}
