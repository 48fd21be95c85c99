//! What each admin command does.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use protocol::MchId;
use state_machine::shard::NotAccepted;
use state_machine::{MerchantId, OrderKey, till};
use store::MerchantBook;
use store::merchant::Status;
use tokio::sync::watch;

use super::merchants;
use super::protocol::{
    Command, MerchantRef, MerchantView, PaymentView, Response, TlsView, Which, listing, number,
};
use crate::clock::Clock;
use crate::engine::{Engine, LIST_MAX, ListRequest, Told};
use crate::merchants::{Directory, Merchants};
use crate::northbound::server::Life;
use crate::northbound::tls::Tls;

/// What the commands work on.
pub struct Admin {
    /// Payments.
    pub engine: Arc<dyn Engine>,
    /// The directory in use, replaced after each change.
    pub merchants: Merchants,
    /// The merchants in the store.
    pub book: MerchantBook,
    /// Every provider in the configuration.
    pub providers: Vec<MchId>,
    /// The tills' listener, told of a drain.
    pub life: watch::Sender<Life>,
    /// How long a reversal is waited for.
    pub hold: Duration,
    /// What tills are shown, where they speak TLS.
    pub tls: Option<Arc<Tls>>,
}

/// Why a merchant's certificates are not set.
const NEVER_ASKED: &str = "this switch asks tills for no certificates: it was started without listen.tls.client_ca_file, \
    so every request of this merchant would be refused from now on. Nothing was changed. Restart it with \
    client_ca_file first; or, if the merchant is to be refused until then, say --force";

/// Runs commands; one change of merchants at a time.
#[derive(Clone)]
pub struct Commands {
    engine: Arc<dyn Engine>,
    merchants: Merchants,
    book: Arc<Mutex<MerchantBook>>,
    providers: Arc<[MchId]>,
    life: watch::Sender<Life>,
    hold: Duration,
    tls: Option<Arc<Tls>>,
}

impl Commands {
    /// Takes what they work on.
    #[must_use]
    pub fn new(admin: Admin) -> Self {
        let Admin { engine, merchants, book, providers, life, hold, tls } = admin;
        Self {
            engine,
            merchants,
            book: Arc::new(Mutex::new(book)),
            providers: providers.into(),
            life,
            hold,
            tls,
        }
    }

    /// Runs one command.
    pub async fn run(&self, command: Command) -> Response {
        let done = match command {
            Command::PaymentShow { of, out_trade_no } => self.show(&of, &out_trade_no).await,
            Command::PaymentList { of, which, limit } => self.list(of.as_ref(), &which, limit).await,
            Command::PaymentReverse { of, out_trade_no } => self.reverse(&of, &out_trade_no).await,
            Command::Drain => {
                self.drain();
                Ok(Response::done("draining"))
            }
            Command::TlsReload => match self.tls.clone() {
                None => Err("tills speak plain HTTP here: there is no certificate to load".to_owned()),
                Some(tls) => {
                    // It reads the disk.
                    let loaded = tokio::task::spawn_blocking(move || tls.reload()).await;
                    let loaded = loaded.map_err(|err| format!("the command did not finish: {err}"));
                    loaded.and_then(|loaded| match loaded {
                        Ok(shown) => Ok(Response::done(TlsView::of(&shown))),
                        Err(err) => Err(format!("{err}. The certificate before stays in use.")),
                    })
                }
            },
            change @ (Command::MerchantAdd { .. }
            | Command::MerchantList
            | Command::MerchantCheck { .. }
            | Command::MerchantRotate { .. }
            | Command::MerchantRotateFinish { .. }
            | Command::MerchantStatus { .. }
            | Command::MerchantSet { .. }
            | Command::MerchantCertificates { .. }
            | Command::MerchantReload) => {
                let commands = self.clone();
                // The book reads and writes the disk.
                let changed = tokio::task::spawn_blocking(move || commands.with_book(change));
                changed.await.unwrap_or_else(|err| Err(format!("the command did not finish: {err}")))
            }
        };
        done.unwrap_or_else(Response::failed)
    }

    /// Stops taking new payments, and asks tills to go elsewhere.
    pub fn drain(&self) {
        self.engine.drain();
        self.life.send_if_modified(|life| {
            let running = *life == Life::Running;
            if running {
                *life = Life::Draining;
            }
            running
        });
    }

    fn with_book(&self, command: Command) -> Result<Response, String> {
        let mut book = self.book.lock().unwrap_or_else(PoisonError::into_inner);
        match command {
            Command::MerchantAdd { merchants } => {
                let added = merchants::add(&mut book, &merchants, Clock::wall())?;
                self.reload(&mut book)?;
                Ok(Response::done(added))
            }
            Command::MerchantList => {
                let (rows, damaged) = merchants::list(&mut book).map_err(|err| err.to_string())?;
                for why in damaged {
                    tracing::error!(%why, "merchant closed");
                }
                Ok(Response::done(rows))
            }
            Command::MerchantCheck { of } => {
                let id = self.merchant(&of)?;
                let all = book.merchants().map_err(|err| err.to_string())?;
                let row = all.rows.iter().find(|row| row.id == id).ok_or("no such merchant in the store")?;
                merchants::is_carried(row, &self.providers)?;
                Ok(Response::done(MerchantView::of(row)))
            }
            Command::MerchantRotate { of, keys, keep_ms } => {
                let (id, now) = (self.merchant(&of)?, Clock::wall());
                let view = merchants::rotate(&mut book, id, &keys, keep_ms, now)?;
                // The store has them: whoever asked must not take this for a refusal and throw them away.
                let not_in_use = self.reload(&mut book).err();
                Ok(Response::done(MerchantView { not_in_use, ..view }))
            }
            Command::MerchantRotateFinish { of } => {
                let view = merchants::finish_rotation(&mut book, self.merchant(&of)?)?;
                self.reload(&mut book)?;
                Ok(Response::done(view))
            }
            Command::MerchantStatus { of, active } => {
                let id = self.merchant(&of)?;
                let status = if active { Status::Active } else { Status::Disabled };
                book.set_status(id, status).map_err(|err| err.to_string())?;
                self.reload(&mut book)?;
                Ok(Response::done(status.as_str()))
            }
            Command::MerchantSet { of, mode, hold_ms, long_poll_ms, rate, absence } => {
                let id = self.merchant(&of)?;
                let mode = mode.as_deref();
                let changes = merchants::Changes { mode, hold_ms, long_poll_ms, rate, absence };
                let view = merchants::set(&mut book, id, &changes)?;
                self.reload(&mut book)?;
                Ok(Response::done(view))
            }
            Command::MerchantCertificates { of, fingerprints, force } => {
                let asks = self.tls.as_ref().is_some_and(|tls| tls.asks_for_certificates());
                if !fingerprints.is_empty() && !asks && !force {
                    return Err(NEVER_ASKED.to_owned());
                }
                let view = merchants::set_certificates(&mut book, self.merchant(&of)?, &fingerprints)?;
                self.reload(&mut book)?;
                Ok(Response::done(view))
            }
            Command::MerchantReload => Ok(Response::done(self.reload(&mut book)?)),
            Command::PaymentShow { .. }
            | Command::PaymentList { .. }
            | Command::PaymentReverse { .. }
            | Command::TlsReload
            | Command::Drain => Err("no command about merchants".to_owned()),
        }
    }

    /// Puts what the store holds into use, all or nothing (CF-07); returns how many merchants that are.
    fn reload(&self, book: &mut MerchantBook) -> Result<usize, String> {
        let stored = book.merchants().map_err(|err| err.to_string())?;
        let directory = Directory::of(&stored).map_err(|err| err.to_string())?;
        let count = directory.merchants().len();
        self.merchants.replace(directory);
        tracing::info!(merchants = count, "merchants reloaded");
        Ok(count)
    }

    fn merchant(&self, of: &MerchantRef) -> Result<MerchantId, String> {
        let directory = self.merchants.load();
        let found = match of.read()? {
            Which::Id(id) => directory.find_id(id),
            Which::Identity(mch_id, sub, appid) => directory.find(&mch_id, sub.as_ref(), &appid),
        };
        found.map(|one| one.binding.merchant).ok_or_else(|| "no such merchant".to_owned())
    }

    async fn show(&self, of: &MerchantRef, out_trade_no: &str) -> Result<Response, String> {
        let key = OrderKey { merchant: self.merchant(of)?, number: number(out_trade_no)? };
        let found = self.engine.find(&key).wait().await.map_err(|err| err.to_string())?;
        found
            .map(|record| Response::done(PaymentView::of(&record)))
            .ok_or_else(|| "no such payment".to_owned())
    }

    async fn list(&self, of: Option<&MerchantRef>, which: &str, limit: usize) -> Result<Response, String> {
        let request = ListRequest {
            merchant: of.map(|of| self.merchant(of)).transpose()?,
            listing: listing(which)?,
            limit: limit.clamp(1, LIST_MAX),
        };
        let found = self
            .engine
            .list(request)
            .wait()
            .await
            .map_err(|err| format!("{err}, or too many lists are being read: try again in a second"))?;
        Ok(Response::done(found.iter().map(|record| PaymentView::of(record)).collect::<Vec<_>>()))
    }

    async fn reverse(&self, of: &MerchantRef, out_trade_no: &str) -> Result<Response, String> {
        let key = OrderKey { merchant: self.merchant(of)?, number: number(out_trade_no)? };
        // A till may reverse a number that was never seen; an operator who does so has mistyped it.
        let known = self.engine.find(&key).wait().await.map_err(|err| err.to_string())?;
        known.ok_or("no such payment; nothing was done")?;
        let provider = self.merchants.load().binding(key.merchant).map(|binding| binding.provider);
        let told = self.engine.reverse(key, provider.ok_or("no such merchant")?);
        let record = match tokio::time::timeout(self.hold, told).await {
            Ok(Ok(Told::Answer { record, said })) => {
                if till::reverse(&record, said) == till::ReverseAnswer::TooOld {
                    return Err(
                        "it is older than 7 days: refund it at the wallet; nothing was done".to_owned()
                    );
                }
                record
            }
            Ok(Ok(Told::Refused(why))) => return Err(refused(why).to_owned()),
            Ok(Err(_)) | Err(_) => {
                let found = self.engine.find(&key).wait().await.map_err(|err| err.to_string())?;
                found.ok_or("the payment cannot be looked up at the moment")?
            }
        };
        Ok(Response::done(PaymentView::of(&record)))
    }
}

/// Why nothing was done.
const fn refused(why: NotAccepted) -> &'static str {
    match why {
        NotAccepted::Full | NotAccepted::Crowded | NotAccepted::Throttled => {
            "the switch is busy; nothing was done, try again"
        }
        NotAccepted::StoreBusy => "the store takes no records; nothing was done, try again",
        NotAccepted::Stopping => "the switch is stopping; nothing was done",
        NotAccepted::Expired => "it came too late by its own word; nothing was done",
        NotAccepted::Suspended => "the wallet has suspended the merchant or provider; nothing was done",
    }
}
