//! Bands, and what outlives the process.

use proptest::collection::vec;
use proptest::prelude::{ProptestConfig, any, proptest};
use protocol::Fen;
use timer_wheel::Tick;

use super::{CHANNEL_BYTES, ImportError, Learned, MAGIC, TAKEN_MAX};
use crate::key::Channel;
use crate::planner::Lesson;

const CHANNEL: Channel = Channel::WechatV2;

fn fen(fen: u64) -> Option<Fen> {
    Some(Fen::new(fen).unwrap())
}

/// Small sums are done at 6 s, large ones at 18; both are asked about each second.
fn taught() -> Learned {
    let mut learned = Learned::default();
    for number in 0..2_000 {
        let now = Tick::from_ms(number * 50);
        let (amount, after_ms) = if number % 2 == 0 { (fen(800), 5_500) } else { (fen(80_000), 17_500) };
        learned.learn(CHANNEL, amount, Lesson::Ended { after_ms, by_ms: after_ms + 1_000 }, now);
    }
    learned.refresh(Tick::from_ms(200_000));
    learned
}

#[test]
fn bands_of_amounts_learn_apart_and_the_others_from_all() {
    let mut learned = taught();
    let mut typing = |amount, age| learned.still_typing(CHANNEL, amount, age) / 10_000;
    assert!(typing(fen(800), 10_000) < 10 && typing(fen(80_000), 10_000) > 90);
    assert!((35..65).contains(&typing(fen(20_000), 10_000)), "a band without payments goes by all of them");
    assert!(typing(fen(800), 1_000) > 95);
}

#[test]
fn before_anything_is_learned_there_is_a_guess() {
    let mut learned = Learned::default();
    let mut typing = |age| learned.still_typing(CHANNEL, None, age) / 10_000;
    assert_eq!(typing(0), 100);
    assert!((35..65).contains(&typing(8_000)), "{}", typing(8_000));
    assert!((3..30).contains(&typing(25_000)), "{}", typing(25_000));
}

#[test]
fn a_restart_keeps_it() {
    let mut learned = taught();
    let bytes = learned.export();
    assert_eq!(bytes.len(), MAGIC.len() + CHANNEL_BYTES + 8);
    let mut again = Learned::import(&bytes).unwrap();
    for amount in [fen(800), fen(20_000), fen(80_000)] {
        for age in (0..45_000).step_by(500) {
            let (was, is) =
                (learned.still_typing(CHANNEL, amount, age), again.still_typing(CHANNEL, amount, age));
            assert!(was.abs_diff(is) < 30_000, "{amount:?} at {age}: {was} and {is} millionths");
        }
    }
    assert!(again.of(CHANNEL).all.seen <= TAKEN_MAX, "the present can outweigh it within minutes");
    assert_eq!(Learned::import(&again.export()).unwrap().export(), again.export());
    assert_eq!(Learned::import(&Learned::default().export()).unwrap().channels.len(), 0);
}

#[test]
fn shards_are_merged() {
    let (mut all, mut mine) = (taught(), taught());
    all.merge(&taught());
    assert_eq!(all.of(CHANNEL).all.seen, 2 * mine.of(CHANNEL).all.seen);
    assert!(
        all.still_typing(CHANNEL, fen(800), 10_000).abs_diff(mine.still_typing(CHANNEL, fen(800), 10_000))
            < 50_000
    );
}

#[test]
fn what_is_cut_bent_or_of_another_version_is_refused() {
    let bytes = taught().export();
    for len in 0..bytes.len() {
        assert!(Learned::import(&bytes[..len]).is_err(), "cut at {len}");
    }
    for place in 0..bytes.len() {
        let mut bent = bytes.clone();
        bent[place] ^= 1 << (place % 8);
        assert!(Learned::import(&bent).is_err(), "bent at {place}");
    }
    let sealed = |mut body: Vec<u8>| {
        body.extend_from_slice(&super::check(&body).to_le_bytes());
        body
    };
    let body = &bytes[..bytes.len() - 8];
    let mut unknown = body.to_vec();
    unknown[MAGIC.len()] = 77;
    let mut twice = body.to_vec();
    twice.extend_from_slice(&body[MAGIC.len()..]);
    let mut huge = body.to_vec();
    huge[MAGIC.len() + 8] = 0xff;
    for (bytes, why) in [
        (sealed(unknown), ImportError::UnknownChannel(77)),
        (sealed(twice), ImportError::Damaged),
        (sealed(huge), ImportError::Damaged),
        (b"HUFULRN\x02 and something".to_vec(), ImportError::Foreign),
        (Vec::new(), ImportError::Foreign),
    ] {
        assert_eq!(Learned::import(&bytes).map(|_| ()), Err(why));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]
    #[test]
    fn garbage_is_refused(bytes in vec(any::<u8>(), 0..6_000), named in any::<bool>()) {
        let bytes = if named { [MAGIC.as_slice(), &bytes].concat() } else { bytes };
        assert!(Learned::import(&bytes).is_err());
    }
}
