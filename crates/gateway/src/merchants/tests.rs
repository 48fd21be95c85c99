//! Who is found, which keys are taken, and how often somebody may ask.

use signer::{Key, Kind, Scratch};
use state_machine::{MerchantId, ProviderId, UnixMs};
use store::Settings;
use store::merchant::{Mode, SignKinds, Status, api_key_digest};

use super::{Binding, Directory, DirectoryError, Keys, Merchant, Merchants, Rate};

fn merchant(id: u32, mch_id: &str, sub_mch_id: Option<&str>, appid: &str) -> Merchant {
    Merchant {
        mch_id: mch_id.parse().unwrap(),
        sub_mch_id: sub_mch_id.map(|id| id.parse().unwrap()),
        appid: appid.parse().unwrap(),
        keys: Keys::new(Key::new(&"k".repeat(32)).unwrap(), None),
        kinds: SignKinds::Both,
        bearer: Some(api_key_digest(&format!("hufu_sk_{id}"))),
        mode: Mode::Relay,
        settings: Settings::default(),
        status: Status::Active,
        binding: Binding {
            merchant: MerchantId(id),
            provider: ProviderId(1),
            sub_mch_id: format!("19{id:08}").parse().unwrap(),
            sub_appid: None,
        },
        rate: Rate::default(),
    }
}

#[test]
fn merchants_are_found_by_all_of_what_they_send() {
    let directory = Directory::new(vec![
        merchant(1, "1900000109", Some("1900000110"), "wxa"),
        merchant(2, "1900000109", Some("1900000111"), "wxa"),
        merchant(3, "1900000200", None, "wxb"),
    ])
    .expect("all differ");
    let find = |mch: &str, sub: Option<&str>, app: &str| {
        let sub = sub.map(|id| id.parse().unwrap());
        let found = directory.find(&mch.parse().unwrap(), sub.as_ref(), &app.parse().unwrap());
        found.map(|one| one.binding.merchant.0)
    };
    assert_eq!(find("1900000109", Some("1900000110"), "wxa"), Some(1));
    assert_eq!(find("1900000109", Some("1900000111"), "wxa"), Some(2));
    assert_eq!(find("1900000200", None, "wxb"), Some(3));
    assert_eq!(find("1900000109", None, "wxa"), None);
    assert_eq!(find("1900000109", Some("1900000110"), "wxb"), None);
    assert_eq!(find("1900000200", Some("1900000110"), "wxb"), None);
    let caller = directory.find_caller(&"1900000109".parse().unwrap(), &"wxa".parse().unwrap());
    assert_eq!(caller.map(|one| one.binding.merchant.0), Some(1));
    assert!(directory.find_caller(&"1900000109".parse().unwrap(), &"wxb".parse().unwrap()).is_none());
    assert_eq!(directory.find_bearer("hufu_sk_2").map(|one| one.binding.merchant.0), Some(2));
    assert!(directory.find_bearer("hufu_sk_4").is_none());
    assert_eq!(directory.binding(MerchantId(3)).map(|binding| binding.provider), Some(ProviderId(1)));
    assert!(directory.binding(MerchantId(4)).is_none());
}

#[test]
fn merchants_that_cannot_be_told_apart_are_refused() {
    let _covers = covers::covers(&["INV-20"]);
    let twice = vec![merchant(1, "1900000109", None, "wxa"), merchant(2, "1900000109", None, "wxa")];
    assert!(matches!(Directory::new(twice), Err(DirectoryError::Identity(..))));
    let mut bearer = vec![merchant(1, "1900000109", None, "wxa"), merchant(2, "1900000110", None, "wxa")];
    bearer[1].bearer = bearer[0].bearer;
    assert_eq!(Directory::new(bearer).err(), Some(DirectoryError::Bearer(1, 2)));
    let id = vec![merchant(1, "1900000109", None, "wxa"), merchant(1, "1900000110", None, "wxa")];
    assert!(matches!(Directory::new(id), Err(DirectoryError::Bearer(1, 1) | DirectoryError::Id(1))));
}

#[test]
fn a_merchant_is_small() {
    // Tens of thousands of merchants; the indexes add about 100 bytes each.
    assert!(size_of::<Merchant>() <= 576, "{}", size_of::<Merchant>());
}

#[test]
fn many_merchants_are_all_found() {
    let all = (0..20_000).map(|id| merchant(id, &format!("{id}"), Some("1900000110"), "wxa")).collect();
    let directory = Directory::new(all).expect("all differ");
    for id in [0, 1, 9_999, 19_999_u32] {
        let sub = "1900000110".parse().unwrap();
        let found = directory.find(&id.to_string().parse().unwrap(), Some(&sub), &"wxa".parse().unwrap());
        assert_eq!(found.map(|one| one.binding.merchant.0), Some(id));
    }
}

#[test]
fn rate_allows_the_burst_and_then_the_rate() {
    let _covers = covers::covers(&["OV-03"]);
    let rate = Rate::default();
    let now = 1_000_000_000;
    assert_eq!((0..100).filter(|_| rate.take(now, 10, 5)).count(), 5);
    assert!(!rate.take(now + 99_999, 10, 5));
    assert!(rate.take(now + 100_000, 10, 5));
    assert!(!rate.take(now + 100_000, 10, 5));
    assert_eq!((0..100).filter(|_| rate.take(now + 60_000_000, 10, 5)).count(), 5);
}

#[test]
fn a_replaced_directory_keeps_the_rates() {
    let merchants = Merchants::new(Directory::new(vec![merchant(1, "1", None, "wxa")]).unwrap());
    let take = |merchants: &Merchants| merchants.load().merchants()[0].rate.take(5_000_000, 1, 1);
    assert!(take(&merchants));
    merchants
        .replace(Directory::new(vec![merchant(1, "1", None, "wxa"), merchant(2, "2", None, "wxa")]).unwrap());
    assert!(!take(&merchants), "a reload is no way to ask more");
    assert_eq!(merchants.load().merchants().len(), 2);
}

#[test]
fn the_key_that_signed_is_the_one_that_answers() {
    let _covers = covers::covers(&["CF-05"]);
    let (old, new) = (Key::new(&"a".repeat(32)).unwrap(), Key::new(&"b".repeat(32)).unwrap());
    let other = Key::new(&"c".repeat(32)).unwrap();
    let changing = Keys::new(new.clone(), Some(old.clone()));
    let changed = Keys::new(new.clone(), None);
    let mut scratch = Scratch::new();
    let pairs = [("mch_id", "1"), ("nonce_str", "n")];
    for kind in [Kind::Md5, Kind::HmacSha256] {
        let sign = |key: &Key, scratch: &mut Scratch| key.sign(kind, pairs, scratch).to_string();
        for (signed_by, during, after) in [(&old, true, false), (&new, true, true), (&other, false, false)] {
            let claimed = sign(signed_by, &mut scratch).to_ascii_lowercase();
            let found = changing.verify(kind, pairs.into_iter(), &claimed, &mut scratch).cloned();
            assert_eq!(found.is_some(), during);
            if let Some(key) = found {
                assert_eq!(sign(&key, &mut scratch), sign(signed_by, &mut scratch));
            }
            let found = changed.verify(kind, pairs.into_iter(), &claimed, &mut scratch).is_some();
            assert_eq!(found, after);
        }
    }
}

#[test]
fn a_message_chooses_within_what_its_merchant_allows() {
    let _covers = covers::covers(&["MI-06"]);
    for (kinds, md5, hmac) in
        [(SignKinds::Both, true, true), (SignKinds::HmacSha256, false, true), (SignKinds::Md5, true, false)]
    {
        let one = Merchant { kinds, ..merchant(1, "1", None, "wxa") };
        assert_eq!((one.may_sign(Kind::Md5), one.may_sign(Kind::HmacSha256)), (md5, hmac));
    }
}

#[test]
fn a_previous_key_ends_at_its_moment() {
    let _covers = covers::covers(&["CF-05"]);
    let key = |letter: &str| Key::new(&letter.repeat(32)).unwrap();
    let mut scratch = Scratch::new();
    let pairs = || [("a", "1")].into_iter();
    let sign = key("o").sign(Kind::Md5, pairs(), &mut scratch);
    for (until, taken) in [(None, true), (Some(UnixMs(i64::MAX)), true), (Some(UnixMs(0)), false)] {
        let keys = Keys::new(key("n"), Some(key("o"))).until(until);
        let by = keys.verify(Kind::Md5, pairs(), sign.as_str(), &mut scratch);
        assert_eq!(by.is_some(), taken, "{until:?}");
        let mut directory = Directory::new(vec![merchant(1, "1900000200", None, "wxa")]).unwrap();
        directory.by_previous_bearer.insert(api_key_digest("hufu_sk_old"), (0, until));
        assert_eq!(directory.find_bearer("hufu_sk_old").is_some(), taken, "{until:?}");
        assert!(directory.find_bearer("hufu_sk_1").is_some());
    }
}
