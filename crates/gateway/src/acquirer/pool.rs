//! Keep-alive connections to one host, and the one way to send a request over them.
//!
//! A refusal repeats neither number nor nonce: only the connection ties an answer to its request (NU-12). So
//! one request at a time per connection, no pipelining, and a connection whose request was not answered to
//! the caller's satisfaction is closed. Nothing here sends a request twice once a byte of it may have left.
//!
//! Dropping the wait for an answer, for whatever reason, closes its connection. Source: wechatpay-v2 §1.2, §4.5 G3, §6
//! no. 22.

use std::collections::VecDeque;
use std::fmt;
use std::future::poll_fn;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::task::{Poll, ready};
use std::time::Duration;

use state_machine::Tick;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, sleep, timeout_at};

use super::answer::Answer;
use super::conn::{Conn, Failure};
use super::connect::Connector;
use crate::clock::{Clock, later};

/// Sizes of a pool.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PoolLimits {
    /// Connections to one host, idle ones included. A request that finds none free waits for its connect
    /// deadline at most. 1 or more.
    pub connections_max: usize,
    /// How long a connection stays open unused: shorter than any peer's own limit, or requests are written
    /// into connections that the peer is closing.
    pub idle_max: Duration,
}

impl Default for PoolLimits {
    fn default() -> Self {
        Self { connections_max: 256, idle_max: Duration::from_secs(20) }
    }
}

/// The deadlines of one request.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Terms {
    /// For a free connection, or a new one with its handshakes done.
    pub(crate) connect: Duration,
    /// From handing the request over to the last byte of the answer.
    pub(crate) read: Duration,
    /// The first byte leaves before this moment or not at all.
    pub(crate) leave_by: Tick,
    /// End of the whole call, if it has one.
    pub(crate) until: Option<Instant>,
    /// When it is told that the request has left, if there is no answer by then; `None`: never.
    pub(crate) tell_after: Option<Duration>,
    /// Longest body of an answer, in bytes.
    pub(crate) body_bytes_max: usize,
}

/// What became of a request.
#[derive(Debug)]
pub(crate) enum Sent {
    /// Not one byte of it was given to the kernel.
    Unsent(Cause),
    /// Some of it may have arrived, and there is no usable answer. Its connection is closed.
    Lost {
        /// When its latest byte left.
        left_at: Tick,
        cause: Cause,
    },
    /// An answer, whatever it says.
    Answer {
        /// When its latest byte left.
        left_at: Tick,
        status: u16,
        body: Vec<u8>,
        /// Its connection: closed unless it is handed back.
        lease: Lease,
    },
}

/// Why there is no answer: for logs and for the health of a host, never for the order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Cause {
    /// The name has no address.
    Unresolved,
    /// Refused or unreachable.
    Connect,
    /// Not connected in time.
    ConnectTimeout,
    /// The TLS handshake failed.
    Tls,
    /// The wallet does not take our certificate: it says so in TLS, or ends a new connection that presented
    /// one at the first request, without a word. Source: wechatpay-v2 §1.3, §4.5 C8.
    CertificateRefused,
    /// The request cannot be written at all.
    Unwritable,
    /// Every connection was in use.
    Busy,
    /// The last moment for the first byte had passed.
    TooLate,
    /// A connection closed under the request.
    Closed,
    /// Reset, or another fault of the connection.
    Broken,
    /// The connection ended before or in the middle of the answer.
    Eof {
        /// Whether it had answered before: then it is likely that it just idled too long.
        reused: bool,
    },
    /// Not answered in time.
    ReadTimeout,
    /// Not HTTP.
    NotHttp,
    /// The answer is longer than allowed.
    TooLarge,
}

impl Cause {
    /// The word in logs.
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Unresolved => "unresolved",
            Self::Connect => "connect",
            Self::ConnectTimeout => "connect_timeout",
            Self::Tls => "tls",
            Self::CertificateRefused => "certificate_refused",
            Self::Unwritable => "unwritable",
            Self::Busy => "busy",
            Self::TooLate => "too_late",
            Self::Closed => "closed",
            Self::Broken => "broken",
            Self::Eof { .. } => "eof",
            Self::ReadTimeout => "read_timeout",
            Self::NotHttp => "not_http",
            Self::TooLarge => "too_large",
        }
    }
}

struct Idle {
    conn: Box<Conn>,
    since: Tick,
}

#[derive(Default)]
struct Store {
    /// The one used last is at the back, and is used first.
    idle: VecDeque<Idle>,
    /// Whether the task that closes connections idle for too long is there.
    reaped: bool,
}

/// Connections to one host.
pub(crate) struct Pool {
    connector: Connector,
    limits: PoolLimits,
    permits: Arc<Semaphore>,
    store: Mutex<Store>,
}

/// A connection in use. Dropping it closes the connection.
pub(crate) struct Lease {
    conn: Box<Conn>,
    pool: Arc<Pool>,
    /// Whether the peer would take another request.
    keeps: bool,
    /// Given back after the connection was.
    _permit: OwnedSemaphorePermit,
}

impl fmt::Debug for Lease {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Lease")
    }
}

impl Lease {
    /// Hands the connection back for another request. It is closed if the peer wants that, or if there is
    /// more to read than the answer.
    pub(crate) fn keep(self) {
        let Self { mut conn, pool, keeps, _permit } = self;
        if keeps && conn.is_ready() {
            conn.reused = true;
            pool.store_idle(conn);
        }
    }
}

impl Pool {
    pub(crate) fn new(connector: Connector, limits: PoolLimits) -> Arc<Self> {
        let permits = Arc::new(Semaphore::new(limits.connections_max.clamp(1, Semaphore::MAX_PERMITS)));
        Arc::new(Self { connector, limits, permits, store: Mutex::new(Store::default()) })
    }

    /// Whether its connections present a client certificate.
    pub(crate) const fn is_certified(&self) -> bool {
        self.connector.is_certified()
    }

    /// Whether its connections are encrypted.
    pub(crate) const fn is_tls(&self) -> bool {
        self.connector.target().is_tls()
    }

    /// Sends `body` to `endpoint`, once, and waits for the answer. `left` hears when the first byte has left, if there
    /// is no answer by the time that `terms` say.
    ///
    /// A connection that was found closed before anything was written is replaced by a fresh one, once.
    pub(crate) async fn send(
        self: &Arc<Self>,
        endpoint: &str,
        body: &[u8],
        terms: Terms,
        left: &mut (dyn FnMut(Tick) + Send),
    ) -> Sent {
        let connect_by = Clock::after(terms.connect).min(Clock::instant(terms.leave_by));
        let connect_by = terms.until.map_or(connect_by, |until| connect_by.min(until));
        if Clock::tick() >= terms.leave_by {
            return Sent::Unsent(Cause::TooLate);
        }
        let mut permit = match Arc::clone(&self.permits).try_acquire_owned() {
            Ok(permit) => permit,
            Err(_) => match timeout_at(connect_by, Arc::clone(&self.permits).acquire_owned()).await {
                Ok(Ok(permit)) => permit,
                Ok(Err(_)) | Err(_) => return Sent::Unsent(Cause::Busy),
            },
        };
        if let Some(conn) = self.take_idle() {
            let lease = Lease { conn, pool: Arc::clone(self), keeps: false, _permit: permit };
            match lease.exchange(endpoint, body, terms, left).await {
                Err((Sent::Unsent(Cause::Closed), back)) => permit = back,
                Err((sent, _)) | Ok(sent) => return sent,
            }
        }
        let conn = match Conn::open(&self.connector, connect_by).await {
            Ok(conn) => conn,
            Err(cause) => return Sent::Unsent(cause),
        };
        let lease = Lease { conn, pool: Arc::clone(self), keeps: false, _permit: permit };
        match lease.exchange(endpoint, body, terms, left).await {
            Err((sent, _)) | Ok(sent) => sent,
        }
    }

    /// The idle connection that was used last, if it is open, silent and young enough.
    fn take_idle(&self) -> Option<Box<Conn>> {
        loop {
            let Idle { conn, since } = self.store().idle.pop_back()?;
            // It was ready when it was handed back, and nothing has driven it since.
            if !self.is_old(since, Clock::tick()) && conn.gate.is_quiet() {
                return Some(conn);
            }
        }
    }

    fn store_idle(self: &Arc<Self>, conn: Box<Conn>) {
        let mut store = self.store();
        store.idle.push_back(Idle { conn, since: Clock::tick() });
        if !std::mem::replace(&mut store.reaped, true) {
            tokio::spawn(reap(Arc::downgrade(self), self.limits.idle_max));
        }
    }

    /// Closes what has been idle for too long; whether anything is left.
    fn close_old(&self) -> bool {
        let now = Clock::tick();
        let mut store = self.store();
        while store.idle.front().is_some_and(|idle| self.is_old(idle.since, now)) {
            store.idle.pop_front();
        }
        store.reaped = !store.idle.is_empty();
        store.reaped
    }

    fn is_old(&self, since: Tick, now: Tick) -> bool {
        u128::from(now.ms_since(since)) >= self.limits.idle_max.as_millis()
    }

    /// A panic elsewhere leaves the list as it was: every change of it is one push or pop.
    fn store(&self) -> MutexGuard<'_, Store> {
        self.store.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Closes connections idle for too long, for as long as there are any.
async fn reap(pool: Weak<Pool>, idle_max: Duration) {
    loop {
        sleep(idle_max).await;
        if !pool.upgrade().is_some_and(|pool| pool.close_old()) {
            return;
        }
    }
}

impl Lease {
    /// One request and its answer. On failure the connection is closed and the permit comes back.
    async fn exchange(
        mut self,
        endpoint: &str,
        body: &[u8],
        terms: Terms,
        left: &mut (dyn FnMut(Tick) + Send),
    ) -> Result<Sent, (Sent, OwnedSemaphorePermit)> {
        let reused = self.conn.reused;
        let target = self.pool.connector.target();
        if !self.conn.begin(target.authority(), target.prefix(), endpoint, body.len()) {
            return Err((Sent::Unsent(Cause::NotHttp), self.close()));
        }
        self.conn.gate.arm(terms.leave_by);
        let mut answer = Answer::new(terms.body_bytes_max);
        let cause = match self.conn.answer(&mut answer, body, terms, left).await {
            Some(Ok(())) => {
                if let Some(left_at) = self.conn.gate.left_at() {
                    self.conn.gate.answered();
                    let keeps = answer.keeps();
                    let (status, body) = answer.into_parts();
                    return Ok(Sent::Answer { left_at, status, body, lease: Self { keeps, ..self } });
                }
                // An answer to nothing.
                Cause::NotHttp
            }
            Some(Err(failure)) => failure.cause(reused, self.pool.is_certified()),
            None => Cause::ReadTimeout,
        };
        let left_at = self.conn.gate.left_at();
        let permit = self.close();
        Err(match left_at {
            Some(left_at) => (Sent::Lost { left_at, cause }, permit),
            None if Clock::tick() >= terms.leave_by => (Sent::Unsent(Cause::TooLate), permit),
            None => (Sent::Unsent(if reused { Cause::Closed } else { cause }), permit),
        })
    }

    /// Closes the connection at once.
    fn close(self) -> OwnedSemaphorePermit {
        let Self { conn, pool: _, keeps: _, _permit } = self;
        drop(conn);
        _permit
    }
}

impl Conn {
    /// Drives the connection until the whole answer is there; `None` if it is not in time.
    async fn answer(
        &mut self,
        answer: &mut Answer,
        body: &[u8],
        terms: Terms,
        left: &mut (dyn FnMut(Tick) + Send),
    ) -> Option<Result<(), Failure>> {
        let now = Instant::now();
        let read_by = later(now, terms.read);
        let read_by = terms.until.map_or(read_by, |until| read_by.min(until));
        // When it is to be told that the request has left, as long as that has not been told.
        let mut tell_at = terms.tell_after.map(|after| later(now, after));
        poll_fn(|cx| {
            if let Poll::Ready(done) = self.poll_exchange(cx, body, answer) {
                return Poll::Ready(Some(done));
            }
            loop {
                let due = tell_at.is_some_and(|at| at <= Instant::now());
                if let (true, Some(at)) = (due, self.gate.left_at()) {
                    tell_at = None;
                    left(at);
                }
                // What is due and has not left yet leaves when the socket takes it: that wakes us.
                let next = tell_at.filter(|_| !due).map_or(read_by, |at| at.min(read_by));
                ready!(self.timer.poll_at(next, cx));
                if next == read_by {
                    return Poll::Ready(None);
                }
            }
        })
        .await
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use state_machine::Tick;
    use tokio::time::Instant;

    use super::super::connect::{Connector, Target};
    use super::super::tests::support::{Act, Standin};
    use super::{Conn, Pool, PoolLimits, Sent, Terms};

    /// The race that `is_quiet` leaves open: the connection ends before it has taken the request.
    #[tokio::test]
    async fn a_request_that_a_pooled_connection_never_took_goes_over_a_fresh_one() {
        let mut wallet = Standin::http(vec![vec![], vec![Act::Answer("<xml></xml>".to_owned())]]).await;
        let target = Target::parse(&wallet.url()).expect("a URL");
        let pool =
            Pool::new(Connector::new(target, None, None).expect("sound settings"), PoolLimits::default());
        let soon = Duration::from_secs(5);
        let mut conn = Conn::open(&pool.connector, Instant::now() + soon).await.expect("connected");
        conn.break_off();
        pool.store_idle(conn);
        let terms = Terms {
            connect: soon,
            read: soon,
            leave_by: Tick::MAX,
            until: None,
            tell_after: None,
            body_bytes_max: 1024,
        };
        let sent = pool.send("/pay/orderquery", b"", terms, &mut |_| ()).await;
        assert!(matches!(sent, Sent::Answer { status: 200, .. }), "{sent:?}");
        assert_eq!(wallet.counts(), (2, 1));
    }
}
