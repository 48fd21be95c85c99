//! Providers and merchants: identities are unique, numbers stay, keys are sealed. Covers OP-06, OP-09, MI-06, CF-04.

use secrecy::{ExposeSecret, SecretString};
use state_machine::{Channel, MerchantId, ProviderId, UnixMs};
use store::merchant::{Mode, Northbound, Rotation, SignKinds, Status, api_key_digest};
use store::{MerchantBook, MerchantError, NewMerchant, Settings, SqliteReader};

use crate::support::{NOW_MS, Place, seal_key};

const NOW: UnixMs = UnixMs(NOW_MS);

fn merchant(provider: ProviderId, at: u32) -> NewMerchant {
    NewMerchant {
        northbound: Northbound {
            mch_id: format!("19{at:08}").parse().expect("a number"),
            sub_mch_id: None,
            appid: "wx8888888888888888".parse().expect("an id"),
        },
        provider,
        upstream_sub_mch_id: format!("15{at:08}").parse().expect("a number"),
        sub_appid: None,
        signing_key: SecretString::from(format!("{at:032}")),
        api_key_digest: None,
        mode: Mode::Relay,
        settings: Settings::default(),
        sign_kinds: SignKinds::Both,
    }
}

fn book(place: &Place) -> (MerchantBook, ProviderId) {
    let mut book = place.open().merchant_book().expect("a book");
    let provider = book.provider(Channel::WechatV2, &"1900000109".parse().expect("a number")).expect("added");
    (book, provider)
}

#[test]
fn everything_of_a_merchant_comes_back() {
    let place = Place::new();
    let (mut book, provider) = book(&place);
    let plain = merchant(provider, 1);
    let full = NewMerchant {
        northbound: Northbound { sub_mch_id: Some("S1".parse().expect("an id")), ..plain.northbound },
        upstream_sub_mch_id: "1500000002".parse().expect("a number"),
        sub_appid: Some("wx_sub".parse().expect("an id")),
        api_key_digest: Some(api_key_digest("hufu_sk_1")),
        sign_kinds: SignKinds::HmacSha256,
        ..plain.clone()
    };
    assert_eq!(book.add(&plain, NOW), Ok(MerchantId(1)));
    assert_eq!(book.add(&full, NOW), Ok(MerchantId(2)));
    let read = book.merchants().expect("readable");
    assert_eq!(read.damaged, []);
    let [first, second] = &read.rows[..] else { panic!("{:?}", read.rows) };
    assert_eq!((first.id, second.id), (MerchantId(1), MerchantId(2)));
    assert_eq!((first.northbound, second.northbound), (plain.northbound, full.northbound));
    assert_eq!((first.provider, first.provider_mch_id.as_str()), (provider, "1900000109"));
    assert_eq!((first.channel, first.mode, first.created_at), (Channel::WechatV2, Mode::Relay, NOW));
    assert_eq!((first.sub_appid, second.sub_appid), (None, full.sub_appid));
    assert_eq!((first.sign_kinds, second.sign_kinds), (SignKinds::Both, SignKinds::HmacSha256));
    assert_eq!((first.api_key_digest, second.api_key_digest), (None, full.api_key_digest));
    assert_eq!(second.upstream_sub_mch_id, full.upstream_sub_mch_id);
    assert_eq!((first.status, second.status), (Status::Active, Status::Active));
    assert_eq!(first.signing_key.expose_secret(), plain.signing_key.expose_secret());
    assert!(!format!("{first:?}").contains(&format!("{:032}", 1)));
}

#[test]
fn identities_are_taken_once_and_an_import_is_all_or_nothing() {
    let place = Place::new();
    let (mut book, provider) = book(&place);
    let first = NewMerchant { api_key_digest: Some(api_key_digest("hufu_sk_1")), ..merchant(provider, 1) };
    book.add(&first, NOW).expect("added");
    let same_name = NewMerchant { northbound: first.northbound, ..merchant(provider, 2) };
    let same_sub = NewMerchant { upstream_sub_mch_id: first.upstream_sub_mch_id, ..merchant(provider, 2) };
    let same_key = NewMerchant { api_key_digest: first.api_key_digest, ..merchant(provider, 2) };
    let lost = merchant(ProviderId(99), 2);
    let short = NewMerchant { signing_key: SecretString::from("short"), ..merchant(provider, 2) };
    let odd = NewMerchant { signing_key: SecretString::from("é".repeat(16)), ..merchant(provider, 2) };
    for (wrong, said) in [
        (same_name, "its mch_id with this sub_mch_id and appid"),
        (same_sub, "its sub_mch_id at this provider"),
        (same_key, "its API key"),
        (lost, "names a provider"),
        (short, "signing key"),
        (odd, "signing key"),
    ] {
        let error = book.import(&[merchant(provider, 3), wrong], NOW).expect_err(said).to_string();
        assert!(
            error.contains("merchant 2 of this import") || error.contains("of merchant 2 of this import")
        );
        assert!(error.contains(said), "{error}");
        assert_eq!(book.merchants().expect("readable").rows.len(), 1, "{said}");
    }
    // The same sub-merchant number at another provider is another merchant.
    let other = book.provider(Channel::WechatV2, &"1900000110".parse().expect("a number")).expect("added");
    let elsewhere = NewMerchant {
        provider: other,
        upstream_sub_mch_id: first.upstream_sub_mch_id,
        ..merchant(provider, 4)
    };
    assert_eq!(book.add(&elsewhere, NOW), Ok(MerchantId(2)));
}

#[test]
fn numbers_stay_over_reopenings() {
    let place = Place::new();
    let (mut first, provider) = book(&place);
    first.import(&[merchant(provider, 1), merchant(provider, 2)], NOW).expect("added");
    drop(first);
    let (mut second, again) = book(&place);
    assert_eq!(again, provider);
    assert_eq!(second.providers().expect("readable").len(), 1);
    assert_eq!(second.add(&merchant(provider, 3), NOW), Ok(MerchantId(3)));
    let mut reader = SqliteReader::open(&place.path(), &seal_key()).expect("a reader");
    let found = reader.merchant(MerchantId(2)).expect("readable").expect("there");
    assert_eq!(found.northbound, merchant(provider, 2).northbound);
    assert!(reader.merchant(MerchantId(4)).expect("readable").is_none());
    assert_eq!(reader.providers().expect("readable")[0].mch_id.as_str(), "1900000109");
}

#[test]
fn a_disabled_merchant_stays_itself() {
    let place = Place::new();
    let (mut book, provider) = book(&place);
    book.add(&merchant(provider, 1), NOW).expect("added");
    for status in [Status::Disabled, Status::Disabled, Status::Active] {
        book.set_status(MerchantId(1), status).expect("changed");
        let read = book.merchants().expect("readable");
        assert_eq!(read.damaged, []);
        assert_eq!(read.rows[0].status, status);
    }
    assert_eq!(book.set_status(MerchantId(2), Status::Disabled), Err(MerchantError::Unknown(MerchantId(2))));
    assert!(place.sql().execute("DELETE FROM merchants", []).is_err());
}

#[test]
fn ten_thousand_merchants_in_one_import() {
    let place = Place::new();
    let (mut book, provider) = book(&place);
    let many: Vec<NewMerchant> = (0..10_000).map(|at| merchant(provider, at)).collect();
    let ids = book.import(&many, NOW).expect("added");
    assert_eq!(ids.len(), 10_000);
    let read = book.merchants().expect("readable");
    assert_eq!((read.rows.len(), read.damaged.len()), (10_000, 0));
    assert_eq!(read.rows[9_999].signing_key.expose_secret(), format!("{:032}", 9_999));
    for suffix in ["", "-wal"] {
        let bytes = place.bytes(suffix);
        let canary = format!("{:032}", 4_321);
        assert!(!bytes.windows(32).any(|window| window == canary.as_bytes()), "{suffix}");
    }
}

#[test]
fn a_damaged_merchant_is_closed_and_the_others_are_open() {
    let place = Place::new();
    let (mut first, provider) = book(&place);
    first.import(&[merchant(provider, 1), merchant(provider, 2), merchant(provider, 3)], NOW).expect("added");
    drop(first);
    for change in [
        "signing_key = (SELECT signing_key FROM merchants WHERE id = 1)",
        "upstream_sub_mch_id = '1599999999'",
        "status = 'disabled'",
        "sign_kinds = 'md5'",
        "id = 9",
        "checksum = (SELECT checksum FROM merchants WHERE id = 1)",
    ] {
        let copy = place.snapshot();
        copy.sql().execute(&format!("UPDATE merchants SET {change} WHERE id = 2"), []).expect("changed");
        let (mut book, _) = book(&copy);
        let read = book.merchants().expect("readable");
        assert_eq!((read.rows.len(), read.damaged.len()), (2, 1), "{change}");
        // Switching it on or off does not whitewash it.
        assert!(book.set_status(MerchantId(2), Status::Active).is_err(), "{change}");
        assert_eq!(book.merchants().expect("readable").damaged.len(), 1, "{change}");
    }
}

#[test]
fn how_tills_are_answered_is_kept_and_bounded() {
    let place = Place::new();
    let (mut book, provider) = book(&place);
    let settings = Settings { hold_ms: Some(10_000), ..Settings::default() };
    book.add(&NewMerchant { mode: Mode::Hold, settings, ..merchant(provider, 1) }, NOW).expect("added");
    let now = |book: &mut MerchantBook| {
        let read = book.merchants().expect("readable");
        assert_eq!(read.damaged, []);
        (read.rows[0].mode, read.rows[0].settings)
    };
    assert_eq!(now(&mut book), (Mode::Hold, settings));
    let other = Settings { long_poll_ms: Some(2_500), ..Settings::default() };
    book.set_answering(MerchantId(1), Mode::Relay, &other).expect("changed");
    assert_eq!(now(&mut book), (Mode::Relay, other));
    // Out of bounds: nothing is written.
    let over = Settings { hold_ms: Some(u32::MAX), ..Settings::default() };
    assert!(matches!(
        book.set_answering(MerchantId(1), Mode::Hold, &over),
        Err(MerchantError::Setting { .. })
    ));
    let added = book.add(&NewMerchant { settings: over, ..merchant(provider, 2) }, NOW);
    assert!(matches!(added, Err(MerchantError::Setting { place: 1, .. })), "{added:?}");
    let unknown = book.set_answering(MerchantId(2), Mode::Hold, &other);
    assert_eq!(unknown, Err(MerchantError::Unknown(MerchantId(2))));
    assert_eq!(now(&mut book), (Mode::Relay, other));
    // A setting of a later version closes the merchant, and no other; so does one written by hand.
    place.sql().execute("UPDATE merchants SET settings = 'v1 hold_ms=1'", []).expect("written by hand");
    let read = book.merchants().expect("readable");
    assert_eq!((read.rows.len(), read.damaged.len()), (0, 1));
}

#[test]
fn a_damaged_previous_key_is_not_taken_and_closes_nobody() {
    let _covers = covers::covers(&["CF-05"]);
    let place = Place::new();
    let (mut first, provider) = book(&place);
    first.import(&[merchant(provider, 1), merchant(provider, 2)], NOW).expect("added");
    let new = SecretString::from("n".repeat(32));
    let rotation = Rotation { signing_key: Some(new), api_key_digest: None, until: None };
    first.rotate(MerchantId(1), &rotation, NOW).expect("rotated");
    assert!(first.rotate(MerchantId(1), &rotation, NOW).is_err(), "one change at a time");
    drop(first);
    let keys = |place: &Place| {
        let rows = book(place).0.merchants().expect("readable").rows;
        let shown = |key: &SecretString| key.expose_secret().to_owned();
        rows.iter()
            .map(|row| {
                (shown(&row.signing_key), row.previous_signing_key.as_ref().map(|one| shown(&one.key)))
            })
            .collect::<Vec<_>>()
    };
    let (old, other) = (format!("{:032}", 1), format!("{:032}", 2));
    assert_eq!(keys(&place), [("n".repeat(32), Some(old)), (other.clone(), None)]);
    for change in [
        "kind = CAST(x'ff' AS TEXT)",
        "kind = 'api_key'",
        "secret = x'00'",
        "until = 5",
        "checksum = x''",
        "merchant = 2",
    ] {
        let copy = place.snapshot();
        copy.sql().execute(&format!("UPDATE merchant_keys SET {change}"), []).expect(change);
        assert_eq!(keys(&copy), [("n".repeat(32), None), (other.clone(), None)], "{change}");
    }
}

#[test]
fn an_api_key_is_never_two_merchants() {
    let _covers = covers::covers(&["CF-05", "INV-20"]);
    let place = Place::new();
    let (mut book, provider) = book(&place);
    let with = |at: u32, key: &str| NewMerchant {
        api_key_digest: Some(api_key_digest(key)),
        ..merchant(provider, at)
    };
    let to =
        |key: &str, until| Rotation { signing_key: None, api_key_digest: Some(api_key_digest(key)), until };
    book.import(&[with(1, "a"), with(2, "b")], NOW).expect("added");
    book.rotate(MerchantId(1), &to("c", Some(UnixMs(NOW.0 + 1))), NOW).expect("rotated");
    // The first merchant's tills may still have the key before: it would make them the second, or the third.
    for (key, error) in
        [("a", MerchantError::KeyOfAnother { place: 1 }), ("c", MerchantError::KeyTaken { place: 1 })]
    {
        assert_eq!(book.rotate(MerchantId(2), &to(key, None), NOW), Err(error), "{key}");
    }
    let later = UnixMs(NOW.0 + 1_000);
    assert_eq!(
        book.import(&[with(3, "d"), with(4, "a")], later),
        Err(MerchantError::KeyOfAnother { place: 2 }),
        "also after its time"
    );
    let rows = book.merchants().expect("readable").rows;
    let keys: Vec<_> = rows.iter().map(|row| row.api_key_digest).collect();
    assert_eq!(keys, ["c", "b"].map(|key| Some(api_key_digest(key))), "nothing was written");
    // Its own it may go back to.
    assert_eq!(book.rotate(MerchantId(1), &to("a", None), later), Ok(()));
}
