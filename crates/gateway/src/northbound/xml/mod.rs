//! The drop-in XML of WeChat Pay V2: `/pay/micropay`, `/pay/orderquery`, `/secapi/pay/reverse`.
//!
//! Order of the checks: what is cheap first, the signature before anything of the order is looked at. A
//! refusal stores nothing and sends nothing. Source: DESIGN §4; wechatpay-v2 §1.2, §2, §3.1 to §3.3.

mod answer;

use std::cell::RefCell;
use std::net::SocketAddr;
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use hyper::body::Incoming;
use hyper::{Method, Request};
use protocol::fact::attach_digest;
use protocol::wechat_v2::micropay::{content_pairs, upstream_pairs};
use protocol::wechat_v2::{
    Envelope, MicropayRequest, OrderQueryRequest, OrderRef, RequestError, ReverseRequest, field,
};
use protocol::xml::{Message, Reader};
use protocol::{AppId, Fields, MchId};
use signer::{Key, Kind, Scratch};
use state_machine::rescan::RescanRule;
use state_machine::shard::{NotAccepted, Said, Wait};
use state_machine::till::{self, PayAnswer, ReverseAnswer};
use state_machine::{OrderKey, Record, UnixMs};
use store::merchant::{Mode, Status};

use super::receipt::tells;
use super::server::{Reply, Standing, Strike, read_body};
use super::tls::PeerCertificate;
use super::{Gateway, Known, Waited, wait};
use crate::clock::Clock;
use crate::engine::{NewPayment, Told};
use crate::merchants::{Binding, Directory, Keys, Merchant};
use crate::metrics::{self, Ask, Refusal};
use answer::{Answer, unsigned};

/// What unknown merchants and wrong signatures are told alike (MI-08).
const WRONG_SIGN: &str = "签名错误";
/// The wallet's own words. Source: wechatpay-v2 §1.2.
const NO_BODY: &str = "post数据为空";
const NOT_POST: &str = "请使用post方法";
/// The order may or may not be known tomorrow.
const TEXT_UNKNOWN: &str = "系统繁忙，结果未知，请查询订单";
/// The wallet's own words, before the cause.
const NOT_XML: &str = "XML格式错误";

/// An endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Endpoint {
    Micropay,
    OrderQuery,
    Reverse,
}

impl Endpoint {
    /// The word in metrics.
    pub(super) const fn asked(self) -> Ask {
        match self {
            Self::Micropay => Ask::Pay,
            Self::OrderQuery => Ask::Query,
            Self::Reverse => Ask::Reverse,
        }
    }

    pub(super) fn of(path: &str) -> Option<Self> {
        match path {
            "/pay/micropay" => Some(Self::Micropay),
            "/pay/orderquery" => Some(Self::OrderQuery),
            "/secapi/pay/reverse" => Some(Self::Reverse),
            _ => None,
        }
    }
}

/// Who asks, as it is told back, and the key that the answer is signed with.
struct Caller {
    appid: AppId,
    mch_id: MchId,
    sub_appid: Option<AppId>,
    sub_mch_id: Option<MchId>,
    kind: Kind,
    key: Key,
}

/// A request that passed every check.
enum Asked {
    /// Answered after this time at the latest.
    Pay(Box<NewPayment>, Duration),
    /// While the payment is open, answered after this time; the other one is when a till counts as absent.
    Query(OrderRef, Duration, u64),
    Reverse(OrderRef),
}

/// What is left of a till's patience for the answer that its payment has waited in vain for another.
const ANSWER_TIME: Duration = Duration::from_millis(500);

thread_local! {
    /// Warm buffers of this thread: a request that is read and verified here allocates next to nothing.
    static BUFFERS: RefCell<(Reader, Scratch)> = const { RefCell::new((Reader::new(), Scratch::new())) };
}

/// Does the work of a signature where there is no merchant.
static DECOY: LazyLock<Keys> = LazyLock::new(|| Keys::new(Key::decoy(), None));

/// Answers one request.
pub(super) async fn handle(
    gateway: &Gateway,
    endpoint: Endpoint,
    request: Request<Incoming>,
    peer: SocketAddr,
) -> Reply {
    if request.method() != Method::POST {
        metrics::refused(Refusal::Route);
        tracing::info!(%peer, ?endpoint, cause = "another method than POST", "request refused");
        return unsigned(NOT_POST);
    }
    let (head, body) = request.into_parts();
    let body = match read_body(&head.headers, body, &gateway.config).await {
        Ok(body) => body,
        Err(err) => {
            tracing::info!(%peer, ?endpoint, %err, "request refused");
            return err.reply();
        }
    };
    let directory = gateway.merchants.load_full();
    let shown = head.extensions.get::<PeerCertificate>();
    let checked = BUFFERS.with_borrow_mut(|(reader, scratch)| {
        check(gateway, &directory, endpoint, (&body, shown), reader, scratch)
    });
    drop((body, directory));
    let (asked, caller, binding) = match checked {
        Ok(checked) => checked,
        Err(refused) => {
            let Refused { why, cause, mut reply } = *refused;
            tracing::info!(%peer, ?endpoint, ?cause, "request refused");
            metrics::refused(why);
            if why == Refusal::Unauthenticated {
                reply.extensions_mut().insert(Strike);
            }
            return reply;
        }
    };
    Standing::prove(&head.extensions);
    // Head and body lie in the connection's buffer: while a till is held, the connection can use it again.
    drop(head);
    match asked {
        Asked::Pay(payment, hold) => pay(gateway, *payment, hold, &caller).await,
        Asked::Query(order, patience, absent_after_ms) => {
            query(gateway, order, (patience, absent_after_ms), &binding, &caller).await
        }
        Asked::Reverse(order) => reverse(gateway, order, &binding, &caller).await,
    }
}

/// A request that is not taken.
struct Refused {
    why: Refusal,
    /// For the log alone.
    cause: String,
    reply: Reply,
}

/// Checks everything that can be checked without the engine.
fn check(
    gateway: &Gateway,
    directory: &Arc<Directory>,
    endpoint: Endpoint,
    (body, shown): (&[u8], Option<&PeerCertificate>),
    reader: &mut Reader,
    scratch: &mut Scratch,
) -> Result<(Asked, Caller, Binding), Box<Refused>> {
    let before_signature =
        |why, cause: String, text: &str| Box::new(Refused { why, cause, reply: unsigned(text) });
    if body.is_empty() {
        return Err(before_signature(Refusal::Malformed, "empty body".to_owned(), NO_BODY));
    }
    let message = reader
        .read(body)
        .map_err(|err| before_signature(Refusal::Malformed, err.to_string(), &format!("{NOT_XML}：{err}")))?;
    let envelope = Envelope::read(&message)
        .map_err(|err| before_signature(Refusal::Field, err.to_string(), &err.err_code_des()))?;
    let (merchant, caller) = authenticate(directory, &envelope, &message, scratch)
        .map_err(|cause| before_signature(Refusal::Unauthenticated, cause, WRONG_SIGN))?;

    // From here on every answer is signed.
    let refuse = |why, cause: String, code: &str, text: &str, again: bool| {
        Box::new(Refused { why, cause, reply: fail(endpoint, code, text, again, &caller) })
    };
    let Some(merchant) = merchant else {
        let text = "参数错误：sub_mch_id与mch_id不匹配";
        return Err(refuse(
            Refusal::NotBound,
            "sub-merchant not bound".to_owned(),
            "PARAM_ERROR",
            text,
            false,
        ));
    };
    let binding = merchant.binding;
    let sub_appid_differs =
        matches!((envelope.sub_appid, binding.sub_appid), (Some(sent), Some(bound)) if sent != bound);
    if sub_appid_differs {
        let text = "参数错误：sub_appid与sub_mch_id不匹配";
        return Err(refuse(Refusal::NotBound, "sub_appid not bound".to_owned(), "PARAM_ERROR", text, false));
    }
    if !merchant.may_connect(shown, Clock::wall()) {
        // Of an order that is asked about nothing is known here: it may be paid, and its reversal is worth repeating.
        let text = match endpoint {
            Endpoint::Micropay => "未出示商户登记的客户端证书，未受理，未扣款；重复提交的订单请先查询",
            Endpoint::OrderQuery | Endpoint::Reverse => "未出示商户登记的客户端证书，请出示后再试",
        };
        let cause = format!("merchant {} without its client certificate: {shown:?}", binding.merchant.0);
        return Err(refuse(Refusal::ClientCertificate, cause, "NOAUTH", text, true));
    }
    if endpoint == Endpoint::Micropay && merchant.status == Status::Disabled {
        return Err(refuse(
            Refusal::Disabled,
            "merchant disabled".to_owned(),
            "NOAUTH",
            "商户已停用，未受理，未扣款；重复提交的订单请先查询",
            false,
        ));
    }
    let asked = read(gateway, endpoint, &message, merchant)
        .map_err(|err| refuse(Refusal::Field, err.to_string(), err.err_code(), &err.err_code_des(), false))?;
    // Counted last: a request that does not concern the engine costs it nothing.
    if let Err(why) = gateway.may_ask(merchant) {
        let text = if endpoint == Endpoint::Micropay {
            "请求过于频繁，未受理，未扣款，请稍后重试；重复提交的订单请先查询"
        } else {
            "请求过于频繁，请稍后再试"
        };
        let cause = format!("merchant {}: {}", binding.merchant.0, why.as_str());
        return Err(refuse(why, cause, "FREQUENCY_LIMITED", text, true));
    }
    Ok((asked, caller, binding))
}

/// Finds the merchant and verifies the signature; `None` for a caller that is who it says but has no such
/// sub-merchant. The error is the cause, for the log; all of them cost the same and look the same outside.
fn authenticate<'d>(
    directory: &'d Directory,
    envelope: &Envelope<'_>,
    message: &Message<'_>,
    scratch: &mut Scratch,
) -> Result<(Option<&'d Merchant>, Caller), String> {
    let kind = Kind::parse(envelope.sign_type).map_err(|err| err.to_string())?;
    let merchant = directory.find(&envelope.mch_id, envelope.sub_mch_id.as_ref(), &envelope.appid);
    let known = merchant.or_else(|| directory.find_caller(&envelope.mch_id, &envelope.appid));
    let usable = known.filter(|one| one.may_sign(kind));
    let keys = usable.map_or(&*DECOY, |one| &one.keys);
    let key = keys.verify(kind, message.iter(), envelope.sign, scratch);
    let mch_id = envelope.mch_id;
    match (usable, key) {
        (Some(_), Some(key)) => {
            let caller = Caller {
                appid: envelope.appid,
                mch_id,
                sub_appid: envelope.sub_appid,
                sub_mch_id: envelope.sub_mch_id,
                kind,
                key: key.clone(),
            };
            Ok((merchant, caller))
        }
        (Some(_), None) => Err(format!("wrong signature of mch_id {mch_id}")),
        (None, _) if known.is_some() => Err(format!("mch_id {mch_id} may not sign with {kind}")),
        (None, _) => Err(format!("unknown merchant: mch_id {mch_id}")),
    }
}

/// Reads the fields of an endpoint.
fn read(
    gateway: &Gateway,
    endpoint: Endpoint,
    message: &Message<'_>,
    merchant: &Merchant,
) -> Result<Asked, RequestError> {
    Ok(match endpoint {
        Endpoint::Micropay => {
            let request = MicropayRequest::read(message)?;
            let (wait, hold) = match merchant.mode {
                Mode::Relay => (Wait::FirstWord, gateway.config.hold),
                Mode::Hold => (Wait::Definite, merchant.hold(&gateway.config)),
            };
            Asked::Pay(Box::new(new_payment(gateway, &request, message, merchant, (wait, hold))), hold)
        }
        Endpoint::OrderQuery => {
            let order = OrderQueryRequest::read(message)?.order;
            let absence = merchant.absence(gateway.config.absence);
            Asked::Query(order, merchant.long_poll(&gateway.config), absence.after_ms)
        }
        Endpoint::Reverse => Asked::Reverse(ReverseRequest::read(message)?.order),
    })
}

/// What the engine is given for a payment.
pub(super) fn new_payment(
    gateway: &Gateway,
    request: &MicropayRequest<'_>,
    message: &Message<'_>,
    merchant: &Merchant,
    (wait, hold): (Wait, Duration),
) -> NewPayment {
    let binding = &merchant.binding;
    NewPayment {
        key: OrderKey { merchant: binding.merchant, number: request.out_trade_no },
        provider: binding.provider,
        amount: request.total_fee,
        digest: gateway.digest.content(content_pairs(message)),
        attach: attach_digest(request.attach.unwrap_or_default()),
        till: till_of(gateway, request, merchant),
        patience: if wait == Wait::Nothing { Duration::ZERO } else { hold.saturating_sub(ANSWER_TIME) },
        wait,
        expires_at: request.time_expire_s.map(|s| UnixMs(s.saturating_mul(1_000))),
        auth_code: request.auth_code.clone(),
        upstream: Fields::new(upstream_pairs(message).filter(|(name, _)| *name != field::AUTH_CODE)),
    }
}

/// Which till a payment comes from, where its merchant has payments of one till held against each other: the one that it
/// names, or else, by its address, whoever sends for the same machine.
fn till_of(gateway: &Gateway, request: &MicropayRequest<'_>, merchant: &Merchant) -> u64 {
    if merchant.rescan(gateway.config.rescan).rule == RescanRule::Off {
        return 0;
    }
    match request.device_info.filter(|name| !name.is_empty()) {
        Some(name) => gateway.digest.till(name),
        None => gateway.digest.till(&format!("@{}", request.spbill_create_ip)),
    }
}

async fn pay(gateway: &Gateway, payment: NewPayment, hold: Duration, caller: &Caller) -> Reply {
    match gateway.paid(payment, hold).await {
        Known::Payment(record, said) => match till::pay(&record, said) {
            PayAnswer::Paid(paid) => {
                let mut reply = Answer::new(caller).success().paid(&record, paid).reply();
                tells(&mut reply, &record);
                reply
            }
            // An open order is USERPAYING, never SYSTEMERROR: it is known here and will end.
            PayAnswer::Fail(fail) => {
                let mut reply = Answer::new(caller).fail(fail.code, fail.description).reply();
                if said != Said::OtherContent {
                    tells(&mut reply, &record);
                }
                reply
            }
        },
        Known::Unsettled(first) => {
            metrics::refused(Refusal::Rescan);
            let (code, text) = till::unsettled(&first);
            let mut reply = fail(Endpoint::Micropay, code, &text, true, caller);
            tells(&mut reply, &first);
            reply
        }
        Known::NotTaken(why) => not_accepted(Endpoint::Micropay, why, caller),
        // The store takes no word at the moment: nothing is promised that a crash could break (INV-13).
        Known::Nothing => fail(Endpoint::Micropay, "SYSTEMERROR", TEXT_UNKNOWN, true, caller),
    }
}

async fn query(
    gateway: &Gateway,
    order: OrderRef,
    patience: (Duration, u64),
    binding: &Binding,
    caller: &Caller,
) -> Reply {
    match find_definite(gateway, order, patience, binding).await {
        Ok(Some(record)) => {
            let answer = till::query(&record);
            let reply = Answer::new(caller).success().text(field::TRADE_STATE, answer.trade_state);
            let reply = reply.text(field::TRADE_STATE_DESC, answer.description);
            match answer.paid {
                Some(paid) => {
                    let mut reply = reply.paid(&record, paid).reply();
                    tells(&mut reply, &record);
                    reply
                }
                None => reply.text(field::OUT_TRADE_NO, record.key.number.as_str()).reply(),
            }
        }
        Ok(None) => Answer::new(caller).fail("ORDERNOTEXIST", "此交易订单号不存在").reply(),
        Err(reply) => reply.for_endpoint(Endpoint::OrderQuery, caller),
    }
}

async fn reverse(gateway: &Gateway, order: OrderRef, binding: &Binding, caller: &Caller) -> Reply {
    let key = match order {
        OrderRef::OutTradeNo(number) => OrderKey { merchant: binding.merchant, number },
        OrderRef::TransactionId(_) => match find(gateway, order, binding).await {
            Ok(Some(record)) => record.key,
            Ok(None) => {
                let text = "无效transaction_id，请使用商户订单号";
                return fail(Endpoint::Reverse, "INVALID_TRANSACTIONID", text, false, caller);
            }
            Err(reply) => return reply.for_endpoint(Endpoint::Reverse, caller),
        },
    };
    let told = gateway.engine.reverse(key, binding.provider);
    let again = |caller| fail(Endpoint::Reverse, "SYSTEMERROR", "撤销处理中，请稍后再次撤销", true, caller);
    match wait(told, gateway.config.hold).await {
        Waited::Told(Told::Answer { record, said }) => match till::reverse(&record, said) {
            ReverseAnswer::Done => Answer::new(caller).success().text(field::RECALL, "N").reply(),
            ReverseAnswer::CallAgain => again(caller),
            ReverseAnswer::TooOld => {
                fail(Endpoint::Reverse, "REVERSE_EXPIRE", "订单已超过7天，请使用退款", false, caller)
            }
        },
        Waited::Told(Told::Refused(why)) => not_accepted(Endpoint::Reverse, why, caller),
        Waited::Told(Told::Unsettled(_)) | Waited::Open => again(caller),
    }
}

/// The store does not answer.
struct StoreFailed;

impl StoreFailed {
    fn for_endpoint(self, endpoint: Endpoint, caller: &Caller) -> Reply {
        metrics::refused(Refusal::StoreDown);
        fail(endpoint, "SYSTEMERROR", "系统错误，请稍后再试", true, caller)
    }
}

/// The merchant's payment under either number.
async fn find(
    gateway: &Gateway,
    order: OrderRef,
    binding: &Binding,
) -> Result<Option<Arc<Record>>, StoreFailed> {
    let found = match order {
        OrderRef::TransactionId(id) => gateway.engine.find_by_transaction(binding.merchant, &id),
        OrderRef::OutTradeNo(number) => gateway.engine.find(&OrderKey { merchant: binding.merchant, number }),
    };
    found.wait().await.map_err(|err| {
        tracing::error!(%err, "a till's question is not answered");
        StoreFailed
    })
}

/// The same, and while the payment is open its outcome is waited for: until it is durable, or `patience` is over.
async fn find_definite(
    gateway: &Gateway,
    order: OrderRef,
    (patience, absent_after_ms): (Duration, u64),
    binding: &Binding,
) -> Result<Option<Arc<Record>>, StoreFailed> {
    let Some(found) = find(gateway, order, binding).await? else { return Ok(None) };
    if found.is_definite() || patience.is_zero() {
        return Ok(Some(gateway.asked(found, absent_after_ms).await));
    }
    let key = found.key;
    match wait(gateway.engine.watch(key, Wait::Definite), patience).await {
        Waited::Told(Told::Answer { record, .. }) => Ok(Some(record)),
        // Decided and out of memory since, or still open: the store knows.
        Waited::Told(Told::Refused(_) | Told::Unsettled(_)) | Waited::Open => {
            find(gateway, OrderRef::OutTradeNo(key.number), binding).await
        }
    }
}

/// Refused before acceptance: nothing was stored and nothing was sent for this request.
fn not_accepted(endpoint: Endpoint, why: NotAccepted, caller: &Caller) -> Reply {
    metrics::refused(Refusal::NotAccepted);
    match endpoint {
        Endpoint::Micropay | Endpoint::OrderQuery => {
            let said = till::not_accepted(why);
            fail(endpoint, said.code, said.description, true, caller)
        }
        // The number may well be paid: nothing is said about that.
        Endpoint::Reverse => {
            fail(endpoint, "FREQUENCY_LIMITED", "系统繁忙，撤销未受理，请稍后再次撤销", true, caller)
        }
    }
}

/// A signed FAIL; `again` says whether a reversal is worth repeating.
fn fail(endpoint: Endpoint, code: &str, text: &str, again: bool, caller: &Caller) -> Reply {
    let answer = Answer::new(caller).fail(code, text);
    match endpoint {
        Endpoint::Micropay | Endpoint::OrderQuery => answer.reply(),
        Endpoint::Reverse => answer.text(field::RECALL, if again { "Y" } else { "N" }).reply(),
    }
}
