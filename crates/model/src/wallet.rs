//! The wallet, one order at a time: what it holds, and what it says when it is asked.
//!
//! Abstract, but nothing that it does is kinder than the channel's documents promise: a reversal of an order that
//! it has not seen keeps nothing out, not-found may be said of what is there as long as a late pay request could
//! still arrive, and every reversal may be answered without having been done. Source: wechatpay-v2 §4.2 to §4.5.

use state_machine::shard::Call;

/// What the wallet has under the number.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Order {
    /// Nothing.
    #[default]
    Unseen,
    /// Nothing, and the pay request was refused: an equal one is refused again.
    Refused,
    /// The customer is asked for the password.
    Asking,
    /// Our money.
    Paid,
    /// The payment failed.
    PayError,
    /// The payment is said to have failed, and took the money.
    PayErrorTaken,
    /// Reversed: closed, or the money returned.
    Revoked,
    /// The money was returned by our repair refund.
    Refunded,
    /// Somebody else's payment.
    Stranger,
}

/// How the wallet takes a pay request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum PayWord {
    /// Paid at once.
    Paid,
    /// The customer is asked.
    Asking,
    /// Refused: the code has expired.
    Refused,
    /// SYSTEMERROR, and the money is taken.
    ErrorPaid,
    /// SYSTEMERROR, and the customer is asked.
    ErrorAsking,
    /// SYSTEMERROR, and nothing happened.
    ErrorNothing,
    /// A refusal without a signature, and nothing happened.
    UnsignedNothing,
    /// A refusal without a signature, and the money is taken.
    UnsignedPaid,
    /// Paid, and answered ORDERPAID: a proxy sent the request twice.
    TakenPaid,
    /// The number is somebody else's.
    TakenStranger,
    /// Refused because of the number, and nothing is there.
    TakenNothing,
}

impl PayWord {
    /// What costs no fault.
    pub const HONEST: [Self; 3] = [Self::Paid, Self::Asking, Self::Refused];
    /// What costs one.
    pub const FAULTS: [Self; 8] = [
        Self::ErrorPaid,
        Self::ErrorAsking,
        Self::ErrorNothing,
        Self::UnsignedNothing,
        Self::UnsignedPaid,
        Self::TakenPaid,
        Self::TakenStranger,
        Self::TakenNothing,
    ];

    /// Whether it says that the number is taken.
    #[must_use]
    pub const fn says_taken(self) -> bool {
        matches!(self, Self::TakenPaid | Self::TakenStranger | Self::TakenNothing)
    }

    const fn leads_to(self) -> Order {
        match self {
            Self::Paid | Self::ErrorPaid | Self::UnsignedPaid | Self::TakenPaid => Order::Paid,
            Self::Asking | Self::ErrorAsking => Order::Asking,
            Self::Refused | Self::ErrorNothing | Self::UnsignedNothing | Self::TakenNothing => Order::Refused,
            Self::TakenStranger => Order::Stranger,
        }
    }
}

/// What the wallet answers to any other call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Word {
    /// A query: what is there.
    Shows(Order),
    /// A query: not found, though it is there.
    Lag,
    /// A reversal: done.
    Done,
    /// A reversal: no such order.
    Absent,
    /// A reversal: call again; nothing was done.
    CallAgain,
    /// A reversal: SYSTEMERROR; it was done.
    ErrorDone,
    /// A reversal: the customer is in the dialog; nothing was done.
    Dialog,
    /// A reversal: too old; nothing was done.
    Expired,
    /// A reversal or a refund: refused.
    Refused,
    /// A refund: accepted.
    Accepted,
    /// A list of refunds: all of it, or none.
    Lists(bool),
}

/// One order at the wallet.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Wallet {
    /// What it has.
    pub order: Order,
    /// How often it took our money.
    pub captured: u8,
    /// It reverses no more.
    pub expired: bool,
    /// It has said that the number is taken.
    pub said_taken: bool,
    /// It has said not-found of what is there since.
    pub missed: bool,
}

impl Wallet {
    /// Whether it holds money of ours.
    #[must_use]
    pub const fn holds_money(&self) -> bool {
        matches!(self.order, Order::Paid | Order::PayErrorTaken)
    }

    /// Whether a customer can still turn it into money.
    #[must_use]
    pub const fn can_be_paid(&self) -> bool {
        matches!(self.order, Order::Asking) && !self.expired
    }

    /// Whether there is something to reverse, and it is ours.
    const fn is_known(&self) -> bool {
        !matches!(self.order, Order::Unseen | Order::Refused | Order::Stranger)
    }

    const fn take(&mut self) {
        self.captured = self.captured.saturating_add(1);
    }

    /// A pay request arrives. An equal one changes nothing if the first was seen.
    pub fn pay(&mut self, word: PayWord) {
        if self.order == Order::Unseen {
            self.order = word.leads_to();
            self.said_taken = word.says_taken();
            if self.order == Order::Paid {
                self.take();
            }
        }
    }

    /// Another pay request, with another code, arrives under the same number (no wallet does this: for a spoiled
    /// automaton that sends one).
    pub fn pay_anew(&mut self) {
        self.order = Order::Paid;
        self.take();
    }

    /// The customer enters the password.
    pub const fn customer_pays(&mut self) {
        self.order = Order::Paid;
        self.take();
    }

    /// The dialog ends otherwise; `taken` if the money is taken all the same.
    pub const fn customer_fails(&mut self, taken: bool) {
        self.order = if taken { Order::PayErrorTaken } else { Order::PayError };
        if taken {
            self.take();
        }
    }

    /// What it may answer to `call`: without a fault, and at the cost of one. `in_fog` as long as not-found
    /// proves nothing.
    #[must_use]
    pub fn words(&self, call: Call, in_fog: bool) -> (Vec<Word>, Vec<Word>) {
        match call {
            Call::Query | Call::LastQuery => {
                let hidden = in_fog && !matches!(self.order, Order::Unseen | Order::Refused);
                (vec![Word::Shows(self.order)], if hidden { vec![Word::Lag] } else { Vec::new() })
            }
            Call::Reverse if self.expired => (vec![Word::Expired], Vec::new()),
            Call::Reverse => match self.order {
                Order::Unseen | Order::Refused => (vec![Word::Absent, Word::Done], Vec::new()),
                Order::Asking => (vec![Word::Done], vec![Word::Dialog]),
                Order::Paid | Order::PayError => {
                    (vec![Word::Done], vec![Word::CallAgain, Word::ErrorDone, Word::Expired])
                }
                // Two lies about the same money are the operator's (C6): one is told at a time.
                Order::PayErrorTaken => (vec![Word::Done], vec![Word::CallAgain, Word::ErrorDone]),
                Order::Revoked | Order::Stranger => (vec![Word::Done], Vec::new()),
                Order::Refunded => (vec![Word::Refused], Vec::new()),
            },
            Call::Refund => match self.order {
                Order::Paid | Order::PayErrorTaken => (vec![Word::Accepted], Vec::new()),
                Order::Unseen
                | Order::Refused
                | Order::Asking
                | Order::PayError
                | Order::Revoked
                | Order::Refunded
                | Order::Stranger => (vec![Word::Refused], Vec::new()),
            },
            Call::RefundQuery => (vec![Word::Lists(self.order == Order::Refunded)], Vec::new()),
        }
    }

    /// The call arrives and is answered with `word`.
    pub fn arrives(&mut self, call: Call, word: Word) {
        match (call, word) {
            (Call::Reverse, Word::Done | Word::ErrorDone) if self.is_known() => self.order = Order::Revoked,
            (Call::Reverse, Word::Expired) => {
                self.expired = true;
                if self.order == Order::Asking {
                    self.order = Order::PayError;
                }
            }
            (Call::Query | Call::LastQuery, Word::Lag) => self.missed = self.said_taken,
            (Call::Refund, Word::Accepted) => self.order = Order::Refunded,
            _ => {}
        }
    }
}
