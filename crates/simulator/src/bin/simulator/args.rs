//! The command line.

use std::path::PathBuf;

use simulator::world::{Broken, Customers, Kind, Setup, Storage, Tills, place_of};

pub(crate) const USAGE: &str = "\
usage: simulator [--seeds A..B | --seed S] [--orders N] [options]
       simulator --ci [--jobs N] [--dir FOLDER]

  --seeds A..B       runs the seeds A to B-1 (default 0..10)
  --seed S           runs one seed
  --orders N         payments in a run (default 2000)
  --ci               the seeds of the test command, in every profile; fails if a case is never reached
profiles
  --bytes            real XML and signatures, both ways
  --sqlite           the embedded store on a disk, which dies with its process
  --crowd            as many payments at once as are given, a crash, and half an hour without a wallet
  --dir FOLDER       where the stores of --sqlite stand (default: /dev/shm, else the folder for temporary files)
faults
  --no-faults        nothing breaks
  --only FAULT       only this kind of fault
  --intensity N      N times the usual faults
who comes
  --rate N           payments that begin in a second (default: drawn from the seed)
  --customer BBSS    only this customer
  --patient          only tills that ask until they hear an outcome
  --broken KIND      a world broken on purpose, which the judges must catch
looking closer
  --trace M:NUMBER   writes down everything that happens to one payment
  --stop             ends a run with its first violation
output
  --jobs N           seeds run at once (default 1)
  --json             one JSON object
  --part N           in parts of N seeds, each with its own summary
  --append FILE      adds a line for each part to FILE; parts that stand there for this commit are not run again
exit code: 0 every rule held, 1 a violation, 2 a wrong argument";

/// What was asked for.
#[derive(Debug)]
pub(crate) struct Args {
    pub(crate) seeds: std::ops::Range<u64>,
    pub(crate) setup: Setup,
    pub(crate) trace: Option<u32>,
    pub(crate) jobs: usize,
    pub(crate) json: bool,
    pub(crate) ci: bool,
    pub(crate) part: Option<u64>,
    pub(crate) append: Option<PathBuf>,
    pub(crate) folder: PathBuf,
}

/// Where stores stand unless it is said: in memory, if there is such a place.
fn folder() -> PathBuf {
    let memory = PathBuf::from("/dev/shm");
    if memory.is_dir() { memory } else { std::env::temp_dir() }
}

/// Reads the command line.
///
/// # Errors
///
/// What is wrong with it, in words.
pub(crate) fn parse(mut words: impl Iterator<Item = String>) -> Result<Args, String> {
    let mut args = Args {
        seeds: 0..10,
        setup: Setup::new(0, 2_000),
        trace: None,
        jobs: 1,
        json: false,
        ci: false,
        part: None,
        append: None,
        folder: folder(),
    };
    let mut sqlite = false;
    while let Some(word) = words.next() {
        let mut value = || words.next().ok_or_else(|| format!("{word} needs a value"));
        match word.as_str() {
            "--seeds" => {
                let text = value()?;
                let (from, to) = text.split_once("..").ok_or_else(|| format!("not a range: {text}"))?;
                args.seeds = number(from)?..number(to)?;
            }
            "--seed" => {
                let seed = number(&value()?)?;
                args.seeds = seed..seed.saturating_add(1);
            }
            "--orders" => args.setup.orders = number(&value()?)?,
            "--rate" => args.setup.rate = number(&value()?)?,
            "--bytes" => args.setup.bytes = true,
            "--sqlite" => sqlite = true,
            "--crowd" => args.setup = Setup { orders: args.setup.orders, ..Setup::crowd(0) },
            "--dir" => args.folder = value()?.into(),
            "--no-faults" => args.setup.faults = false,
            "--only" => {
                let name = value()?;
                args.setup.only = Some(Kind::parse(&name).ok_or_else(|| format!("unknown fault {name}"))?);
            }
            "--intensity" => args.setup.intensity = number(&value()?)?,
            "--customer" => args.setup.customers = Customers::Only(number(&value()?)?),
            "--patient" => args.setup.tills = Tills::Patient,
            "--broken" => {
                let name = value()?;
                let kind = Broken::ALL.into_iter().find(|kind| format!("{kind:?}") == name);
                args.setup.broken = Some(kind.ok_or_else(|| format!("unknown kind {name}"))?);
            }
            "--trace" => {
                let text = value()?;
                args.trace = Some(place_of(&text).ok_or_else(|| format!("not a payment: {text}"))?);
            }
            "--stop" => args.setup.stops_at_first = true,
            "--jobs" => args.jobs = number(&value()?)?,
            "--json" => args.json = true,
            "--ci" => args.ci = true,
            "--part" => args.part = Some(number(&value()?)?),
            "--append" => args.append = Some(value()?.into()),
            "--help" | "-h" => return Err("the seeded world of Hufu".to_owned()),
            _ => return Err(format!("unknown argument {word}")),
        }
    }
    if sqlite {
        args.setup.storage = Storage::Sqlite(args.folder.clone());
    }
    Ok(args)
}

fn number<T: std::str::FromStr>(text: &str) -> Result<T, String> {
    text.parse().map_err(|_| format!("not a number: {text}"))
}

/// The switches that a replay needs besides seed and orders.
pub(crate) fn switches(setup: &Setup) -> String {
    let mut text = String::new();
    if setup.plan == simulator::world::Plan::Crowd {
        text.push_str(" --crowd");
    }
    if setup.bytes {
        text.push_str(" --bytes");
    }
    if setup.storage != Storage::Model {
        text.push_str(" --sqlite");
    }
    if !setup.faults {
        text.push_str(" --no-faults");
    }
    if setup.intensity != 1 {
        text.push_str(&format!(" --intensity {}", setup.intensity));
    }
    if setup.rate > 0 {
        text.push_str(&format!(" --rate {}", setup.rate));
    }
    if let Some(kind) = setup.only {
        text.push_str(&format!(" --only {}", kind.as_str()));
    }
    if let Customers::Only(bbss) = setup.customers {
        text.push_str(&format!(" --customer {bbss:04}"));
    }
    if setup.tills == Tills::Patient {
        text.push_str(" --patient");
    }
    if let Some(broken) = setup.broken {
        text.push_str(&format!(" --broken {broken:?}"));
    }
    text
}
