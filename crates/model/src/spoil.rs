//! Automata spoiled on purpose: each must be found, or the property that it breaks proves nothing.
//!
//! A spoiled automaton is the production one behind a driver that alters a fact on its way in, or an action on its
//! way out.

/// What is spoiled.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Spoil {
    /// Nothing: production as it is.
    Nothing,
    /// A pay request without an answer counts as refused.
    TimeoutIsRefusal,
    /// A reversal's own SUCCESS counts as a query that shows it.
    ReverseIsProof,
    /// "Order does not exist" counts as closed.
    NotFoundIsClosed,
    /// A recovered ACCEPTED order is sent once more, with a new code.
    ResendAfterRecovery,
    /// A reversal leaves as soon as its decision is handed to the store.
    ReverseBeforeDurable,
    /// A batch is acknowledged before it is durable.
    AckBeforeDurable,
    /// A customer who is being asked counts as one who has paid.
    AskingIsPaid,
    /// A paid order is reversed though nobody asked for it.
    ReversePaid,
    /// No reversal ever leaves; each is answered as done.
    ReversalNeverSent,
    /// There is no guard of 15 s.
    NoGuard,
    /// A process that lost the store to another one may still write.
    NoFence,
    /// The store takes every record, whatever is there.
    NoCondition,
    /// A reversal of a number that is not there is answered as done and forgotten.
    OvertakenForgotten,
    /// Orders are not taken up after a restart.
    NoRecovery,
    /// There is no deadline.
    NoDeadline,
    /// A success that a query finds counts as closed.
    SuccessIsClosed,
    /// A payment that somebody else holds under the number counts as ours.
    StrangerIsOurs,
    /// An order whose number is taken is reversed at its deadline.
    TakenIsReversed,
    /// `recall` Y counts as done, and as shown.
    RecallIgnored,
    /// A till that repeats a paid payment is told that it failed.
    ToldOtherwise,
    /// The store acknowledges what a crash can still take (`synchronous=OFF`).
    SyncOff,
    /// A till that has hung up counts as one that listens.
    GoneIsThere,
}

impl Spoil {
    /// Every way to spoil it.
    pub const ALL: [Self; 22] = [
        Self::TimeoutIsRefusal,
        Self::ReverseIsProof,
        Self::NotFoundIsClosed,
        Self::ResendAfterRecovery,
        Self::ReverseBeforeDurable,
        Self::AckBeforeDurable,
        Self::AskingIsPaid,
        Self::ReversePaid,
        Self::ReversalNeverSent,
        Self::NoGuard,
        Self::NoFence,
        Self::NoCondition,
        Self::OvertakenForgotten,
        Self::NoRecovery,
        Self::NoDeadline,
        Self::SuccessIsClosed,
        Self::StrangerIsOurs,
        Self::TakenIsReversed,
        Self::RecallIgnored,
        Self::ToldOtherwise,
        Self::SyncOff,
        Self::GoneIsThere,
    ];
}
