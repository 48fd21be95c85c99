//! `GET /v1/payments`: a merchant's payments, by day and state, page by page.

use bytes::Bytes;
use hyper::StatusCode;
use jiff::civil::Date;
use jiff::tz::TimeZone;
use serde::Serialize;
use state_machine::till::JsonState;
use state_machine::{MerchantId, OrderKey, UnixMs};
use store::{Cursor, Filter};

use super::problem::Problem;
use super::query::Query;
use super::view::Payment;
use super::{Caller, Refused};
use crate::northbound::server::{Reply, typed};
use crate::northbound::{DigestKey, Gateway};

/// Payments on a page, if nothing is said, and at most.
const LIMIT: u32 = 100;
const LIMIT_MAX: u32 = 500;
/// Bytes of a token before the number: moment and seal.
const TOKEN_HEAD: usize = 16;

#[derive(Serialize)]
struct Page {
    payments: Vec<Payment>,
    /// Where to go on; absent on the last page.
    #[serde(skip_serializing_if = "Option::is_none")]
    next_page_token: Option<String>,
    /// Rows that would stand here and cannot be trusted; an operator has to look at them.
    unreadable: usize,
}

/// Lists, in the order of acceptance.
pub(super) async fn list(gateway: &Gateway, caller: &Caller, query: Option<&str>) -> Result<Reply, Refused> {
    let asked = Asked::read(query)?;
    let merchant = caller.binding.merchant;
    let seal = Seal { key: &gateway.digest, merchant, asked: &asked };
    let after = asked.page_token.as_deref().map(|token| seal.open(token)).transpose()?;
    let day = asked.day.map_or_else(Filter::default, Filter::day_utc8);
    let filter = Filter { merchant: Some(merchant), shows: asked.state, limit: asked.limit, after, ..day };
    let found = gateway.engine.page(filter).wait().await.map_err(|_| Problem::no_page())?;
    let page = Page {
        payments: found.records.iter().map(Payment::of).collect(),
        next_page_token: found.next.map(|next| seal.token(&next)),
        unreadable: found.damaged.len(),
    };
    let body = serde_json::to_vec(&page).unwrap_or_default();
    Ok(typed(StatusCode::OK, "application/json", Bytes::from(body)))
}

/// What a list is asked for.
#[derive(Debug)]
struct Asked {
    /// A moment of the day.
    day: Option<UnixMs>,
    state: Option<JsonState>,
    limit: u32,
    page_token: Option<String>,
}

impl Asked {
    fn read(query: Option<&str>) -> Result<Self, Problem> {
        let mut query = Query::read(query, &["day", "state", "limit", "page_token"])?;
        let wrong = |field, detail: &str| Problem::field(field, detail.to_owned());
        let day = query.take("day").map(|text| {
            let date = text.parse::<Date>().ok().filter(|_| text.len() == 10);
            // Noon in UTC is on the same day in +08:00.
            let noon = date.and_then(|date| date.at(12, 0, 0, 0).to_zoned(TimeZone::UTC).ok());
            noon.map(|noon| UnixMs(noon.timestamp().as_millisecond()))
                .ok_or_else(|| wrong("day", "is no day: YYYY-MM-DD"))
        });
        let state = query.take("state").map(|word| {
            JsonState::from_word(&word).ok_or_else(|| {
                wrong("state", "is none of processing awaiting_password paid failed reversing reversed")
            })
        });
        let limit = query.take("limit").map(|text| {
            let digits = text.bytes().all(|byte| byte.is_ascii_digit());
            let limit = text.parse::<u32>().ok().filter(|limit| digits && (1..=LIMIT_MAX).contains(limit));
            limit.ok_or_else(|| wrong("limit", "is not a whole number from 1 to 500"))
        });
        Ok(Self {
            day: day.transpose()?,
            state: state.transpose()?,
            limit: limit.transpose()?.unwrap_or(LIMIT),
            page_token: query.take("page_token"),
        })
    }
}

/// Makes and opens tokens: a place in the list of one merchant and one filter, which nobody else can make.
struct Seal<'a> {
    key: &'a DigestKey,
    merchant: MerchantId,
    asked: &'a Asked,
}

impl Seal<'_> {
    fn of(&self, accepted_at: i64, number: &str) -> [u8; 8] {
        let merchant = self.merchant.0.to_string();
        let day = self.asked.day.map_or_else(String::new, |day| day.0.to_string());
        let accepted_at = accepted_at.to_string();
        let digest = self.key.content(
            [
                ("page of", merchant.as_str()),
                ("day", &day),
                ("state", self.asked.state.map_or("", JsonState::as_str)),
                ("accepted_at", &accepted_at),
                ("number", number),
            ]
            .into_iter(),
        );
        let mut half = [0; 8];
        half.copy_from_slice(digest.split_at(8).0);
        half
    }

    fn token(&self, place: &Cursor) -> String {
        let (at, number) = (place.accepted_at.0, place.key.number.as_str());
        let head = at.to_be_bytes().into_iter().chain(self.of(at, number));
        head.chain(number.bytes()).map(|byte| format!("{byte:02x}")).collect()
    }

    fn open(&self, token: &str) -> Result<Cursor, Problem> {
        let place = || {
            let digits = token.as_bytes().chunks(2).map(|pair| {
                let digit = |at: usize| char::from(*pair.get(at)?).to_digit(16);
                u8::try_from(digit(0)? << 4 | digit(1)?).ok()
            });
            let bytes: Vec<u8> = digits.take(2 * TOKEN_HEAD + 64).collect::<Option<_>>()?;
            let (at, rest) = bytes.split_first_chunk()?;
            let (seal, number) = rest.split_first_chunk::<8>()?;
            let (at, number) = (i64::from_be_bytes(*at), std::str::from_utf8(number).ok()?);
            let number = number.parse().ok().filter(|_| self.of(at, number) == *seal)?;
            Some(Cursor { accepted_at: UnixMs(at), key: OrderKey { merchant: self.merchant, number } })
        };
        place().ok_or_else(|| Problem::field("page_token", "is not of this list".to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use state_machine::{MerchantId, OrderKey, UnixMs};
    use store::Cursor;

    use super::{Asked, Seal};
    use crate::northbound::DigestKey;

    #[test]
    fn a_token_is_of_one_list_only() {
        let key = DigestKey::new(&[7; 32]);
        let asked = |query: &str| Asked::read(Some(query)).expect("a query");
        let (all, failed) = (asked(""), asked("state=failed"));
        let seal = |asked, merchant| Seal { key: &key, merchant: MerchantId(merchant), asked };
        let order = |merchant| OrderKey {
            merchant: MerchantId(merchant),
            number: "P2026112300001".parse().expect("a number"),
        };
        let place = Cursor { accepted_at: UnixMs(1_795_400_100_000), key: order(1) };
        let token = seal(&all, 1).token(&place);
        assert_eq!(seal(&all, 1).open(&token).ok(), Some(place));
        assert!(seal(&all, 2).open(&token).is_err(), "another merchant's");
        assert!(seal(&failed, 1).open(&token).is_err(), "another list's");
        for at in 0..token.len() {
            let mut forged = token.clone().into_bytes();
            forged[at] = if forged[at] == b'0' { b'1' } else { b'0' };
            let forged = String::from_utf8(forged).expect("digits");
            assert!(seal(&all, 1).open(&forged).is_err(), "{forged}");
            assert!(seal(&all, 1).open(&token[..at]).is_err());
        }
    }

    #[test]
    fn queries_are_strict() {
        for (query, field) in [
            ("day=2026-11-23&state=paid&limit=500", None),
            ("day=2026-11-23T00:00", Some("day")),
            ("day=2026-02-30", Some("day")),
            ("day=", Some("day")),
            ("state=PAID", Some("state")),
            ("limit=0", Some("limit")),
            ("limit=501", Some("limit")),
            ("limit=%2b1", Some("limit")),
            ("limit=1&limit=2", Some("limit")),
            ("merchant=2", Some("query")),
            ("state=%zz", Some("state")),
        ] {
            let problem = Asked::read(Some(query)).err().map(|problem| format!("{problem:?}"));
            match (problem, field) {
                (None, None) => {}
                (Some(problem), Some(field)) => assert!(problem.contains(&format!("{field:?}")), "{problem}"),
                (problem, _) => panic!("{query}: {problem:?}"),
            }
        }
    }
}
