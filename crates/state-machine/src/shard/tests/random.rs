//! Random scripts against the rules that the rig holds every script to, then a calm wallet.

use proptest::prelude::*;

use super::crash::{Truth, ends_well};
use super::rig::Rig;

/// One random step. Answers that nobody waits for are left out when it is played.
fn step() -> impl Strategy<Value = String> {
    let of = |words: &'static [&'static str]| prop::sample::select(words).prop_map(str::to_owned);
    prop_oneof![
        3 => of(&["pay", "pay:other", "pay:first", "pay:at-once", "reverse", "watch", "left", "again"]),
        3 => of(&["a:A1", "a:A2", "a:A3", "a:A6", "a:A6:999", "a:A7", "a:A9", "a:A11", "a:A12", "a:A13",
            "a:A13!", "a:A14", "a:A15"]),
        8 => of(&["q:unclear", "q:unclear~", "q:notfound", "q:paid", "q:paid:999", "q:paid:stranger",
            "q:paid:old", "q:userpaying", "q:unpaid", "q:odd", "q:payerror", "q:closed", "q:revoked",
            "q:refund", "q:refund:999"]),
        4 => of(&["r:done", "r:again", "r:unclear", "r:systemerror", "r:dialog", "r:expired", "r:refused",
            "r:nocert", "r:absent"]),
        2 => of(&["f:accepted", "f:unclear", "f:notenough", "f:throttled", "f:refused"]),
        2 => of(&["l:unclear", "l:none", "l:full", "l:part", "l:coming", "l:processing", "l:success",
            "l:refundclose", "l:change"]),
        8 => prop_oneof![0..3_000_u64, 0..30_000_u64, 0..600_000_u64].prop_map(|ms| format!("+{ms}")),
        1 => of(&["hold", "commit", "free", "fail", "crash", "crash:torn", "reboot", "wall+1h", "wall-1h"]),
        1 => of(&["@1", "@2", "@3"]),
    ]
}

/// Whether the wallet has contradicted itself, so that an order may be held or kept as it was told.
fn is_honest(words: &[String]) -> bool {
    words.iter().all(|word| {
        !matches!(word.as_bytes(), [b'q' | b'l' | b'f', b':', ..])
            || word == "q:unclear"
            || word == "q:notfound"
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn random_scripts_keep_the_rules(
        words in prop::collection::vec(step(), 1..60),
        truth in prop::sample::select(&Truth::BEGINNINGS[..]),
    ) {
        let mut rig = Rig::new();
        for word in &words {
            rig.word_if_possible(word);
        }
        if is_honest(&words) {
            ends_well(rig, truth, &words.join(" "));
        } else {
            // Whatever was believed before, it comes to rest: decided or held, with nothing forgotten.
            let mut truths = std::collections::HashMap::new();
            rig.calm(3 * 3_600_000, |key, call| truths.entry(key).or_insert(truth).answer(call));
            for record in rig.all_durable() {
                let rests = !record.state.is_undecided() || record.held.is_some();
                prop_assert!(rests, "{:?}\n{}", record, rig.diary());
            }
        }
    }
}
