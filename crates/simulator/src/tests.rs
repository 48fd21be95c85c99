//! The wallet under test, in virtual time.

mod books;
mod bytes;
mod customers;
mod population;
mod refunds;
mod rules;

use crate::{
    Answer, Call, Caller, Code, Key, Micropay, Number, Options, Outcome, Provider, Reply, Request, Seal,
    SubMerchants, Wallet,
};

/// 2026-11-23 10:15:00 in Beijing.
const START_MS: i64 = 1_795_400_100_000;
const KEY: &str = "192006250b4c09247ec02edce69f6a2d";
const NO: &str = "P20261123000000000001";

fn options() -> Options {
    Options::new(Provider {
        appid: "wxd930ea5d5a258f4f".into(),
        mch_id: "1900000109".into(),
        key: KEY.to_owned(),
        sub_merchants: SubMerchants::Any,
    })
}

fn caller() -> Caller {
    Caller {
        appid: "wxd930ea5d5a258f4f".into(),
        mch_id: "1900000109".into(),
        sub_appid: "".into(),
        sub_mch_id: "1900000110".into(),
    }
}

fn key(no: &str) -> Key {
    Key::new("1900000109", "1900000110", no)
}

/// A wallet at a moment, and what was heard from it.
struct Desk {
    wallet: Wallet,
    now_ms: i64,
    heard: Vec<String>,
}

impl Desk {
    fn new(options: Options) -> Self {
        Self { wallet: Wallet::new(1, options), now_ms: START_MS, heard: Vec::new() }
    }

    fn call(&mut self, call: Call) -> Outcome {
        self.wallet.handle(&Request { caller: caller(), call }, self.now_ms)
    }

    fn pay(&mut self, no: &str, code: &Code, fen: u64) -> Outcome {
        self.call(Call::Micropay(Micropay::new(no, code.as_str(), fen)))
    }

    fn query(&mut self, no: &str) -> Outcome {
        self.call(Call::OrderQuery(Number::OutTradeNo(no.into())))
    }

    fn reverse(&mut self, no: &str) -> Outcome {
        self.call(Call::Reverse(Number::OutTradeNo(no.into())))
    }

    /// Sets the time to `s` seconds after the start.
    fn at_s(&mut self, s: i64) {
        self.now_ms = START_MS + s * 1000;
    }

    /// Does what `script` says with one number and one code: `pay`, `query`, `reverse`, `@12` for the time in
    /// seconds since the start, and writes down the words that came back.
    fn play(&mut self, script: &str, code: &Code, fen: u64) {
        for step in script.split_whitespace() {
            let outcome = match step {
                "pay" => self.pay(NO, code, fen),
                "query" => self.query(NO),
                "reverse" => self.reverse(NO),
                time => {
                    let seconds = time.strip_prefix('@').expect("a step or a time");
                    self.at_s(seconds.parse().expect("seconds"));
                    continue;
                }
            };
            let late_ms = outcome.at_ms - self.now_ms;
            let mut word = words(&outcome.reply);
            if late_ms > 0 {
                word = format!("{word}+{late_ms}");
            }
            self.heard.push(word);
        }
        self.wallet.advance(self.now_ms);
    }

    /// What was heard, then where the order stands: `state captured-returned done@s violations`.
    fn story(&self) -> String {
        let entry = self.wallet.entry(&key(NO)).expect("the number is on the books");
        let done = entry
            .customer_done_at_ms
            .map_or_else(String::new, |done_at_ms| format!(" done@{}", (done_at_ms - START_MS) / 1000));
        let broken: String = entry.violations.iter().map(|v| format!(" {}", v.as_str())).collect();
        let money = format!("{}-{}", entry.captured_fen, entry.returned_fen);
        format!("{} | {} {money}{done}{broken}", self.heard.join(" "), entry.state.as_str())
    }
}

/// One word for what left the wallet: the trade state, the error or SUCCESS, `/Y` or `/N` for `recall`.
fn words(reply: &Reply) -> String {
    match reply {
        Reply::Answer(answer) => answer_words(answer),
        Reply::Drop => "drop".to_owned(),
        Reply::Hang => "hang".to_owned(),
        Reply::Http { status, html } => {
            assert!(html.starts_with("<html>"), "{html}");
            format!("http{status}")
        }
    }
}

fn answer_words(answer: &Answer) -> String {
    let get = |name| answer.get(name);
    let main = get("err_code").or(get("trade_state")).or(get("result_code")).unwrap_or("?");
    let word = match answer.seal {
        Seal::Signed if answer.of_another_order => format!("other:{main}"),
        Seal::Signed => main.to_owned(),
        Seal::Forged => format!("forged:{main}"),
        Seal::Unsigned => format!("unsigned:{}", get("return_msg").unwrap_or("?")),
    };
    get("recall").map_or(word.clone(), |recall| format!("{word}/{recall}"))
}
