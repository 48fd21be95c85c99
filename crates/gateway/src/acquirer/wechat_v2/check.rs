//! Whether the wallet takes a merchant's requests, found out by asking for an order that does not exist.
//!
//! For an operator, never for an order: here the texts of unsigned refusals are read, which nothing else may act on.
//! Source: wechatpay-v2 §1.3, §2.2, §3.2, §6 no. 19; faults-and-invariants CF-04.

use protocol::OutTradeNo;
use protocol::wechat_v2::field;
use protocol::xml::{Message, Reader};
use signer::{Case, Scratch};
use state_machine::UnixMs;

use super::{Acquirer, ORDERQUERY, SubMerchant};
use crate::acquirer::hosts::Endpoint;
use crate::acquirer::pool::{Cause, Sent};

/// The same query over the connections that carry reversals.
const CERTIFIED_QUERY: Endpoint = Endpoint { certified: true, ..ORDERQUERY };
/// Longest text of the wallet that is repeated, in characters.
const TEXT_MAX: usize = 128;

const CLOSES: &str = "it closes the connection";

/// What a check found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Finding {
    /// Key, appid and sub-merchant are taken, and so is the certificate wherever there is TLS.
    Good,
    /// The wallet refuses our signature, in these words; or its own is not made with our key.
    WrongKey(String),
    /// It does not know the provider's `mch_id` or `appid`, or they do not belong together.
    WrongProvider(String),
    /// The sub-merchant, or its `sub_appid`, is not bound to the provider.
    NotBound(String),
    /// It refuses for another reason.
    Refused(String),
    /// There is no client certificate, or it has ended, or the wallet does not accept it: no reversal is possible.
    Certificate(&'static str),
    /// No connection, or none that proves to be the wallet's.
    Unreachable(&'static str),
    /// It answered nothing that can be used.
    Unclear(String),
}

impl Finding {
    /// The word for programs.
    #[must_use]
    pub const fn as_str(&self) -> &'static str {
        match self {
            Self::Good => "ok",
            Self::WrongKey(_) => "wrong_key",
            Self::WrongProvider(_) => "wrong_provider",
            Self::NotBound(_) => "not_bound",
            Self::Refused(_) => "refused",
            Self::Certificate(_) => "certificate",
            Self::Unreachable(_) => "unreachable",
            Self::Unclear(_) => "unclear",
        }
    }
}

impl Acquirer {
    /// Asks for `unused`, which no payment has, as reversals are sent and as queries are. `now` is compared with the
    /// end of the certificate.
    pub async fn check(&self, merchant: SubMerchant<'_>, unused: &OutTradeNo, now: UnixMs) -> Finding {
        let found = self.check_over(ORDERQUERY, merchant, unused).await;
        if found != Finding::Good || !self.hosts.uses_tls() {
            return found;
        }
        if !self.can_reverse() {
            return Finding::Certificate("there is no client certificate in the configuration");
        }
        if self.certificate_ends_at().is_some_and(|end| end <= now) {
            return Finding::Certificate("the client certificate has ended");
        }
        let found = self.check_over(CERTIFIED_QUERY, merchant, unused).await;
        // Source: wechatpay-v2 §1.3: that is how it refuses a certificate, too.
        if found == Finding::Unreachable(CLOSES) {
            return Finding::Certificate("the wallet closes connections that present the client certificate");
        }
        found
    }

    async fn check_over(
        &self,
        endpoint: Endpoint,
        merchant: SubMerchant<'_>,
        unused: &OutTradeNo,
    ) -> Finding {
        let body = self.request(merchant, [(field::OUT_TRADE_NO, unused.as_str())]);
        let terms = self.terms(self.account.deadlines.query_read);
        match self.send(endpoint, false, body, terms, &mut |_| ()).await {
            Sent::Unsent(cause) | Sent::Lost { cause, .. } => no_answer(cause),
            // Source: wechatpay-v2 §1.3: a certificate that is refused is answered in HTML.
            Sent::Answer { status: 400, .. } if endpoint.certified => {
                Finding::Certificate("the wallet does not accept the client certificate")
            }
            Sent::Answer { status: 200, body, .. } => match Reader::new().read(&body) {
                Ok(message) => self.read(&message),
                Err(err) => Finding::Unclear(format!("its answer is not the API's: {err}")),
            },
            Sent::Answer { status, .. } => Finding::Unclear(format!("it answered HTTP {status}")),
        }
    }

    fn read(&self, message: &Message<'_>) -> Finding {
        let text =
            |name| message.get(name).unwrap_or("no word why").chars().take(TEXT_MAX).collect::<String>();
        if message.get(field::RETURN_CODE) != Some("SUCCESS") {
            return unsigned(text(field::RETURN_MSG));
        }
        let claimed = message.get(field::SIGN).unwrap_or_default();
        let (keys, kind) = (&self.account.keys, self.account.sign_kind);
        if !keys.verify(kind, message.iter(), claimed, Case::Exact, &mut Scratch::new()) {
            return Finding::WrongKey("its answer is not signed with the provider's key".to_owned());
        }
        if message.get(field::RESULT_CODE) == Some("SUCCESS") {
            return Finding::Good;
        }
        let code = message.get(field::ERR_CODE).unwrap_or_default();
        let words = format!("{code}: {}", text(field::ERR_CODE_DES));
        match code {
            "ORDERNOTEXIST" => Finding::Good,
            "SIGNERROR" => Finding::WrongKey(words),
            "APPID_NOT_EXIST" | "MCHID_NOT_EXIST" | "APPID_MCHID_NOT_MATCH" => Finding::WrongProvider(words),
            "SYSTEMERROR" | "FREQUENCY_LIMITED" => Finding::Unclear(words),
            _ if names_sub_merchant(&words) => Finding::NotBound(words),
            _ => Finding::Refused(words),
        }
    }
}

/// What the words of an unsigned refusal mean. They are nobody's promise: what is not known is repeated as it is.
fn unsigned(words: String) -> Finding {
    let has = |parts: &[&str]| parts.iter().any(|part| words.contains(part));
    if has(&["签名", "sign"]) {
        Finding::WrongKey(words)
    } else if names_sub_merchant(&words) {
        Finding::NotBound(words)
    } else if has(&["mch_id", "商户号", "appid"]) {
        Finding::WrongProvider(words)
    } else if has(&["繁忙", "频率", "过多", "超时", "稍后"]) {
        Finding::Unclear(words)
    } else {
        Finding::Refused(words)
    }
}

fn names_sub_merchant(words: &str) -> bool {
    ["受理关系", "sub_mch_id", "sub_appid", "特约商户", "子商户"].iter().any(|part| words.contains(part))
}

const fn no_answer(cause: Cause) -> Finding {
    match cause {
        Cause::CertificateRefused => {
            Finding::Certificate("the wallet does not accept the client certificate")
        }
        Cause::Unresolved => Finding::Unreachable("its name has no address"),
        Cause::Connect => Finding::Unreachable("it refuses connections, or there is no way to it"),
        Cause::ConnectTimeout => Finding::Unreachable("it does not take a connection in time"),
        Cause::Tls => Finding::Unreachable(
            "it does not prove to be the wallet: its TLS certificate is not trusted, or the handshake fails",
        ),
        Cause::Closed | Cause::Broken | Cause::Eof { .. } => Finding::Unreachable(CLOSES),
        Cause::ReadTimeout => Finding::Unreachable("it does not answer in time"),
        Cause::NotHttp | Cause::TooLarge => Finding::Unreachable("what answers there is not the wallet"),
        Cause::Unwritable | Cause::Busy | Cause::TooLate => Finding::Unreachable("nothing could be sent"),
    }
}

#[cfg(test)]
mod tests {
    use super::{Finding, unsigned};

    #[test]
    fn unsigned_refusals_are_told_apart_by_their_words() {
        for (words, found) in [
            ("签名错误", "wrong_key"),
            ("sign error", "wrong_key"),
            ("受理关系不存在", "not_bound"),
            ("sub_mch_id与sub_appid不匹配", "not_bound"),
            ("普通商户不能传入sub_mch_id", "not_bound"),
            ("商户号非法", "wrong_provider"),
            ("appid不存在", "wrong_provider"),
            ("系统繁忙，请稍后再试", "unclear"),
            ("频率限制", "unclear"),
            ("something new", "refused"),
        ] {
            assert_eq!(unsigned(words.to_owned()).as_str(), found, "{words}");
        }
        assert_eq!(unsigned("something new".to_owned()), Finding::Refused("something new".to_owned()));
    }
}
