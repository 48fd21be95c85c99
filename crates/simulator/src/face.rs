//! Between bytes and the wallet: reads and checks requests, writes and signs answers. It holds no order, so
//! that this work needs no lock.

use std::sync::Arc;

use compact_str::CompactString;

use crate::message::{
    Answer, Call, Caller, Micropay, Number, Outcome, Refund, RefundNumber, Reply, Request, Seal,
};
use crate::options::Options;
use crate::rng::Rng;
use crate::sign::{SignType, sign};
use crate::wallet::Wallet;
use crate::wire::{read_xml, write_xml};

/// The largest amount taken, in fen: nine digits and more are still counted, sums never overflow.
const TOTAL_FEE_DIGITS_MAX: usize = 12;

/// The part of a wallet that knows keys and bytes, and no order.
#[derive(Clone, Debug)]
pub struct Face(Arc<Options>);

/// What is needed to sign the answer of a request.
#[derive(Clone, PartialEq, Eq)]
pub struct Envelope {
    key: String,
    sign_type: SignType,
}

impl std::fmt::Debug for Envelope {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Envelope").field("sign_type", &self.sign_type).finish_non_exhaustive()
    }
}

/// A request that does not reach the orders, with its answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unopened {
    /// Why.
    pub cause: UnopenedCause,
    /// What it is answered.
    pub reply: BytesReply,
}

/// Why a request does not reach the orders.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UnopenedCause {
    /// Unknown provider, or a signature that does not fit.
    BadSignature,
    /// The path needs the client certificate.
    NoCertificate,
    /// No such path, not the grammar, or a field missing or not as it should be.
    Malformed,
}

/// What leaves the wallet, in bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BytesReply {
    /// HTTP 200 with XML.
    Xml(Vec<u8>),
    /// Another HTTP status with a page.
    Http {
        /// The HTTP status.
        status: u16,
        /// The page.
        html: &'static str,
    },
    /// The connection is closed without an answer.
    Drop,
    /// Nothing, ever, until the caller gives up.
    Hang,
}

/// What leaves the wallet, in bytes, and when.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BytesOutcome {
    /// When, in Unix milliseconds.
    pub at_ms: i64,
    /// What.
    pub reply: BytesReply,
}

impl Wallet {
    /// The part of this wallet that works without its orders.
    #[must_use]
    pub fn face(&self) -> Face {
        Face(Arc::clone(&self.options))
    }

    /// Takes a request as it came over HTTPS: its path, its body, and whether a client certificate was shown.
    pub fn handle_bytes(
        &mut self,
        path: &str,
        body: &[u8],
        client_certificate: bool,
        now_ms: i64,
    ) -> BytesOutcome {
        let face = self.face();
        match face.open(path, body, client_certificate) {
            Ok((request, envelope)) => face.seal(&envelope, self.handle(&request, now_ms)),
            Err(unopened) => {
                self.advance(now_ms);
                self.count(unopened.cause);
                BytesOutcome { at_ms: self.now_ms, reply: unopened.reply }
            }
        }
    }

    /// Counts a request that did not reach the orders.
    pub const fn count(&mut self, cause: UnopenedCause) {
        match cause {
            UnopenedCause::BadSignature => self.stats.bad_signatures += 1,
            UnopenedCause::NoCertificate => self.stats.no_certificate += 1,
            UnopenedCause::Malformed => self.stats.malformed += 1,
        }
    }
}

impl Face {
    /// Reads and checks a request.
    ///
    /// # Errors
    ///
    /// [`Unopened`] with the answer, if it is not for the orders.
    pub fn open(
        &self,
        path: &str,
        body: &[u8],
        client_certificate: bool,
    ) -> Result<(Request, Envelope), Unopened> {
        let path = Path::of(path).ok_or(Unopened {
            cause: UnopenedCause::Malformed,
            reply: BytesReply::Http { status: 404, html: "<html><h1>404 Not Found</h1></html>" },
        })?;
        if path.needs_certificate() && !client_certificate {
            return Err(Unopened { cause: UnopenedCause::NoCertificate, reply: NO_CERTIFICATE });
        }
        if body.is_empty() {
            return Err(unsigned(UnopenedCause::Malformed, "post数据为空"));
        }
        let pairs = read_xml(body).map_err(|_| unsigned(UnopenedCause::Malformed, "XML格式错误"))?;
        let message = Message(&pairs);
        let envelope = self.verify(&message)?;
        let caller = Caller {
            appid: message.text("appid"),
            mch_id: message.text("mch_id"),
            sub_appid: message.text("sub_appid"),
            sub_mch_id: message.text("sub_mch_id"),
        };
        match path.read(&message) {
            Ok(call) => Ok((Request { caller, call }, envelope)),
            Err(Missing(name)) => Err(unsigned(UnopenedCause::Malformed, &format!("缺少参数:{name}"))),
            Err(Wrong(name)) => Err(self.parameter_error(&caller, &envelope, name)),
        }
    }

    /// Writes and signs an answer.
    #[must_use]
    pub fn seal(&self, envelope: &Envelope, outcome: Outcome) -> BytesOutcome {
        let reply = match outcome.reply {
            Reply::Answer(answer) => BytesReply::Xml(envelope.write(&answer)),
            Reply::Drop => BytesReply::Drop,
            Reply::Hang => BytesReply::Hang,
            Reply::Http { status, html } => BytesReply::Http { status, html },
        };
        BytesOutcome { at_ms: outcome.at_ms, reply }
    }

    /// Checks the signature. Unknown merchant and wrong signature look alike.
    fn verify(&self, message: &Message<'_>) -> Result<Envelope, Unopened> {
        let refused = || unsigned(UnopenedCause::BadSignature, "签名错误");
        let provider = self.0.provider(message.get("mch_id")).ok_or_else(refused)?;
        let sign_type = match message.get("sign_type") {
            "" | "MD5" => SignType::Md5,
            "HMAC-SHA256" => SignType::HmacSha256,
            _ => return Err(refused()),
        };
        if sign(message.pairs(), &provider.key, sign_type) == message.get("sign") {
            Ok(Envelope { key: provider.key.clone(), sign_type })
        } else {
            Err(refused())
        }
    }

    fn parameter_error(&self, caller: &Caller, envelope: &Envelope, name: &str) -> Unopened {
        let mut answer = Answer::unsigned("OK");
        answer.seal = Seal::Signed;
        if let Some((_, return_code)) = answer.fields.first_mut() {
            *return_code = "SUCCESS".into();
        }
        answer.push("appid", caller.appid.clone());
        answer.push("mch_id", caller.mch_id.clone());
        answer.push("sub_mch_id", caller.sub_mch_id.clone());
        answer.push("nonce_str", Rng::keyed(0, name).alphanumeric(16));
        answer.push("result_code", "FAIL");
        answer.push("err_code", "PARAM_ERROR");
        answer.push("err_code_des", format!("参数格式错误:{name}"));
        Unopened { cause: UnopenedCause::Malformed, reply: BytesReply::Xml(envelope.write(&answer)) }
    }
}

impl Envelope {
    /// An envelope that signs with this key and method, for callers of [`Wallet::handle`] who need bytes.
    #[must_use]
    pub fn new(key: &str, sign_type: SignType) -> Self {
        Self { key: key.to_owned(), sign_type }
    }

    fn write(&self, answer: &Answer) -> Vec<u8> {
        let pairs = || answer.fields.iter().map(|(name, value)| (name.as_ref(), value.as_str()));
        let signature = match answer.seal {
            Seal::Signed => Some(sign(pairs(), &self.key, self.sign_type)),
            Seal::Unsigned => None,
            Seal::Forged => Some(sign(pairs(), "a key that nobody has", self.sign_type)),
        };
        write_xml(pairs(), signature.as_deref())
    }
}

const NO_CERTIFICATE: BytesReply = BytesReply::Http {
    status: 400,
    html: "<html>\r\n<head><title>400 No required SSL certificate was sent</title></head>\r\n<body>\r\n\
           <center><h1>400 Bad Request</h1></center>\r\n\
           <center>No required SSL certificate was sent</center>\r\n\
           <hr><center>nginx</center>\r\n</body>\r\n</html>\r\n",
};

/// The unsigned refusal of what cannot be trusted or read.
pub(crate) fn unsigned(cause: UnopenedCause, return_msg: &str) -> Unopened {
    let answer = Answer::unsigned(return_msg);
    let pairs = answer.fields.iter().map(|(name, value)| (name.as_ref(), value.as_str()));
    Unopened { cause, reply: BytesReply::Xml(write_xml(pairs, None)) }
}

/// The calls that the wallet serves.
#[derive(Clone, Copy)]
enum Path {
    Micropay,
    OrderQuery,
    Reverse,
    Refund,
    RefundQuery,
}

/// A field that a call cannot do without, or that has the wrong form.
enum FieldError {
    Missing(&'static str),
    Wrong(&'static str),
}

use FieldError::{Missing, Wrong};

impl Path {
    fn of(path: &str) -> Option<Self> {
        match path {
            "/pay/micropay" => Some(Self::Micropay),
            "/pay/orderquery" => Some(Self::OrderQuery),
            "/secapi/pay/reverse" => Some(Self::Reverse),
            "/secapi/pay/refund" => Some(Self::Refund),
            "/pay/refundquery" => Some(Self::RefundQuery),
            _ => None,
        }
    }

    /// Source: wechatpay-v2 §1.3.
    const fn needs_certificate(self) -> bool {
        match self {
            Self::Reverse | Self::Refund => true,
            Self::Micropay | Self::OrderQuery | Self::RefundQuery => false,
        }
    }

    fn read(self, message: &Message<'_>) -> Result<Call, FieldError> {
        for name in ["appid", "nonce_str"] {
            message.must(name)?;
        }
        match self {
            Self::Micropay => message.micropay().map(Call::Micropay),
            Self::OrderQuery => message.number().map(Call::OrderQuery),
            Self::Reverse => message.number().map(Call::Reverse),
            Self::Refund => Ok(Call::Refund(Refund {
                number: message.number()?,
                out_refund_no: message.must("out_refund_no")?.into(),
                total_fee: message.fen("total_fee")?,
                refund_fee: message.fen("refund_fee")?,
            })),
            Self::RefundQuery => message.refund_query(),
        }
    }
}

/// The pairs of a request.
struct Message<'a>(&'a [(String, String)]);

impl Message<'_> {
    fn pairs(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(name, value)| (name.as_str(), value.as_str()))
    }

    fn get(&self, name: &str) -> &str {
        self.pairs().find(|(n, _)| *n == name).map_or("", |(_, value)| value)
    }

    fn text(&self, name: &str) -> CompactString {
        self.get(name).into()
    }

    fn must(&self, name: &'static str) -> Result<&str, FieldError> {
        Some(self.get(name)).filter(|value| !value.is_empty()).ok_or(Missing(name))
    }

    /// An amount: plain digits, no sign, no leading zero. Source: wechatpay-v2 §5.3.
    fn fen(&self, name: &'static str) -> Result<u64, FieldError> {
        let text = self.must(name)?;
        let plain = text.len() <= TOTAL_FEE_DIGITS_MAX
            && text.bytes().all(|b| b.is_ascii_digit())
            && !text.starts_with('0');
        text.parse().ok().filter(|_| plain).ok_or(Wrong(name))
    }

    fn number(&self) -> Result<Number, FieldError> {
        Number::chosen(self.get("transaction_id"), self.get("out_trade_no")).ok_or(Missing("out_trade_no"))
    }

    fn micropay(&self) -> Result<Micropay, FieldError> {
        /// What is read into a field of its own, or is no business of the order. Source: DESIGN §4.
        const APART: [&str; 15] = [
            "appid",
            "mch_id",
            "sub_appid",
            "sub_mch_id",
            "nonce_str",
            "sign",
            "sign_type",
            "spbill_create_ip",
            "time_start",
            "time_expire",
            "auth_code",
            "out_trade_no",
            "total_fee",
            "attach",
            "device_info",
        ];
        for name in ["body", "spbill_create_ip"] {
            self.must(name)?;
        }
        let out_trade_no = self.must("out_trade_no")?;
        let fits = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-' | b'|' | b'*' | b'@');
        if out_trade_no.len() > 32 || !out_trade_no.bytes().all(fits) {
            return Err(Wrong("out_trade_no"));
        }
        Ok(Micropay {
            out_trade_no: out_trade_no.into(),
            auth_code: self.must("auth_code")?.into(),
            total_fee: self.fen("total_fee")?,
            attach: self.text("attach"),
            device_info: self.text("device_info"),
            others: self.0.iter().filter(|(name, _)| !APART.contains(&name.as_str())).cloned().collect(),
        })
    }

    fn refund_query(&self) -> Result<Call, FieldError> {
        let number = if !self.get("refund_id").is_empty() {
            RefundNumber::RefundId(self.text("refund_id"))
        } else if !self.get("out_refund_no").is_empty() {
            RefundNumber::OutRefundNo(self.text("out_refund_no"))
        } else {
            RefundNumber::Order(self.number()?)
        };
        let offset = match self.get("offset") {
            "" => None,
            text => Some(text.parse().map_err(|_| Wrong("offset"))?),
        };
        Ok(Call::RefundQuery { number, offset })
    }
}
