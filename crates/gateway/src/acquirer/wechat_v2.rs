//! The client of WeChat Pay's API v2, in service-provider mode.
//!
//! Each call builds a request, signs it, sends it once and has the answer judged by
//! [`protocol::wechat_v2::verdict`]. Nothing here decides about money, and nothing is retried: who calls
//! again is a matter of the state machine. Source: wechatpay-v2 §1 to §3.

mod check;

use std::cell::RefCell;
use std::fmt;
use std::time::Duration;

use protocol::fact::{PayFact, QueryFact, RefundFact, RefundsFact, ReverseFact};
use protocol::wechat_v2::field;
use protocol::wechat_v2::verdict::{self, Exchange, Expected, Pages, Signature, Verdict};
use protocol::xml::{Message, Reader, Writer};
use protocol::{AppId, Fen, MchId, OutTradeNo};
use signer::{Case, KeyRing, Kind, Scratch};
use state_machine::{ProviderId, Tick, UnixMs};
use zeroize::Zeroizing;

use super::certificate::ClientCertificate;
use super::connect::SetupError;
use super::hosts::{Endpoint, Hosts};
use super::pool::{Cause, PoolLimits, Sent, Terms};
use crate::clock::Clock;
use crate::random;

pub use check::Finding;

/// Longest answer, in bytes. Source: wechatpay-v2 §6 no. 1.
const ANSWER_BYTES_MAX: usize = 64 * 1024;
/// Longest answer to a refund query, which lists up to ten refunds with all their coupons, in bytes.
const REFUNDS_BYTES_MAX: usize = 512 * 1024;
/// Most pages of a refund query: 50 refunds, ten on a page. Source: wechatpay-v2 §1.6, §3.5.
const PAGES_MAX: usize = 5;
/// Room for a request besides its pairs, and for each pair besides its text, in bytes: what holds a code is not moved
/// about in memory while it grows.
const REQUEST_BYTES: usize = 128;
const PAIR_BYTES: usize = "<></><![CDATA[]]>".len();

/// Where a page of refunds begins. Source: wechatpay-v2 §3.5.
const OFFSET: &str = "offset";

const MICROPAY: Endpoint = Endpoint { path: "/pay/micropay", certified: false };
const ORDERQUERY: Endpoint = Endpoint { path: "/pay/orderquery", certified: false };
const REVERSE: Endpoint = Endpoint { path: "/secapi/pay/reverse", certified: true };
const REFUND: Endpoint = Endpoint { path: "/secapi/pay/refund", certified: true };
const REFUNDQUERY: Endpoint = Endpoint { path: "/pay/refundquery", certified: false };

/// A provider id (服务商) and how it is reached.
#[derive(Clone, Debug)]
pub struct ProviderAccount {
    /// Its number in the store.
    pub id: ProviderId,
    /// Its `appid`.
    pub appid: AppId,
    /// Its `mch_id`.
    pub mch_id: MchId,
    /// Its API keys: the current one signs, both verify.
    pub keys: KeyRing,
    /// How requests are signed, and so their answers.
    pub sign_kind: Kind,
    /// The primary host, then the backup.
    pub hosts: Vec<HostConfig>,
    /// Its certificate. Without one, calls to `/secapi` over TLS end as C8 and are not made.
    pub certificate: Option<ClientCertificate>,
    /// Certificate authorities trusted besides the public ones, PEM.
    pub extra_ca_pem: Option<Vec<u8>>,
    /// How long calls may take.
    pub deadlines: Deadlines,
    /// Sizes of each of its connection pools: two for each host, one of them with the certificate.
    pub pool: PoolLimits,
}

/// One host of the wallet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostConfig {
    /// `http://` or `https://`, host, and if need be a port and a path that comes before every endpoint's.
    pub base_url: String,
}

/// How long calls may take. Source: wechatpay-v2 §1.4.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Deadlines {
    /// For a live connection: a free place in the pool, name, TCP and TLS together. On each host tried.
    pub connect: Duration,
    /// From handing over a pay request to the end of its answer.
    pub pay_read: Duration,
    /// The same for a query or a refund query.
    pub query_read: Duration,
    /// The same for a reversal.
    pub reverse_read: Duration,
    /// The same for a refund.
    pub refund_read: Duration,
}

impl Default for Deadlines {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(2),
            pay_read: Duration::from_secs(10),
            query_read: Duration::from_secs(5),
            reverse_read: Duration::from_secs(15),
            refund_read: Duration::from_secs(15),
        }
    }
}

/// For whom a call is made (特约商户).
#[derive(Clone, Copy, Debug)]
pub struct SubMerchant<'a> {
    /// The sub-merchant's number.
    pub sub_mch_id: &'a MchId,
    /// Its `appid`, if it has one: then answers carry `sub_openid`.
    pub sub_appid: Option<&'a AppId>,
}

/// What became of a pay request. Its connection is closed unless the answer fitted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PayReply {
    /// The moment after which not one byte of it left any more: `T0` of the decision table. `None` if it is
    /// proven unsent.
    pub left_at: Option<Tick>,
    /// What the answer says.
    pub verdict: Verdict<PayFact>,
}

/// The client of one provider id.
pub struct Acquirer {
    account: ProviderAccount,
    hosts: Hosts,
    /// Looked at with every payment, so it is read once.
    certificate_ends_at: Option<UnixMs>,
}

thread_local! {
    /// Warm buffers of this thread.
    static BUFFERS: RefCell<(Reader, Scratch)> = const { RefCell::new((Reader::new(), Scratch::new())) };
}

impl fmt::Debug for Acquirer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Acquirer").field("mch_id", &self.account.mch_id).finish_non_exhaustive()
    }
}

impl Acquirer {
    /// A client for `account`. Nothing is connected before the first call.
    ///
    /// # Errors
    ///
    /// [`SetupError`] if a base URL or a certificate cannot be used.
    pub fn new(account: ProviderAccount) -> Result<Self, SetupError> {
        let urls: Vec<String> = account.hosts.iter().map(|host| host.base_url.clone()).collect();
        let hosts =
            Hosts::new(&urls, account.extra_ca_pem.as_deref(), account.certificate.as_ref(), account.pool)?;
        let certificate_ends_at = account.certificate.as_ref().and_then(ClientCertificate::ends_at);
        Ok(Self { account, hosts, certificate_ends_at })
    }

    /// The provider id.
    #[must_use]
    pub const fn provider(&self) -> ProviderId {
        self.account.id
    }

    /// Whether reversals and refunds can be sent at all: every host is plain HTTP or there is a certificate.
    /// If not, no new payment may be accepted (NU-14).
    #[must_use]
    pub fn can_reverse(&self) -> bool {
        self.hosts.can_certify()
    }

    /// When the client certificate ends, if there is one.
    #[must_use]
    pub const fn certificate_ends_at(&self) -> Option<UnixMs> {
        self.certificate_ends_at
    }

    /// Sends a pay request, once: `pairs` are its fields besides `out_trade_no`, `total_fee` and the common
    /// ones, `auth_code` among them. Its first byte leaves before `leave_by` or not at all; if there is no answer after
    /// `tell_after`, `on_left` hears when it has left, while the answer is awaited.
    ///
    /// A host that is proven not to have been sent a byte is replaced by the next one, once (A1).
    /// Dropping the future closes the connection; then whether it was sent is unknown.
    ///
    /// Source: wechatpay-v2 §3.1, §4.5 G3, A.
    pub async fn pay<'p>(
        &self,
        merchant: SubMerchant<'_>,
        out_trade_no: &OutTradeNo,
        amount: Fen,
        pairs: impl Iterator<Item = (&'p str, &'p str)>,
        (leave_by, tell_after): (Tick, Duration),
        on_left: impl FnOnce(Tick) + Send,
    ) -> PayReply {
        let body = {
            let total_fee = amount.to_string();
            let own = [(field::OUT_TRADE_NO, out_trade_no.as_str()), (field::TOTAL_FEE, &total_fee)];
            let ours = |name: &str| own.iter().any(|(own, _)| *own == name);
            let others = pairs.filter_map(|(name, value)| (!ours(name)).then_some((name, value)));
            self.request(merchant, own.into_iter().chain(others))
        };
        let tell_after = Some(tell_after);
        let terms = Terms { leave_by, tell_after, ..self.terms(self.account.deadlines.pay_read) };
        let mut on_left = Some(on_left);
        let mut left = |at| {
            if let Some(on_left) = on_left.take() {
                on_left(at);
            }
        };
        let sent = self.send(MICROPAY, false, body, terms, &mut left).await;
        let left_at = match &sent {
            Sent::Unsent(_) => None,
            Sent::Lost { left_at, .. } | Sent::Answer { left_at, .. } => Some(*left_at),
        };
        let expected = self.expected(&merchant, out_trade_no, Some(amount));
        let verdict = self.judge(MICROPAY, sent, |exchange, reader, verify| {
            verdict::micropay(exchange, &expected, reader, verify)
        });
        PayReply { left_at, verdict }
    }

    /// Asks for an order by the merchant's number. `amount` is checked against the answer if it is known;
    /// `other_host` prefers the backup (B1); `limit`, if given, bounds the whole call.
    ///
    /// Source: wechatpay-v2 §3.2, §4.5 B.
    pub async fn query(
        &self,
        merchant: SubMerchant<'_>,
        out_trade_no: &OutTradeNo,
        amount: Option<Fen>,
        other_host: bool,
        limit: Option<Duration>,
    ) -> Verdict<QueryFact> {
        let body = self.request(merchant, [(field::OUT_TRADE_NO, out_trade_no.as_str())]);
        let until = limit.map(Clock::after);
        let terms = Terms { until, ..self.terms(self.account.deadlines.query_read) };
        let sent = self.send(ORDERQUERY, other_host, body, terms, &mut |_| ()).await;
        let expected = self.expected(&merchant, out_trade_no, amount);
        self.judge(ORDERQUERY, sent, |exchange, reader, verify| {
            verdict::orderquery(exchange, &expected, reader, verify)
        })
    }

    /// Reverses an order by the merchant's number, with the client certificate.
    ///
    /// Source: wechatpay-v2 §3.3, §4.5 C.
    pub async fn reverse(
        &self,
        merchant: SubMerchant<'_>,
        out_trade_no: &OutTradeNo,
        other_host: bool,
    ) -> Verdict<ReverseFact> {
        let body = self.request(merchant, [(field::OUT_TRADE_NO, out_trade_no.as_str())]);
        let terms = self.terms(self.account.deadlines.reverse_read);
        let sent = self.send(REVERSE, other_host, body, terms, &mut |_| ()).await;
        let expected = self.expected(&merchant, out_trade_no, None);
        self.judge(REVERSE, sent, |exchange, reader, verify| {
            verdict::reverse(exchange, &expected, reader, verify)
        })
    }

    /// Refunds `refund_fee` of an order of `total_fee`, with the client certificate. Repeating it with the
    /// same `out_refund_no` and amounts moves no second money.
    ///
    /// Source: wechatpay-v2 §3.4, §4.5 D1 to D5.
    pub async fn refund(
        &self,
        merchant: SubMerchant<'_>,
        out_trade_no: &OutTradeNo,
        out_refund_no: &str,
        total_fee: Fen,
        refund_fee: Fen,
        other_host: bool,
    ) -> Verdict<RefundFact> {
        let (total, part) = (total_fee.to_string(), refund_fee.to_string());
        let body = self.request(
            merchant,
            [
                (field::OUT_TRADE_NO, out_trade_no.as_str()),
                (field::OUT_REFUND_NO, out_refund_no),
                (field::TOTAL_FEE, &total),
                (field::REFUND_FEE, &part),
            ],
        );
        let terms = self.terms(self.account.deadlines.refund_read);
        let sent = self.send(REFUND, other_host, body, terms, &mut |_| ()).await;
        let expected = self.expected(&merchant, out_trade_no, Some(total_fee));
        self.judge(REFUND, sent, |exchange, reader, verify| {
            verdict::refund(exchange, &expected, out_refund_no, reader, verify)
        })
    }

    /// Asks for every refund of an order, page by page; `ours` is the refund whose state matters.
    /// Unclear unless every page was verified and they agree. Up to five requests.
    ///
    /// Source: wechatpay-v2 §3.5, §4.5 B9, D6 to D10.
    pub async fn refundquery(
        &self,
        merchant: SubMerchant<'_>,
        out_trade_no: &OutTradeNo,
        amount: Option<Fen>,
        ours: Option<&str>,
        other_host: bool,
    ) -> RefundsFact {
        let expected = self.expected(&merchant, out_trade_no, amount);
        let mut pages = Pages::new();
        for _ in 0..PAGES_MAX {
            let offset = pages.offset().to_string();
            // The first page is asked for as by anybody; only a second needs a place to begin.
            let offset = (pages.offset() > 0).then_some((OFFSET, offset.as_str()));
            let number = (field::OUT_TRADE_NO, out_trade_no.as_str());
            let body = self.request(merchant, [number].into_iter().chain(offset));
            let terms =
                Terms { body_bytes_max: REFUNDS_BYTES_MAX, ..self.terms(self.account.deadlines.query_read) };
            let sent = self.send(REFUNDQUERY, other_host, body, terms, &mut |_| ()).await;
            let page = self.judge(REFUNDQUERY, sent, |exchange, reader, verify| {
                verdict::refundquery(exchange, &expected, ours, reader, verify)
            });
            if let Some(fact) = pages.add(page.fact, ours) {
                return fact;
            }
        }
        RefundsFact::Unclear
    }

    fn terms(&self, read: Duration) -> Terms {
        Terms {
            connect: self.account.deadlines.connect,
            read,
            leave_by: Tick::MAX,
            until: None,
            tell_after: None,
            body_bytes_max: ANSWER_BYTES_MAX,
        }
    }

    fn expected<'a>(
        &'a self,
        merchant: &SubMerchant<'a>,
        out_trade_no: &'a OutTradeNo,
        amount: Option<Fen>,
    ) -> Expected<'a> {
        Expected {
            appid: self.account.appid.as_str(),
            mch_id: self.account.mch_id.as_str(),
            sub_appid: merchant.sub_appid.map(AppId::as_str),
            sub_mch_id: Some(merchant.sub_mch_id.as_str()),
            out_trade_no,
            amount,
            // Nothing between here and the socket sends a request again.
            delivered_once: true,
        }
    }

    /// Builds and signs a request; `None` if it cannot be: then nothing is sent.
    fn request<'a>(
        &self,
        merchant: SubMerchant<'_>,
        business: impl IntoIterator<Item = (&'a str, &'a str)>,
    ) -> Option<Zeroizing<Vec<u8>>> {
        let account = &self.account;
        let nonce = random::nonce()?;
        let mut pairs = Vec::with_capacity(24);
        pairs.push((field::APPID, account.appid.as_str()));
        pairs.push((field::MCH_ID, account.mch_id.as_str()));
        pairs.extend(merchant.sub_appid.map(|appid| (field::SUB_APPID, appid.as_str())));
        pairs.push((field::SUB_MCH_ID, merchant.sub_mch_id.as_str()));
        pairs.push((field::NONCE_STR, nonce.as_str()));
        match account.sign_kind {
            // It is the default, and pages for service providers do not list the field.
            Kind::Md5 => {}
            Kind::HmacSha256 => pairs.push((field::SIGN_TYPE, Kind::HmacSha256.as_str())),
        }
        for (name, value) in business {
            if !value.is_empty() && !is_common(name) {
                pairs.push((name, value));
            }
        }
        if !pairs.iter().all(|(_, value)| is_writable(value)) {
            tracing::error!(mch_id = %account.mch_id, "a field cannot be written as XML; not sent");
            return None;
        }
        let sign = BUFFERS.with_borrow_mut(|(_, scratch)| {
            account.keys.sign(account.sign_kind, pairs.iter().copied(), scratch)
        });
        let capacity = pairs.iter().fold(REQUEST_BYTES, |sum, (name, value)| {
            let text = name.len().saturating_mul(2).saturating_add(value.len());
            sum.saturating_add(text).saturating_add(PAIR_BYTES)
        });
        let mut document = Zeroizing::new(Vec::with_capacity(capacity));
        let mut writer = Writer::new(&mut document);
        for (name, value) in pairs {
            writer.exact(name, value);
        }
        writer.exact(field::SIGN, sign.as_str());
        writer.finish();
        Some(document)
    }

    async fn send(
        &self,
        endpoint: Endpoint,
        other_host: bool,
        body: Option<Zeroizing<Vec<u8>>>,
        terms: Terms,
        left: &mut (dyn FnMut(Tick) + Send),
    ) -> Sent {
        if endpoint.certified && !self.can_reverse() {
            return Sent::Unsent(Cause::CertificateRefused);
        }
        let Some(body) = body else { return Sent::Unsent(Cause::Unwritable) };
        self.hosts.send(endpoint, other_host, &body, terms, left).await
    }

    /// Has an outcome judged, and gives the connection back if the answer fitted.
    fn judge<F>(
        &self,
        endpoint: Endpoint,
        sent: Sent,
        verdict: impl FnOnce(&Exchange<'_>, &mut Reader, &mut Verify<'_>) -> Verdict<F>,
    ) -> Verdict<F> {
        let account = &self.account;
        let verify = |message: &Message<'_>, scratch: &mut Scratch| {
            let claimed = message.get(field::SIGN).unwrap_or_default();
            if account.keys.verify(account.sign_kind, message.iter(), claimed, Case::Exact, scratch) {
                Signature::Valid
            } else {
                Signature::Wrong
            }
        };
        let judge = |exchange: Exchange<'_>| {
            BUFFERS.with_borrow_mut(|(reader, scratch)| {
                verdict(&exchange, reader, &mut |message: &Message<'_>| verify(message, scratch))
            })
        };
        match sent {
            Sent::Unsent(Cause::CertificateRefused) | Sent::Lost { cause: Cause::CertificateRefused, .. }
                if endpoint.certified =>
            {
                judge(Exchange::NoCertificate)
            }
            Sent::Unsent(_) => judge(Exchange::Unsent),
            Sent::Lost { .. } => judge(Exchange::Lost),
            Sent::Answer { status, body, lease, .. } => {
                let verdict = judge(Exchange::Answer { status, body: &body });
                if verdict.keep_connection {
                    lease.keep();
                }
                verdict
            }
        }
    }
}

/// Checks the signature of a message.
type Verify<'a> = dyn FnMut(&Message<'_>) -> Signature + 'a;

/// Whether a field is set by this client and nobody else.
fn is_common(name: &str) -> bool {
    matches!(
        name,
        field::APPID
            | field::MCH_ID
            | field::SUB_APPID
            | field::SUB_MCH_ID
            | field::NONCE_STR
            | field::SIGN_TYPE
            | field::SIGN
    )
}

/// Whether a value comes back from an XML reader as it was signed: no CR, and nothing that XML forbids.
fn is_writable(value: &str) -> bool {
    value.chars().all(|c| matches!(c, '\t' | '\n' | ' '..='\u{FFFD}' | '\u{10000}'..))
}
