//! The run: one thread that sends when it is time, and reads what comes.

mod tills;

use std::io;
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, TryRecvError};
use std::time::Duration;

use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Token};
use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, timerfd_create, timerfd_settime,
};
use thiserror::Error;

use crate::clock::{SECOND_NS, now_ns, runqueue_ns, thread_cpu_ns, timespec};
use crate::connection::{Connection, News, Peer};
use crate::descriptors;
use crate::measure::{Live, Measured, Times, record, times};
use crate::pacer::Pacer;
use crate::plan::{Plan, ns};
use crate::requests::{Chunk, make_ahead};
use crate::response::Answered;
use tills::{Open, Tills};

/// How often time-outs, connections and the progress are looked at.
const LOOK_NS: u64 = 50_000_000;
/// The pause before a connection that failed is tried again.
const RECONNECT_NS: u64 = 100_000_000;
/// How long connecting may take.
const CONNECT_NS: u64 = 10 * SECOND_NS;
/// Requests sent before sockets are looked at again.
const BURST: usize = 16;
/// Requests in hand; more stay with their maker.
const IN_HAND: usize = 256;
/// How long a run that is ended early waits for what is under way.
const STOP_NS: u64 = 3 * SECOND_NS;
/// Between the moment at which all is ready and the first payment.
const START_NS: u64 = 1_000_000;
/// How soon the maker is asked again when it has nothing ready.
const STARVED_NS: u64 = 100_000;
/// How many events are taken at once.
const EVENTS: usize = 1_024;

/// Why a run did not begin.
#[derive(Debug, Error)]
pub enum LoadError {
    /// The server's name has no address.
    #[error("{0}: {1}")]
    Resolve(String, #[source] io::Error),
    /// An `https` endpoint whose name no certificate can have, or without [`Plan::tls`].
    #[error("{0}: no certificate can be for this name")]
    Name(String),
    /// Not all connections could be opened.
    #[error("{open} of {wanted} connections to {target} could be opened: {why}")]
    Connect {
        /// Where to.
        target: String,
        /// How many could.
        open: usize,
        /// How many were wanted.
        wanted: usize,
        /// Why the last one could not.
        why: String,
    },
    /// Too few open files are allowed for the connections.
    #[error("{needed} open files are needed for the connections, and {allowed} are allowed (ulimit -n)")]
    Descriptors {
        /// How many are needed.
        needed: u64,
        /// How many are allowed.
        allowed: u64,
    },
    /// The system refused a poll, a timer or a thread.
    #[error("the system refused: {0}")]
    System(#[from] io::Error),
}

/// A pay request that is made and not sent.
#[derive(Debug)]
struct Made {
    n: u64,
    chunk: Arc<Chunk>,
    from: usize,
    to: usize,
}

/// A request that is under way.
#[derive(Debug)]
struct Flight {
    due_ns: u64,
    sent_ns: u64,
    what: What,
}

#[derive(Debug)]
enum What {
    Pay(u64),
    Query(Open),
}

/// One run.
struct Engine<'a> {
    plan: &'a Arc<Plan>,
    live: &'a Live,
    peer: Peer,
    poll: Poll,
    timer: OwnedFd,
    /// When it will ring.
    rings_at: u64,
    /// Those for pay requests first, then those for queries.
    connections: Vec<Connection<Flight>>,
    pays: Pacer<Made>,
    queries: Pacer<Open>,
    tills: Tills,
    measured: Measured,
    under_way: u64,
    /// Payments of the whole run.
    total: u64,
    /// Connections at once, for payments and queries together.
    connections_max: usize,
    /// Connections for queries that were begun and are not ready.
    opening: usize,
    /// Times of the last second.
    lately: Times,
    why: String,
}

/// Runs `plan` on this thread; `live` shows how it goes.
///
/// # Errors
///
/// [`LoadError`]: nothing was measured.
pub(crate) fn run(plan: &Arc<Plan>, live: &Live) -> Result<Measured, LoadError> {
    let address = plan.target.resolve().map_err(|err| LoadError::Resolve(plan.target.to_string(), err))?;
    let name = || LoadError::Name(plan.target.host.clone());
    let tls = match (plan.target.tls, &plan.tls) {
        (false, _) => None,
        (true, Some(config)) => Some((Arc::clone(config), plan.server_name().ok_or_else(name)?)),
        (true, None) => return Err(name()),
    };
    let room = descriptors::room(plan.connections)
        .map_err(|(needed, allowed)| LoadError::Descriptors { needed, allowed })?;
    let (chunks, primed, maker) = make_ahead(plan)?;
    let mut engine = Engine::new(plan, live, Peer { address, tls })?;
    (engine.total, engine.measured.due) = count(plan);
    engine.connections_max = plan.connections + plan.poll_connections.min(room);
    let begun = engine.open();
    // Ready or not, the maker ends once nobody takes what it makes.
    if begun.is_ok() {
        let _ = primed.recv();
        engine.measure(Supply { chunks: Some(chunks), start: 0, n: 0, empty: false, unprepared: 0 })?;
    } else {
        drop(chunks);
    }
    engine.measured.maker_cpu_ns = maker.join().unwrap_or(0);
    begun.map(|()| engine.measured)
}

impl<'a> Engine<'a> {
    fn new(plan: &'a Arc<Plan>, live: &'a Live, peer: Peer) -> Result<Self, LoadError> {
        let poll = Poll::new()?;
        let timer = timerfd_create(TimerfdClockId::Monotonic, TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC);
        let timer = timer.map_err(io::Error::from)?;
        poll.registry().register(&mut SourceFd(&timer.as_raw_fd()), Token(usize::MAX), Interest::READABLE)?;
        Ok(Self {
            plan,
            live,
            peer,
            poll,
            timer,
            rings_at: 0,
            connections: (0..plan.connections).map(|_| Connection::new()).collect(),
            pays: Pacer::new(),
            queries: Pacer::new(),
            tills: Tills::new(plan),
            measured: Measured::new(),
            under_way: 0,
            total: 0,
            connections_max: 0,
            opening: 0,
            lately: times(),
            why: String::new(),
        })
    }

    /// Opens the connections for pay requests.
    fn open(&mut self) -> Result<(), LoadError> {
        let mut events = Events::with_capacity(EVENTS);
        let give_up_at = now_ns() + CONNECT_NS;
        while self.pays.idle() < self.plan.connections && now_ns() < give_up_at {
            if self.live.stop.load(Ordering::Relaxed) {
                break;
            }
            self.look(now_ns());
            if self.measured.connects_failed >= count_of(self.plan.connections) {
                break;
            }
            self.wait(&mut events, now_ns() + LOOK_NS)?;
        }
        let open = self.pays.idle();
        if open == self.plan.connections {
            self.measured.connects_failed = 0;
            return Ok(());
        }
        if self.why.is_empty() {
            "they were not opened in time".clone_into(&mut self.why);
        }
        let (target, wanted) = (self.plan.target.to_string(), self.plan.connections);
        Err(LoadError::Connect { target, open, wanted, why: self.why.clone() })
    }

    /// Sends every payment when it is due, and stays until all have their outcome or the time is over.
    fn measure(&mut self, mut supply: Supply) -> Result<(), LoadError> {
        let start = now_ns() + START_NS;
        let window = start + ns(self.plan.warmup)..start + self.plan.end_ns();
        let mut until = window.end.saturating_add(ns(self.plan.drain));
        self.tills.begin(start, window.clone());
        supply.start = start;
        let mut events = Events::with_capacity(EVENTS);
        let (mut cpu, mut ended) = (None, false);
        let (mut next_look, mut second) = (start, start);
        loop {
            let mut now = now_ns();
            supply.refill(&mut self.pays, now);
            if cpu.is_none() && now >= window.start {
                cpu = Some((now, thread_cpu_ns(), runqueue_ns()));
            }
            if !ended && now >= window.end {
                ended = true;
                self.close_window(now, cpu, self.total - supply.n + count_of(self.pays.len()));
            }
            if self.live.stop.load(Ordering::Relaxed) && !self.measured.interrupted {
                self.measured.interrupted = true;
                until = until.min(now + STOP_NS);
                supply.chunks = None;
                self.pays.clear().for_each(drop);
                self.queries.clear().for_each(drop);
                self.tills.stop();
            }
            if now >= next_look {
                next_look = now + LOOK_NS;
                self.look(now);
                self.show(now - start, now);
                if now >= second + SECOND_NS {
                    second = now;
                    self.show_second();
                }
            }
            self.tills.due(now, &mut self.queries);
            self.grow(now);
            let mut burst = 0;
            while burst < BURST && (self.send_pay(now) || self.send_query(now)) {
                burst += 1;
                now = now_ns();
            }
            let all_sent = supply.chunks.is_none() && self.pays.len() == 0;
            let idle = self.under_way == 0 && (self.tills.waiting() == 0 || self.tills.hopeless());
            if (all_sent && idle && (ended || self.measured.interrupted)) || now >= until {
                break;
            }
            let wake = [self.pays.wake_at(), self.queries.wake_at(), self.tills.wake_at(), Some(next_look)];
            let wake = wake.into_iter().flatten().min().unwrap_or(next_look);
            let starved = supply.chunks.is_some() && self.pays.len() == 0;
            self.wait(&mut events, if starved { wake.min(now + STARVED_NS) } else { wake })?;
        }
        let now = now_ns();
        if !ended {
            self.close_window(now, cpu, 0);
        }
        self.measured.unprepared = supply.unprepared;
        self.measured.elapsed_ns = now.saturating_sub(start);
        for connection in &mut self.connections {
            if let Some(flight) = connection.abandon() {
                self.tills.abandoned(&flight, &mut self.measured);
            }
        }
        self.measured.poll_connections = self.connections.len() - self.plan.connections;
        self.tills.finish(&mut self.measured);
        Ok(())
    }

    /// The measured time is over.
    fn close_window(&mut self, now: u64, cpu: Option<(u64, u64, Option<u64>)>, left_behind: u64) {
        let Some((since, cpu_ns, queued_ns)) = cpu else { return };
        self.measured.cpu_span_ns = now - since;
        self.measured.cpu_ns = thread_cpu_ns() - cpu_ns;
        self.measured.runqueue_ns = queued_ns.zip(runqueue_ns()).map(|(before, after)| after - before);
        self.measured.left_behind = left_behind;
    }

    /// Sends one pay request, if one is due and a connection is free.
    fn send_pay(&mut self, now: u64) -> bool {
        let Some(gone) = self.pays.next(now) else { return false };
        if self.tills.is_measured(gone.due_ns) {
            self.measured.payments.sent += 1;
            record(&mut self.measured.payments.wait, gone.wait_ns);
            record(&mut self.measured.payments.lag, gone.lag_ns);
        }
        let Made { n, chunk, from, to } = gone.job;
        self.tills.sent(n, gone.due_ns);
        self.live.sent.fetch_add(1, Ordering::Relaxed);
        let bytes = chunk.bytes.get(from..to).unwrap_or_default();
        self.begin(gone.connection, bytes, Flight { due_ns: gone.due_ns, sent_ns: now, what: What::Pay(n) });
        true
    }

    /// Sends one query, if one is due and a connection is free.
    fn send_query(&mut self, now: u64) -> bool {
        let Some(gone) = self.queries.next(now) else { return false };
        if self.tills.is_measured(gone.job.due_ns) {
            self.measured.polls.sent += 1;
            record(&mut self.measured.polls.wait, gone.wait_ns);
            record(&mut self.measured.polls.lag, gone.lag_ns);
        }
        let bytes = self.tills.query(self.plan, &gone.job);
        let what = What::Query(gone.job);
        self.begin(gone.connection, &bytes, Flight { due_ns: gone.due_ns, sent_ns: now_ns(), what });
        self.tills.reuse(bytes);
        true
    }

    fn begin(&mut self, connection: usize, bytes: &[u8], flight: Flight) {
        let (now, give_up_at) = (flight.sent_ns, flight.sent_ns.saturating_add(ns(self.plan.timeout)));
        let Some(to) = self.connections.get_mut(connection) else { return };
        self.under_way += 1;
        if let Err(flight) = to.send(bytes, flight, give_up_at, now) {
            self.measured.connections_lost += 1;
            self.lost(&flight, false, now);
            self.reconnect(connection, now);
        }
    }

    /// Waits until `until` or until something has come, and takes what has come.
    fn wait(&mut self, events: &mut Events, until: u64) -> Result<(), LoadError> {
        let timeout = if until <= now_ns() {
            Some(Duration::ZERO)
        } else {
            // Milliseconds, as poll takes them, are too coarse for a schedule.
            if self.rings_at != until {
                let once = Itimerspec { it_interval: timespec(0), it_value: timespec(until) };
                timerfd_settime(&self.timer, TimerfdTimerFlags::ABSTIME, &once).map_err(io::Error::from)?;
                self.rings_at = until;
            }
            None
        };
        match self.poll.poll(events, timeout) {
            Err(err) if err.kind() != io::ErrorKind::Interrupted => return Err(err.into()),
            Ok(()) | Err(_) => {}
        }
        for event in events.iter() {
            let Token(connection) = event.token();
            let now = now_ns();
            if let Some(at) = self.connections.get_mut(connection) {
                let news = at.event(event, now, now + RECONNECT_NS);
                self.take(connection, news, now_ns());
            }
        }
        Ok(())
    }

    /// Time-outs, connections to be opened again.
    fn look(&mut self, now: u64) {
        for connection in 0..self.connections.len() {
            let news = self.connections[connection].tick(now, now + RECONNECT_NS);
            self.take(connection, news, now);
            self.reconnect(connection, now);
        }
    }

    /// Opens a connection again, if it is down and it is time to.
    fn reconnect(&mut self, connection: usize, now: u64) {
        let (registry, again_at) = (self.poll.registry(), now + RECONNECT_NS);
        let Some(at) = self.connections.get_mut(connection) else { return };
        if let Err(err) = at.connect(&self.peer, registry, Token(connection), now, now + CONNECT_NS, again_at)
        {
            self.measured.connects_failed += 1;
            self.why = err.to_string();
        }
    }

    /// Opens another connection for queries, if one is needed and allowed.
    fn grow(&mut self, now: u64) {
        while self.queries.idle() == 0
            && self.queries.len() > self.opening
            && self.connections.len() < self.connections_max
        {
            self.opening += 1;
            self.connections.push(Connection::new());
            self.reconnect(self.connections.len() - 1, now);
        }
    }

    fn take(&mut self, connection: usize, news: News<Flight>, now: u64) {
        match news {
            News::None => {}
            News::Ready => {
                if connection >= self.plan.connections {
                    self.opening = self.opening.saturating_sub(1);
                }
                self.freed(connection, now);
            }
            News::ConnectFailed(err) => {
                self.measured.connects_failed += 1;
                self.why = err.to_string();
            }
            News::Broke => {
                let pacer_had_it = if connection < self.plan.connections {
                    self.pays.gone(connection)
                } else {
                    self.queries.gone(connection)
                };
                self.measured.connections_lost += u64::from(pacer_had_it);
                self.reconnect(connection, now);
            }
            News::Answered(flight, answered, free) => {
                self.answered(connection, &flight, &answered, now);
                if free {
                    self.freed(connection, now);
                } else {
                    self.reconnect(connection, now);
                }
            }
            News::Lost(flight, timed_out) => {
                self.measured.connections_lost += u64::from(!timed_out);
                self.lost(&flight, timed_out, now);
                self.reconnect(connection, now);
            }
        }
    }

    fn freed(&mut self, connection: usize, now: u64) {
        if connection < self.plan.connections {
            self.pays.freed(connection, now);
        } else {
            self.queries.freed(connection, now);
        }
    }

    fn answered(&mut self, connection: usize, flight: &Flight, answered: &Answered, now: u64) {
        self.under_way -= 1;
        self.live.answered.fetch_add(1, Ordering::Relaxed);
        if matches!(flight.what, What::Pay(_)) {
            record(&mut self.lately, now.saturating_sub(flight.due_ns));
        }
        let body = self.connections[connection].body(answered);
        self.tills.answered(self.plan, flight, answered.status, body, now, &mut self.measured);
    }

    fn lost(&mut self, flight: &Flight, timed_out: bool, now: u64) {
        self.under_way -= 1;
        self.live.failed.fetch_add(1, Ordering::Relaxed);
        self.tills.lost(flight, timed_out, now, &mut self.measured);
    }

    fn show(&self, elapsed_ns: u64, now: u64) {
        let set = |counter: &std::sync::atomic::AtomicU64, value| counter.store(value, Ordering::Relaxed);
        set(&self.live.elapsed_ns, elapsed_ns);
        set(&self.live.behind, count_of(self.pays.due(now)));
        set(&self.live.under_way, self.under_way);
        set(&self.live.open, self.tills.waiting());
    }

    fn show_second(&mut self) {
        self.live.per_second.store(self.lately.len(), Ordering::Relaxed);
        self.live.p50_us.store(self.lately.value_at_quantile(0.50), Ordering::Relaxed);
        self.live.p99_us.store(self.lately.value_at_quantile(0.99), Ordering::Relaxed);
        self.lately.reset();
    }
}

/// Pay requests as they come from their maker.
struct Supply {
    /// `None` once all have come.
    chunks: Option<Receiver<Chunk>>,
    start: u64,
    /// How many have come.
    n: u64,
    /// Whether the maker had nothing ready when it was asked last.
    empty: bool,
    /// Those that were due already when they were ready at last.
    unprepared: u64,
}

impl Supply {
    /// Takes more, if there are few in hand.
    fn refill(&mut self, pays: &mut Pacer<Made>, now: u64) {
        while let (true, Some(chunks)) = (pays.len() < IN_HAND, &self.chunks) {
            let chunk = match chunks.try_recv() {
                Ok(chunk) => Arc::new(chunk),
                Err(TryRecvError::Empty) => {
                    self.empty = true;
                    return;
                }
                Err(TryRecvError::Disconnected) => {
                    self.chunks = None;
                    return;
                }
            };
            let mut from = 0;
            for (after_ns, to) in &chunk.payments {
                let due_ns = self.start.saturating_add(*after_ns);
                self.unprepared += u64::from(self.empty && due_ns < now);
                pays.push(due_ns, Made { n: self.n, chunk: Arc::clone(&chunk), from, to: *to });
                (self.n, from) = (self.n + 1, *to);
            }
            self.empty = false;
        }
    }
}

/// The payments of the whole run, and those of them that are measured.
fn count(plan: &Plan) -> (u64, u64) {
    let warmup_ns = ns(plan.warmup);
    plan.schedule().fold((0, 0), |(all, measured), at_ns| (all + 1, measured + u64::from(at_ns >= warmup_ns)))
}

fn count_of(len: usize) -> u64 {
    u64::try_from(len).unwrap_or(u64::MAX)
}
