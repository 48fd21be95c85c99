//! Settings: one TOML file (`hufu.toml`), `HUFU_*` variables over it, secrets from files or variables.
//!
//! A setting `section.name` is overridden by `HUFU_SECTION__NAME`; of a provider by its number:
//! `HUFU_PROVIDER__1900000109__KEY`. Everything is checked before anything is opened, and every problem is
//! reported at once. Source: DESIGN §6; faults-and-invariants CF-01, CF-02, CF-06, CF-08.

mod provider;
mod reader;
mod secret;
#[cfg(test)]
mod tests;

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use state_machine::Policy;
use state_machine::absence::Absence;
use state_machine::rescan::Rescan;
use store::SealKey;
use store::settings::{
    ABSENT_AFTER_MS, ABSENT_AFTER_MS_MAX, ABSENT_AFTER_MS_MIN, LONG_POLL_MS, LONG_POLL_MS_MAX,
    RESCAN_WINDOW_MS, RESCAN_WINDOW_MS_MAX, RESCAN_WINDOW_MS_MIN,
};
use thiserror::Error;
use toml::Table;
use zeroize::Zeroizing;

pub use provider::{Host, Provider};
pub use reader::Problem;

use crate::northbound::DigestKey;
use reader::{Reader, Section};

/// Largest settings file taken, in bytes.
const FILE_MAX: u64 = 1024 * 1024;
/// The shortest guard between a pay request and its reversal that production allows. Source: INV-08.
const REVERSAL_GUARD_MS: u64 = 15_000;
/// A day: no policy clock but those of reversals is longer.
const DAY_MS: u64 = 24 * 3600 * 1000;

/// Whether real money moves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// The wallet is the wallet.
    Production,
    /// The wallet is a simulator, or the wallet's own sandbox.
    Sandbox,
}

impl FromStr for Mode {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "production" => Ok(Self::Production),
            "sandbox" => Ok(Self::Sandbox),
            _ => Err("is neither \"production\" nor \"sandbox\""),
        }
    }
}

/// How logs are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// One JSON object a line.
    Json,
    /// Text for people.
    Plain,
}

impl FromStr for LogFormat {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "json" => Ok(Self::Json),
            "plain" => Ok(Self::Plain),
            _ => Err("is neither \"json\" nor \"plain\""),
        }
    }
}

/// Where the switch listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listen {
    /// Tills.
    pub gateway: SocketAddr,
    /// What tills are shown; `None` for plain HTTP, behind a proxy that speaks TLS.
    pub tls: Option<Tls>,
    /// `/metrics`, `/livez`, `/readyz`.
    pub admin: SocketAddr,
    /// The admin commands' unix-domain socket.
    pub admin_socket: PathBuf,
}

/// TLS towards tills, PEM files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tls {
    /// Our certificate, then its intermediates.
    pub certificate_file: PathBuf,
    /// Its private key.
    pub key_file: PathBuf,
    /// The issuers whose client certificates are believed; `None`: tills are not asked for any.
    pub client_ca_file: Option<PathBuf>,
}

/// Where records are kept.
#[derive(Clone, Debug)]
pub struct Store {
    /// The database file.
    pub path: PathBuf,
    /// What its secrets are sealed with.
    pub seal_key: SealKey,
    /// What content digests are keyed with, derived from the same secret.
    pub digest_key: DigestKey,
    /// When days that are over leave the database, and the disk.
    pub keeping: Keeping,
}

/// What becomes of days that are over (+08:00).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Keeping {
    /// A day is archived when it is more than so many days ago.
    pub archive_after_days: u32,
    /// An archive is deleted when its day is more than so many days ago; 0: never.
    pub keep_days: u32,
}

/// Limits and deadlines towards tills. Source: faults-and-invariants NM-04 to NM-08, INV-24.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Northbound {
    /// Connections open at once.
    pub connections_max: u32,
    /// Header lines of a request.
    pub headers_max: usize,
    /// Bytes of a request's head.
    pub head_bytes_max: usize,
    /// Bytes of a request's body.
    pub body_bytes_max: usize,
    /// Connections of one address at once (of an IPv6 network of 64 bits); 0 for no limit.
    pub address_connections_max: u32,
    /// When every connection is taken: how many newcomers a second get in by the place of others, from addresses of tills
    /// and from others each. More are turned away.
    pub newcomers_per_second: u32,
    /// From the connection to the end of the TLS handshake.
    pub handshake_deadline: Duration,
    /// From the first byte of a head to its last.
    pub head_deadline: Duration,
    /// From the end of the head to the end of the body.
    pub body_deadline: Duration,
    /// How long a connection may stay without a request.
    pub idle_deadline: Duration,
    /// How long a till may leave an answer unread.
    pub write_deadline: Duration,
    /// Streams of events open at once; never more than half of the connections, so that tills find a place.
    pub streams_max: u32,
    /// Those of one merchant.
    pub merchant_streams_max: u32,
    /// How long a stream stays without a word.
    pub heartbeat: Duration,
    /// How long an XML request waits for the wallet before it is told to query. Source: DESIGN §4.
    pub hold: Duration,
    /// How long a query of an open payment waits for its outcome, where its merchant has set nothing else; 0 answers
    /// at once.
    pub long_poll: Duration,
    /// What becomes of money that no till asks about, and when a till counts as absent, where its merchant has set
    /// nothing else.
    pub absence: Absence,
    /// What becomes of a second payment of the same till for the same amount, where its merchant has set nothing else.
    pub rescan: Rescan,
    /// Requests of one merchant in a second, averaged over `merchant_burst`, unless it has its own figures (OV-03).
    pub merchant_per_second: u32,
    /// Requests of one merchant at once.
    pub merchant_burst: u32,
    /// Requests of all merchants in a second, averaged over `burst`.
    pub per_second: u32,
    /// Requests of all merchants at once.
    pub burst: u32,
    /// The address told to the wallet for JSON payments; `None` for the till's own.
    pub spbill_create_ip: Option<IpAddr>,
    /// How long a stop waits for requests that are being answered.
    pub drain: Duration,
}

impl Default for Northbound {
    fn default() -> Self {
        Self {
            connections_max: 20_000,
            headers_max: 64,
            head_bytes_max: 16 * 1024,
            body_bytes_max: 64 * 1024,
            address_connections_max: 0,
            newcomers_per_second: 500,
            handshake_deadline: Duration::from_secs(10),
            head_deadline: Duration::from_secs(10),
            body_deadline: Duration::from_secs(10),
            idle_deadline: Duration::from_secs(75),
            write_deadline: Duration::from_secs(10),
            streams_max: 5_000,
            merchant_streams_max: 1_000,
            heartbeat: Duration::from_secs(15),
            hold: Duration::from_secs(8),
            long_poll: Duration::from_millis(LONG_POLL_MS.into()),
            absence: Absence::default(),
            rescan: Rescan::default(),
            merchant_per_second: 200,
            merchant_burst: 400,
            per_second: 20_000,
            burst: 40_000,
            spbill_create_ip: None,
            drain: Duration::from_secs(35),
        }
    }
}

/// Limits of the engine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Orders in memory at once, over all shards.
    pub orders_max: u32,
    /// Shards; 0 for one per processor, less one.
    pub shards: u32,
}

/// Logs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Log {
    /// How.
    pub format: LogFormat,
    /// What, as `tracing-subscriber` filters: `info,gateway=debug`.
    pub filter: String,
}

/// Every setting, checked.
#[derive(Clone, Debug)]
pub struct Config {
    /// Whether real money moves.
    pub mode: Mode,
    /// Where the switch listens.
    pub listen: Listen,
    /// Where records are kept.
    pub store: Store,
    /// The provider accounts, in the order of the file; at least one.
    pub providers: Vec<Provider>,
    /// The clocks of the decision table.
    pub policy: Policy,
    /// Towards tills.
    pub northbound: Northbound,
    /// Of the engine.
    pub limits: Limits,
    /// Logs.
    pub log: Log,
}

/// Everything that is wrong with the configuration; at least one problem.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub struct ConfigErrors(pub Vec<Problem>);

impl fmt::Display for ConfigErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, problem) in self.0.iter().enumerate() {
            if at > 0 {
                f.write_str("\n")?;
            }
            write!(f, "{problem}")?;
        }
        Ok(())
    }
}

impl Config {
    /// Reads the file at `path` with `environment` (all of it; only `HUFU_*` is looked at) over it.
    ///
    /// # Errors
    ///
    /// [`ConfigErrors`] with every problem found: the file unreadable or no TOML, a setting missing,
    /// misspelt, out of range, or in contradiction to another.
    pub fn load(
        path: &Path,
        environment: impl IntoIterator<Item = (String, String)>,
    ) -> Result<Self, ConfigErrors> {
        let unreadable =
            |what: String| ConfigErrors(vec![Problem { setting: path.display().to_string(), what }]);
        let size = std::fs::metadata(path).map_err(|err| unreadable(err.to_string()))?.len();
        if size > FILE_MAX {
            return Err(unreadable(format!("is over {FILE_MAX} bytes")));
        }
        let text = std::fs::read_to_string(path).map_err(|err| unreadable(err.to_string()))?;
        Self::parse(&text, environment)
    }

    /// As [`Config::load`], from the text of a file.
    ///
    /// # Errors
    ///
    /// As [`Config::load`].
    pub fn parse(
        text: &str,
        environment: impl IntoIterator<Item = (String, String)>,
    ) -> Result<Self, ConfigErrors> {
        let table: Table = text.parse().map_err(|err: toml::de::Error| {
            // The parser would show the line, and a secret may stand there that does not belong into the file.
            let before = err.span().and_then(|span| text.get(..span.start)).unwrap_or_default();
            let line = before.matches('\n').count().saturating_add(1);
            let what = format!("is no TOML at line {line}: {}", err.message());
            ConfigErrors(vec![Problem { setting: "the file".to_owned(), what }])
        })?;
        let mut reader = Reader::new(environment);
        let config = read(Section::root(table), &mut reader);
        let problems = reader.finish();
        match config {
            Some(config) if problems.is_empty() => Ok(config),
            _ => Err(ConfigErrors(problems)),
        }
    }
}

/// Reads everything; `None` leaves at least one problem with the reader.
fn read(mut root: Section, reader: &mut Reader) -> Option<Config> {
    let mode = root.required::<Mode>("mode", reader);
    let listen = listen(root.section("listen", reader), reader);
    let store = store(root.section("store", reader), reader);
    let policy = policy(root.section("policy", reader), mode, reader);
    let northbound = northbound(root.section("northbound", reader), reader);
    let limits = limits(root.section("limits", reader), reader);
    let log = log(root.section("log", reader), reader);
    let sections = root.sections("provider", "mch_id", reader);
    if sections.is_empty() {
        reader.problem("provider", "is missing: at least one [[provider]] section");
    }
    let count = sections.len();
    let providers: Vec<_> =
        sections.into_iter().filter_map(|section| provider::read(section, mode, reader)).collect();
    for (at, one) in providers.iter().enumerate() {
        if providers.iter().take(at).any(|other| other.mch_id == one.mch_id) {
            reader.problem(format!("provider.{}", one.mch_id), "occurs twice");
        }
    }
    root.finish(reader);
    (providers.len() == count).then_some(())?;
    Some(Config { mode: mode?, listen, store: store?, providers, policy, northbound, limits, log })
}

fn listen(mut section: Section, reader: &mut Reader) -> Listen {
    let gateway = section.parsed_or("gateway", SocketAddr::from(([0, 0, 0, 0], 8080)), reader);
    let admin = section.parsed_or("admin", SocketAddr::from(([127, 0, 0, 1], 9464)), reader);
    let anywhere = section.flag("admin_anywhere", false, reader);
    let admin_socket = section.path("admin_socket", reader).unwrap_or_else(|| "/run/hufu/admin.sock".into());
    if !admin.ip().is_loopback() && !anywhere {
        reader.problem(
            section.setting("admin"),
            "is no loopback address; /metrics asks for no token: set admin_anywhere = true if that is meant",
        );
    }
    if gateway == admin && gateway.port() != 0 {
        reader.problem(section.setting("admin"), "is the address of listen.gateway too");
    }
    let tls = tls(section.section("tls", reader), reader);
    section.finish(reader);
    Listen { gateway, tls, admin, admin_socket }
}

/// Absent as a whole, or whole. What is in the files is looked at when they are opened.
fn tls(mut section: Section, reader: &mut Reader) -> Option<Tls> {
    let any =
        ["certificate_file", "key_file", "client_ca_file"].iter().any(|name| section.is_set(name, reader));
    let mut file = |name| any.then(|| section.required::<PathBuf>(name, reader)).flatten();
    let (certificate_file, key_file) = (file("certificate_file"), file("key_file"));
    let client_ca_file = section.path("client_ca_file", reader);
    section.finish(reader);
    Some(Tls { certificate_file: certificate_file?, key_file: key_file?, client_ca_file })
}

fn store(mut section: Section, reader: &mut Reader) -> Option<Store> {
    let path = section.required::<PathBuf>("path", reader);
    if path.as_ref().is_some_and(|path| path.as_os_str().is_empty()) {
        reader.problem(section.setting("path"), "is empty");
    }
    let keys = secret::read(&mut section, "seal_key", "seal_key_file", true, reader).and_then(|text| {
        let seal_key = SealKey::from_hex(&text);
        let seal_key = seal_key.map_err(|err| reader.problem(section.setting("seal_key"), err.to_string()));
        // Digits of either case are one key.
        Some((seal_key.ok()?, DigestKey::derive(Zeroizing::new(text.to_ascii_lowercase()).trim().as_bytes())))
    });
    let keeping = Keeping {
        archive_after_days: section.count("archive_after_days", 2, 0..=3_650, reader),
        keep_days: section.count("keep_days", 0, 0..=36_500, reader),
    };
    if keeping.keep_days > 0 && keeping.keep_days <= keeping.archive_after_days {
        reader
            .problem(section.setting("keep_days"), "must be more than archive_after_days, or 0 to keep all");
    }
    section.finish(reader);
    let (seal_key, digest_key) = keys?;
    Some(Store { path: path?, seal_key, digest_key, keeping })
}

/// Reads the clocks, in milliseconds.
fn policy(mut section: Section, mode: Option<Mode>, reader: &mut Reader) -> Policy {
    let absent = Policy::default();
    let mut ms = |name, absent, least, most| section.number(name, absent, least..=most, reader);
    let policy = Policy {
        first_query_ms: ms("first_query_ms", absent.first_query_ms, 1, DAY_MS),
        query_gap_ms: ms("query_gap_ms", absent.query_gap_ms, 0, DAY_MS),
        give_up_ms: ms("give_up_ms", absent.give_up_ms, 1, DAY_MS),
        reversal_guard_ms: ms("reversal_guard_ms", absent.reversal_guard_ms, 0, DAY_MS),
        confirm_ms: ms("confirm_ms", absent.confirm_ms, 1, 60_000),
        reversal_pause_ms: ms("reversal_pause_ms", absent.reversal_pause_ms, 0, DAY_MS),
        reversal_pause_max_ms: ms("reversal_pause_max_ms", absent.reversal_pause_max_ms, 1, DAY_MS),
        dialog_query_ms: ms("dialog_query_ms", absent.dialog_query_ms, 0, DAY_MS),
        absent_apart_ms: ms("absent_apart_ms", absent.absent_apart_ms, 1, DAY_MS),
        absent_grace_ms: ms("absent_grace_ms", absent.absent_grace_ms, 1, DAY_MS),
        retain_ms: ms("retain_ms", absent.retain_ms, 0, DAY_MS),
        ..absent
    };
    for what in policy.contradictions() {
        reader.problem("policy", what);
    }
    // A faster simulation shortens every clock; with real money the wallet's own figures are the least.
    if mode == Some(Mode::Production) {
        if policy.reversal_guard_ms < REVERSAL_GUARD_MS {
            reader.problem(
                section.setting("reversal_guard_ms"),
                format!("is under {REVERSAL_GUARD_MS}: the wallet forbids an earlier reversal"),
            );
        }
        for (name, value, least) in [
            ("query_gap_ms", policy.query_gap_ms, 100),
            ("absent_apart_ms", policy.absent_apart_ms, absent.absent_apart_ms),
            ("absent_grace_ms", policy.absent_grace_ms, absent.absent_grace_ms),
        ] {
            if value < least && value > 0 {
                reader.problem(section.setting(name), format!("is under {least}, the least in production"));
            }
        }
    }
    if policy.query_gap_ms >= policy.give_up_ms {
        reader.problem(
            section.setting("query_gap_ms"),
            "is not under give_up_ms: an order would be asked about once",
        );
    }
    section.finish(reader);
    policy
}

fn northbound(mut section: Section, reader: &mut Reader) -> Northbound {
    let absent = Northbound::default();
    let bytes = |section: &mut Section, name, absent: usize, most: u32, reader: &mut Reader| {
        let absent = u32::try_from(absent).unwrap_or(most);
        usize::try_from(section.count(name, absent, 1_024..=most, reader)).unwrap_or(0)
    };
    let ms = |section: &mut Section, name, absent: Duration, most: u64, reader: &mut Reader| {
        let absent = u64::try_from(absent.as_millis()).unwrap_or(most);
        Duration::from_millis(section.number(name, absent, 10..=most, reader))
    };
    let read = Northbound {
        connections_max: section.count("connections_max", absent.connections_max, 1..=1_000_000, reader),
        headers_max: usize::try_from(section.count("headers_max", 64, 8..=100, reader)).unwrap_or(0),
        head_bytes_max: bytes(&mut section, "head_bytes_max", absent.head_bytes_max, 64 * 1024, reader),
        body_bytes_max: bytes(&mut section, "body_bytes_max", absent.body_bytes_max, 64 * 1024, reader),
        address_connections_max: section.count("address_connections_max", 0, 0..=1_000_000, reader),
        newcomers_per_second: section.count(
            "newcomers_per_second",
            absent.newcomers_per_second,
            1..=100_000,
            reader,
        ),
        handshake_deadline: ms(
            &mut section,
            "handshake_deadline_ms",
            absent.handshake_deadline,
            60_000,
            reader,
        ),
        head_deadline: ms(&mut section, "head_deadline_ms", absent.head_deadline, 60_000, reader),
        body_deadline: ms(&mut section, "body_deadline_ms", absent.body_deadline, 60_000, reader),
        idle_deadline: ms(&mut section, "idle_deadline_ms", absent.idle_deadline, 3_600_000, reader),
        write_deadline: ms(&mut section, "write_deadline_ms", absent.write_deadline, 60_000, reader),
        streams_max: section.count("streams_max", absent.streams_max, 1..=1_000_000, reader),
        merchant_streams_max: section.count(
            "merchant_streams_max",
            absent.merchant_streams_max,
            1..=1_000_000,
            reader,
        ),
        heartbeat: ms(&mut section, "heartbeat_ms", absent.heartbeat, 60_000, reader),
        hold: ms(&mut section, "hold_ms", absent.hold, 60_000, reader),
        long_poll: Duration::from_millis(
            section.count("long_poll_ms", LONG_POLL_MS, 0..=LONG_POLL_MS_MAX, reader).into(),
        ),
        absence: Absence {
            rule: section.parsed_or("absent_till", absent.absence.rule, reader),
            after_ms: section
                .count("absent_after_ms", ABSENT_AFTER_MS, ABSENT_AFTER_MS_MIN..=ABSENT_AFTER_MS_MAX, reader)
                .into(),
        },
        rescan: Rescan {
            rule: section.parsed_or("rescan", absent.rescan.rule, reader),
            window_ms: section
                .count(
                    "rescan_window_ms",
                    RESCAN_WINDOW_MS,
                    RESCAN_WINDOW_MS_MIN..=RESCAN_WINDOW_MS_MAX,
                    reader,
                )
                .into(),
        },
        merchant_per_second: section.count(
            "merchant_per_second",
            absent.merchant_per_second,
            1..=100_000,
            reader,
        ),
        merchant_burst: section.count("merchant_burst", absent.merchant_burst, 1..=100_000, reader),
        per_second: section.count("per_second", absent.per_second, 1..=1_000_000, reader),
        burst: section.count("burst", absent.burst, 1..=1_000_000, reader),
        spbill_create_ip: section.parsed("spbill_create_ip", reader),
        drain: ms(&mut section, "drain_ms", absent.drain, 600_000, reader),
    };
    if read.heartbeat.saturating_mul(2) > read.idle_deadline {
        let what =
            "is over half of idle_deadline_ms: a stream without news would count as one that nobody reads";
        reader.problem(section.setting("heartbeat_ms"), what);
    }
    if read.drain < read.hold {
        reader.problem(section.setting("drain_ms"), "is under hold_ms: a stop would cut off tills that wait");
    }
    section.finish(reader);
    read
}

fn limits(mut section: Section, reader: &mut Reader) -> Limits {
    let read = Limits {
        orders_max: section.count("orders_max", 200_000, 1..=10_000_000, reader),
        shards: section.count("shards", 0, 0..=64, reader),
    };
    if read.orders_max < read.shards {
        reader.problem(section.setting("orders_max"), "is under shards: a shard could hold no order");
    }
    section.finish(reader);
    read
}

fn log(mut section: Section, reader: &mut Reader) -> Log {
    let format = section.parsed_or("format", LogFormat::Plain, reader);
    let filter = section.text("filter", reader).unwrap_or_else(|| "info".to_owned());
    if let Err(err) = tracing_subscriber::EnvFilter::try_new(&filter) {
        reader.problem(section.setting("filter"), err.to_string());
    }
    section.finish(reader);
    Log { format, filter }
}
