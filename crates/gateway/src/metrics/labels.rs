//! The words in labels: each is one of a few, known when the switch starts.

use state_machine::record::State;

/// How a payment ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// PAID.
    Paid,
    /// FAILED.
    Failed,
    /// REVERSING decided.
    Reversing,
    /// REVERSED proven.
    Reversed,
}

impl Outcome {
    /// In the order of their numbers.
    pub(super) const ALL: [Self; 4] = [Self::Paid, Self::Failed, Self::Reversing, Self::Reversed];

    /// The outcome that a state is; `None` while it is open.
    #[must_use]
    pub const fn of(state: State) -> Option<Self> {
        match state {
            State::Accepted | State::Pending => None,
            State::Paid => Some(Self::Paid),
            State::Failed => Some(Self::Failed),
            State::Reversing => Some(Self::Reversing),
            State::Reversed => Some(Self::Reversed),
        }
    }

    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::Paid => "paid",
            Self::Failed => "failed",
            Self::Reversing => "reversing",
            Self::Reversed => "reversed",
        }
    }
}

/// What waits for a thread that reads the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LookupQueue {
    /// Single payments, for tills.
    Rows,
    /// Pages of lists and of streams of events.
    Pages,
}

impl LookupQueue {
    /// In the order of their numbers.
    pub const ALL: [Self; 2] = [Self::Rows, Self::Pages];

    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::Rows => "rows",
            Self::Pages => "pages",
        }
    }
}

/// A call to the wallet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    /// `/pay/micropay`.
    Pay,
    /// `/pay/orderquery`.
    Query,
    /// `/secapi/pay/reverse`.
    Reverse,
    /// `/secapi/pay/refund`.
    Refund,
    /// `/pay/refundquery`.
    RefundQuery,
}

impl Operation {
    /// In the order of their numbers.
    pub(super) const ALL: [Self; 5] =
        [Self::Pay, Self::Query, Self::Reverse, Self::Refund, Self::RefundQuery];

    /// The word in labels and logs.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Pay => "pay",
            Self::Query => "query",
            Self::Reverse => "reverse",
            Self::Refund => "refund",
            Self::RefundQuery => "refund_query",
        }
    }
}

/// What became of a call to the wallet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CallOutcome {
    /// A verified answer.
    Verified,
    /// An answer that is not verified: unsigned, wrongly signed, or of something else.
    Unverified,
    /// No usable answer: time-out, reset, not HTTP 200, not XML.
    Lost,
    /// Not one byte was sent.
    Unsent,
}

impl CallOutcome {
    /// In the order of their numbers.
    pub(super) const ALL: [Self; 4] = [Self::Verified, Self::Unverified, Self::Lost, Self::Unsent];

    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::Verified => "verified",
            Self::Unverified => "unverified",
            Self::Lost => "lost",
            Self::Unsent => "unsent",
        }
    }
}

/// What a till asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ask {
    /// A payment.
    Pay,
    /// How a payment stands.
    Query,
    /// A reversal.
    Reverse,
    /// A list, a stream, the description of the API, or what there is not.
    Other,
}

impl Ask {
    /// In the order of their numbers.
    pub(super) const ALL: [Self; 4] = [Self::Pay, Self::Query, Self::Reverse, Self::Other];

    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::Pay => "pay",
            Self::Query => "query",
            Self::Reverse => "reverse",
            Self::Other => "other",
        }
    }
}

/// A bound that refuses nothing which [`Refusal`] would count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Limit {
    /// As many requests wait for one payment as may.
    Waiters,
    /// As many requests of one HTTP/2 connection are under way as may.
    ConnectionRequests,
}

impl Limit {
    /// All of them.
    pub const ALL: [Self; 2] = [Self::Waiters, Self::ConnectionRequests];

    /// The word in labels.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Waiters => "waiters",
            Self::ConnectionRequests => "connection_requests",
        }
    }
}

/// Why a till's request was refused before anything was done for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// No TLS handshake, or not in time.
    Handshake,
    /// The address has all the connections that one may have.
    AddressConnections,
    /// Every place was taken, and nobody had shown to be a till on the connection for long, or a till had been in the
    /// middle of asking for long.
    Evicted,
    /// Every place was taken, and too many newcomers came at once.
    NoPlace,
    /// HTTP/2 frames that ask for nothing, without end.
    Flood,
    /// The merchant's client certificate was not shown.
    ClientCertificate,
    /// Bytes that are no plain HTTP/1.1.
    Framing,
    /// Head or body came too slowly.
    ReadDeadline,
    /// An answer was not read.
    WriteDeadline,
    /// The body was cut or could not be read.
    BodyCut,
    /// The body is too long.
    BodyTooLong,
    /// The body is compressed, or of another type than it must be.
    BodyType,
    /// No such route or method.
    Route,
    /// The body is no well-formed document.
    Malformed,
    /// Unknown merchant, wrong signature or wrong bearer key.
    Unauthenticated,
    /// A sub-merchant that is not bound to the caller.
    NotBound,
    /// The merchant is disabled.
    Disabled,
    /// A field is missing or wrong.
    Field,
    /// The merchant asks too often.
    Rate,
    /// All merchants together ask too often.
    TotalRate,
    /// Too many streams of events are open, of the merchant or in all.
    Streams,
    /// The switch is full, throttled or stopping.
    NotAccepted,
    /// The store does not answer.
    StoreDown,
    /// An earlier payment of the same till for the same amount is not settled.
    Rescan,
}

impl Refusal {
    /// In the order of their numbers.
    pub(super) const ALL: [Self; 24] = [
        Self::Handshake,
        Self::AddressConnections,
        Self::Evicted,
        Self::NoPlace,
        Self::Flood,
        Self::ClientCertificate,
        Self::Framing,
        Self::ReadDeadline,
        Self::WriteDeadline,
        Self::BodyCut,
        Self::BodyTooLong,
        Self::BodyType,
        Self::Route,
        Self::Malformed,
        Self::Unauthenticated,
        Self::NotBound,
        Self::Disabled,
        Self::Field,
        Self::Rate,
        Self::TotalRate,
        Self::Streams,
        Self::NotAccepted,
        Self::StoreDown,
        Self::Rescan,
    ];

    /// The word in labels and logs.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Handshake => "handshake",
            Self::AddressConnections => "address_connections",
            Self::Evicted => "evicted",
            Self::NoPlace => "no_place",
            Self::Flood => "flood",
            Self::ClientCertificate => "client_certificate",
            Self::TotalRate => "total_rate",
            Self::Framing => "framing",
            Self::ReadDeadline => "read_deadline",
            Self::WriteDeadline => "write_deadline",
            Self::BodyCut => "body_cut",
            Self::BodyTooLong => "body_too_long",
            Self::BodyType => "body_type",
            Self::Route => "route",
            Self::Malformed => "malformed",
            Self::Unauthenticated => "unauthenticated",
            Self::NotBound => "not_bound",
            Self::Disabled => "disabled",
            Self::Field => "field",
            Self::Rate => "rate",
            Self::Streams => "streams",
            Self::NotAccepted => "not_accepted",
            Self::StoreDown => "store_down",
            Self::Rescan => "rescan",
        }
    }
}
