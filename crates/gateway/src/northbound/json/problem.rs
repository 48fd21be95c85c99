//! Refusals in JSON. Source: RFC 9457; DESIGN §4.

use hyper::StatusCode;
use hyper::header::{ALLOW, HeaderValue, RETRY_AFTER, WWW_AUTHENTICATE};
use serde::Serialize;
use state_machine::shard::NotAccepted;

use crate::metrics::{self, Refusal};
use crate::northbound::server::{Reply, typed};

/// A refusal, and whether money may have moved for the payment that it is about.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Problem {
    r#type: &'static str,
    title: &'static str,
    status: u16,
    #[serde(skip_serializing_if = "Option::is_none")]
    detail: Option<String>,
    /// The member of the request that is wrong.
    #[serde(skip_serializing_if = "Option::is_none")]
    field: Option<&'static str>,
    money_may_have_moved: bool,
    #[serde(skip)]
    allowed: Option<&'static str>,
    #[serde(skip)]
    why: Refusal,
}

impl Problem {
    const fn new(
        slug: &'static str,
        title: &'static str,
        status: StatusCode,
        money_may_have_moved: bool,
        why: Refusal,
    ) -> Self {
        Self {
            r#type: slug,
            title,
            status: status.as_u16(),
            detail: None,
            field: None,
            money_may_have_moved,
            allowed: None,
            why,
        }
    }

    /// No such bearer key, or none.
    pub(super) const fn unauthorized() -> Self {
        let title = "the bearer key is missing or unknown";
        Self::new("urn:hufu:unauthorized", title, StatusCode::UNAUTHORIZED, false, Refusal::Unauthenticated)
    }

    /// No such route.
    pub(super) const fn no_route() -> Self {
        Self::new("urn:hufu:no_route", "no such route", StatusCode::NOT_FOUND, false, Refusal::Route)
    }

    /// The route has other methods: these.
    pub(super) fn method(allowed: &'static str) -> Self {
        let title = "the route does not have this method";
        let problem =
            Self::new("urn:hufu:method", title, StatusCode::METHOD_NOT_ALLOWED, false, Refusal::Route);
        Self { allowed: Some(allowed), ..problem }
    }

    /// No such payment of this merchant: nothing was ever taken under this number.
    pub(super) const fn not_found() -> Self {
        let title = "no payment has this number";
        Self::new("urn:hufu:not_found", title, StatusCode::NOT_FOUND, false, Refusal::Field)
    }

    /// The body is not `application/json`.
    pub(super) const fn media_type() -> Self {
        let title = "the body must be application/json";
        Self::new("urn:hufu:media_type", title, StatusCode::UNSUPPORTED_MEDIA_TYPE, false, Refusal::BodyType)
    }

    /// The body is no JSON of the right shape.
    pub(super) fn malformed(detail: String) -> Self {
        let title = "the body is malformed";
        let problem =
            Self::new("urn:hufu:malformed", title, StatusCode::BAD_REQUEST, false, Refusal::Malformed);
        Self { detail: Some(detail), ..problem }
    }

    /// A member is wrong.
    pub(super) fn field(field: &'static str, detail: String) -> Self {
        let title = "a member of the request is not acceptable";
        let problem =
            Self::new("urn:hufu:invalid", title, StatusCode::UNPROCESSABLE_ENTITY, false, Refusal::Field);
        Self { detail: Some(detail), field: Some(field), ..problem }
    }

    /// The merchant is disabled. Here and below nobody has looked whether there is a payment with the number.
    pub(super) const fn disabled() -> Self {
        let title =
            "the merchant takes no payments; this request was not taken, a repeated one must be queried";
        Self::new("urn:hufu:disabled", title, StatusCode::FORBIDDEN, true, Refusal::Disabled)
    }

    /// The merchant's tills show a client certificate, and this one has not.
    pub(super) const fn certificate() -> Self {
        let title = "the merchant's client certificate was not shown; this request was not taken, \
                     a repeated one must be queried";
        let refusal = Refusal::ClientCertificate;
        Self::new("urn:hufu:client_certificate", title, StatusCode::FORBIDDEN, true, refusal)
    }

    /// The merchant asks too often, or all of them do: `why`.
    pub(super) const fn rate(why: Refusal) -> Self {
        let title = "too many requests; this one was not taken, a repeated one must be queried";
        Self::new("urn:hufu:rate", title, StatusCode::TOO_MANY_REQUESTS, true, why)
    }

    /// Too many streams are open.
    pub(super) const fn streams() -> Self {
        let title = "too many streams of events are open";
        Self::new("urn:hufu:streams", title, StatusCode::TOO_MANY_REQUESTS, false, Refusal::Streams)
    }

    /// The merchant has no event with the number that was heard last.
    pub(super) const fn unknown_event() -> Self {
        let title = "there is no event with this number; list the payments, then listen without a number";
        Self::new("urn:hufu:unknown_event", title, StatusCode::CONFLICT, true, Refusal::Field)
    }

    /// The number belongs to a payment with other content, which may well be paid.
    pub(super) const fn conflict() -> Self {
        let title = "the number belongs to another payment; nothing was changed";
        Self::new("urn:hufu:conflict", title, StatusCode::CONFLICT, true, Refusal::Field)
    }

    /// Older than the wallet reverses.
    pub(super) const fn too_old() -> Self {
        let title = "payments older than 7 days cannot be reversed";
        Self::new("urn:hufu:too_old", title, StatusCode::CONFLICT, true, Refusal::Field)
    }

    /// The request was not taken. No money moved for it, but it may have for others with its number.
    pub(super) fn not_accepted(why: NotAccepted, money_may_have_moved: bool) -> Self {
        let title = match why {
            NotAccepted::Full | NotAccepted::Throttled => "the switch is busy; nothing was taken",
            NotAccepted::Crowded => "other requests with this number are under way; query it",
            NotAccepted::StoreBusy => "the store takes no records; nothing was taken",
            NotAccepted::Stopping => "the switch is stopping; nothing was taken",
            NotAccepted::Expired => return Self::expired(),
            NotAccepted::Suspended => "the wallet has suspended this merchant or provider; nothing was taken",
        };
        let status = StatusCode::SERVICE_UNAVAILABLE;
        let money_may_have_moved = money_may_have_moved || why == NotAccepted::Crowded;
        Self::new("urn:hufu:not_accepted", title, status, money_may_have_moved, Refusal::NotAccepted)
    }

    /// The till asked too late by its own word: nothing was taken, and the same request never will be.
    fn expired() -> Self {
        let title = "expires_at is over; nothing was taken, no money moved";
        let status = StatusCode::UNPROCESSABLE_ENTITY;
        let problem = Self::new("urn:hufu:expired", title, status, false, Refusal::NotAccepted);
        Self { field: Some("expires_at"), ..problem }
    }

    /// The store does not answer.
    pub(super) const fn store_down() -> Self {
        let title = "the payment cannot be looked up at the moment";
        Self::new("urn:hufu:store_down", title, StatusCode::SERVICE_UNAVAILABLE, true, Refusal::StoreDown)
    }

    /// The store does not answer, or too many pages are being read from it.
    pub(super) const fn no_page() -> Self {
        let title = "lists and events cannot be read at the moment; try again in a second";
        Self::new("urn:hufu:store_down", title, StatusCode::SERVICE_UNAVAILABLE, true, Refusal::StoreDown)
    }

    /// The answer.
    pub(super) fn reply(self) -> Reply {
        metrics::refused(self.why);
        let status = StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let body = serde_json::to_vec(&self).unwrap_or_default();
        let mut reply = typed(status, "application/problem+json", body.into());
        if status == StatusCode::UNAUTHORIZED {
            reply.headers_mut().insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        if let Some(allowed) = self.allowed {
            reply.headers_mut().insert(ALLOW, HeaderValue::from_static(allowed));
        }
        if matches!(status, StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE) {
            reply.headers_mut().insert(RETRY_AFTER, HeaderValue::from_static("1"));
        }
        reply
    }
}
