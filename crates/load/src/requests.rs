//! Makes requests: pay requests on a thread of their own, some seconds before they are due, so that neither making
//! nor signing them is in the way of sending them.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::thread::JoinHandle;

use protocol::wechat_v2::field;
use protocol::xml::Writer;
use signer::{Kind, Scratch};
use simulator::{Code, Rng};

use crate::account::Account;
use crate::arrivals::Arrivals;
use crate::clock::thread_cpu_ns;
use crate::plan::Plan;

/// Payments made at a time.
const CHUNK: usize = 128;
/// Chunks ahead at most: some 30 MB.
const CHUNKS_MAX: usize = 256;
/// Seconds ahead at most.
const AHEAD_S: usize = 2;

/// Payments, ready to be written to a connection.
#[derive(Debug)]
pub(crate) struct Chunk {
    /// Their requests, one after the other.
    pub(crate) bytes: Vec<u8>,
    /// Each payment's moment after the start in nanoseconds, and where its request ends.
    pub(crate) payments: Vec<(u64, usize)>,
}

/// Writes signed requests.
pub(crate) struct Writing {
    head: String,
    kind: Kind,
    scratch: Scratch,
    body: Vec<u8>,
}

/// What `nonce_str` is always: it need not be secret, and nobody looks at it.
const NONCE: &str = "5K8264ILTKCH16CQ2502SI8ZNMTM67VS";

impl Writing {
    pub(crate) fn new(plan: &Plan) -> Self {
        let head = format!(
            " HTTP/1.1\r\nHost: {}\r\nUser-Agent: hufu-load\r\nContent-Type: text/xml\r\nContent-Length: ",
            plan.target.authority()
        );
        Self { head, kind: plan.sign, scratch: Scratch::new(), body: Vec::with_capacity(1_024) }
    }

    /// Adds a request to `out`.
    pub(crate) fn add(
        &mut self,
        out: &mut Vec<u8>,
        path: [&str; 2],
        account: &Account,
        fields: &[(&str, &str)],
    ) {
        let mut pairs = Vec::with_capacity(12);
        pairs.extend([
            (field::APPID, account.appid.as_str()),
            (field::MCH_ID, account.mch_id.as_str()),
            (field::NONCE_STR, NONCE),
        ]);
        pairs.extend(account.sub_mch_id.as_deref().map(|id| (field::SUB_MCH_ID, id)));
        if self.kind != Kind::Md5 {
            pairs.push((field::SIGN_TYPE, self.kind.as_str()));
        }
        pairs.extend_from_slice(fields);
        let sign = account.key.sign(self.kind, pairs.iter().copied(), &mut self.scratch);
        self.body.clear();
        let mut writer = Writer::new(&mut self.body);
        for (name, value) in pairs {
            writer.text(name, value);
        }
        writer.text(field::SIGN, sign.as_str());
        writer.finish();
        out.extend_from_slice(b"POST ");
        out.extend_from_slice(path.concat().as_bytes());
        out.extend_from_slice(self.head.as_bytes());
        out.extend_from_slice(self.body.len().to_string().as_bytes());
        out.extend_from_slice(b"\r\n\r\n");
        out.extend_from_slice(&self.body);
    }
}

/// Makes a plan's pay requests in the order in which they are due.
pub(crate) struct Maker {
    plan: Arc<Plan>,
    schedule: Arrivals,
    customers: Rng,
    writing: Writing,
    first_code: u64,
    n: u64,
}

impl Maker {
    pub(crate) fn new(plan: Arc<Plan>) -> Self {
        Self {
            schedule: plan.schedule(),
            customers: Rng::keyed(plan.seed, "customers"),
            writing: Writing::new(&plan),
            first_code: plan.first_code(),
            n: 0,
            plan,
        }
    }

    /// The next payments; `None` after the last.
    pub(crate) fn chunk(&mut self) -> Option<Chunk> {
        let mut chunk =
            Chunk { bytes: Vec::with_capacity(CHUNK * 1_024), payments: Vec::with_capacity(CHUNK) };
        let amount = self.plan.amount_fen.to_string();
        for due_ns in self.schedule.by_ref().take(CHUNK) {
            let customer = self.plan.customers.draw(&mut self.customers);
            let code = Code::for_customer(customer, self.first_code.wrapping_add(self.n));
            let number = self.plan.number(self.n);
            let fields = [
                (field::BODY, "虎符负载测试"),
                (field::DEVICE_INFO, "till-1"),
                (field::OUT_TRADE_NO, number.as_str()),
                (field::TOTAL_FEE, amount.as_str()),
                (field::SPBILL_CREATE_IP, "203.0.113.10"),
                (field::AUTH_CODE, code.as_str()),
            ];
            let account = self.plan.account(self.n);
            let path = [self.plan.target.prefix.as_str(), "/pay/micropay"];
            self.writing.add(&mut chunk.bytes, path, account, &fields);
            chunk.payments.push((due_ns, chunk.bytes.len()));
            self.n += 1;
        }
        (!chunk.payments.is_empty()).then_some(chunk)
    }
}

/// Makes pay requests on a thread of its own, at most two seconds and 30 MB ahead. The second receiver hears once
/// as many are ready as may be, or all; the thread gives back the processor time it used, in nanoseconds.
pub(crate) fn make_ahead(
    plan: &Arc<Plan>,
) -> std::io::Result<(Receiver<Chunk>, Receiver<()>, JoinHandle<u64>)> {
    let per_second = usize::try_from(plan.per_second).unwrap_or(usize::MAX);
    let ahead = (per_second.saturating_mul(AHEAD_S) / CHUNK).clamp(4, CHUNKS_MAX);
    let (chunks, made) = sync_channel(ahead);
    let (primed, ready) = sync_channel(1);
    let maker = Maker::new(Arc::clone(plan));
    let thread = std::thread::Builder::new().name("load-maker".to_owned());
    let thread = thread.spawn(move || {
        make(maker, &chunks, &primed);
        thread_cpu_ns()
    })?;
    Ok((made, ready, thread))
}

fn make(mut maker: Maker, chunks: &SyncSender<Chunk>, primed: &SyncSender<()>) {
    while let Some(chunk) = maker.chunk() {
        match chunks.try_send(chunk) {
            Ok(()) => {}
            Err(TrySendError::Full(chunk)) => {
                // Said once; that it was said before, or that nobody listens any more, changes nothing.
                let _ = primed.try_send(());
                if chunks.send(chunk).is_err() {
                    return;
                }
            }
            Err(TrySendError::Disconnected(_)) => return,
        }
    }
    let _ = primed.try_send(());
}
