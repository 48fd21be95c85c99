//! What payments teach about how long customers take, and that the next process knows it.

use protocol::Fen;

use super::facts::FEN;
use super::rig::Rig;
use crate::key::Channel;
use crate::planner::Learned;

/// Runs `script` for each of so many orders, one after the other.
fn taught(script: &str, orders: u32) -> Rig {
    let mut rig = Rig::configured(|config| config.orders_max = 1_000);
    for order in 1..=orders {
        rig.run(&format!("@{order} {script} mark"));
    }
    rig
}

/// How many in a hundred are thought to be typing still, at ages in seconds.
fn typing(learned: &Learned, ages_s: [u64; 3]) -> [u64; 3] {
    let mut learned = learned.clone();
    ages_s.map(|age| learned.still_typing(Channel::WechatV2, Fen::new(FEN).ok(), age * 1_000) / 10_000)
}

#[test]
fn an_end_lies_between_the_query_that_saw_it_and_the_one_before() {
    let rig = taught("pay a:A7 +5s q:userpaying +1s q:userpaying +1s q:paid", 80);
    let [long_before, before, after] = typing(rig.shard.learned(), [4, 6, 8]);
    assert!(long_before > 80 && before > 80 && after < 20, "{long_before} {before} {after}");
    // A customer who cancels is done as well, and nobody knows when an answer that was lost was given.
    let rig = taught("pay a:A7 +5s q:userpaying +1s q:unclear +1s q:payerror +8s r:done q:revoked", 80);
    let [before, within, after] = typing(rig.shard.learned(), [5, 6, 10]);
    assert!(before > 80 && (20..90).contains(&within) && after < 25, "{before} {within} {after}");
}

#[test]
fn who_is_given_up_was_still_typing() {
    let at_the_deadline = "+39s q:userpaying +1s q:userpaying q:userpaying r:done q:revoked";
    let by_the_till = "+15s q:userpaying +1s q:userpaying reverse q:userpaying r:done q:revoked";
    for (end, open_s) in [(at_the_deadline, 40), (by_the_till, 18)] {
        let rig = taught(&format!("pay a:A7 +5s q:userpaying {end}"), 60);
        let [open, ..] = typing(rig.shard.learned(), [open_s; 3]);
        assert!(open > 75, "{end}: {open}");
    }
}

#[test]
fn what_is_no_password_and_what_is_not_certain_teach_nothing() {
    let nothing = Learned::default().export();
    for script in [
        "pay a:A6",                                   // paid at once
        "pay a:A2 +5s q:paid",                        // the answer was lost
        "pay a:A7 +5s q:userpaying crash +1s q:paid", // its age is not certain any more
    ] {
        let rig = taught(script, 3);
        assert_eq!(rig.shard.learned().export(), nothing, "{script}");
    }
}

#[test]
fn the_next_process_goes_on_from_what_this_one_learned() {
    let mut rig = taught("pay a:A7 +5s q:userpaying +1s q:paid", 80);
    let kept = rig.shard.learned().export();
    rig.run("crash");
    assert_eq!(rig.shard.learned().export(), Learned::default().export());
    rig.shard.set_learned(Learned::import(&kept).unwrap());
    let [before, _, after] = typing(rig.shard.learned(), [5, 6, 9]);
    assert!(before > 80 && after < 25, "{before} {after}");
}
