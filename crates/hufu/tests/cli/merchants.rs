use std::io::Write as _;

use crate::support::{finish, hufu, run, settings};

#[test]
fn a_merchant_that_was_added_is_listed_and_its_keys_are_shown_once() {
    let folder = tempfile::tempdir().expect("a folder");
    let config = settings(folder.path());
    let add = |mch_id: &str, upstream: &str| {
        run(&[
            "merchant",
            "add",
            "--mch-id",
            mch_id,
            "--appid",
            "wx07",
            "--upstream",
            upstream,
            "--config",
            &config,
            "--json",
        ])
    };
    let added = add("1900000207", "1900000117");
    assert_eq!(added.code, 0, "{added:?}");
    let keys = &added.json()[0];
    assert_eq!(keys["signing_key"].as_str().map(str::len), Some(32), "{keys}");
    assert!(keys["api_key"].as_str().is_some_and(|key| key.starts_with("hufu_sk_")), "{keys}");
    let twice = add("1900000207", "1900000118");
    assert_eq!(twice.code, 1, "{twice:?}");
    assert!(twice.err.contains("1900000207") && twice.err.contains("Nothing was added"), "{twice:?}");

    let listed = run(&["merchant", "list", "--config", &config, "--json"]);
    assert_eq!(listed.json().len(), 1, "{listed:?}");
    let view = &listed.json()[0];
    assert_eq!(view["merchant"], keys["merchant"]);
    assert_eq!((&view["mch_id"], &view["status"]), (&"1900000207".into(), &"active".into()));
    for secret in ["signing_key", "api_key"] {
        assert!(!listed.out.contains(keys[secret].as_str().expect("a key")), "{listed:?}");
    }

    // How its tills are answered is changed in the store while no switch runs.
    let set = |args: &[&str]| {
        let all = [&["merchant", "set", "1900000207", "--config", &config, "--json"], args].concat();
        run(&all)
    };
    let changed = set(&["--mode", "hold", "--hold-ms", "20000"]);
    assert_eq!(changed.code, 0, "{changed:?}");
    assert_eq!((&changed.json()[0]["mode"], &changed.json()[0]["hold_ms"]), (&"hold".into(), &20_000.into()));
    let refused = set(&["--long-poll-ms", "60000"]);
    assert!(refused.code == 1 && refused.err.contains("0 to 7000 ms"), "{refused:?}");
    assert_eq!(set(&[]).code, 2, "nothing is to change");
    let back = set(&["--hold-ms", "default"]);
    assert_eq!(
        (&back.json()[0]["mode"], &back.json()[0]["hold_ms"]),
        (&"hold".into(), &serde_json::Value::Null)
    );
}

#[test]
fn an_import_is_all_or_nothing() {
    let folder = tempfile::tempdir().expect("a folder");
    let config = settings(folder.path());
    let file = folder.path().join("merchants.csv");
    let path = file.to_str().expect("UTF-8");
    let key = "k".repeat(32);
    let import = |second_key: &str| {
        let text = format!(
            "mch_id,appid,upstream_sub_mch_id,signing_key\n19301,wx31,19131,{key}\n19302,wx32,19132,{second_key}\n"
        );
        std::fs::File::create(&file).and_then(|mut file| file.write_all(text.as_bytes())).expect("written");
        run(&["merchant", "import", path, "--config", &config])
    };
    let count = || run(&["merchant", "list", "--config", &config, "--json"]).json().len();
    let refused = import("short");
    assert_eq!((refused.code, count()), (1, 0), "{refused:?}");
    assert!(refused.err.contains("merchant 2") && !refused.err.contains("short"), "{refused:?}");
    let taken = import(&key);
    assert_eq!((taken.code, count()), (0, 2), "{taken:?}");
}

#[test]
fn a_silent_wallet_proves_nothing() {
    let folder = tempfile::tempdir().expect("a folder");
    let config = settings(folder.path());
    let none = run(&["merchant", "check", "--config", &config]);
    assert_eq!(none.code, 69, "there is no store yet: {none:?}");
    let mut add = hufu(&["merchant", "add", "--mch-id", "19", "--appid", "wx07", "--upstream", "20"]);
    add.env("HUFU_CONFIG", &config);
    assert_eq!(finish(add).code, 0);
    let silent = run(&["merchant", "check", "--config", &config, "--json"]);
    assert_eq!((silent.code, &silent.json()[0]["check"]), (69, &"silent".into()), "{silent:?}");
}
