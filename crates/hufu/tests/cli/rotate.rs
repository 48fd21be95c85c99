//! New keys are never lost, whatever becomes of the command that made them.

use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixListener;
use std::path::Path;

use serde_json::{Value, json};

use crate::support::{Done, run, settings};

/// Settings in `folder` and a merchant.
fn prepared(folder: &Path) -> String {
    let config = settings(folder);
    let who = ["--mch-id", "1900000207", "--appid", "wx07", "--upstream", "1900000117"];
    let added = run(&[&["merchant", "add"], &who[..], &["--config", &config]].concat());
    assert_eq!(added.code, 0, "{added:?}");
    config
}

fn rotate(config: &str, rest: &[&str]) -> Done {
    run(&[&["merchant", "rotate", "1900000207", "--config", config], rest].concat())
}

#[test]
fn new_keys_are_shown_before_they_are_taken() {
    let folder = tempfile::tempdir().expect("a folder");
    let config = prepared(folder.path());
    let done = rotate(&config, &[]);
    assert_eq!(done.code, 0, "{done:?}");
    let at = |text: &str| done.out.find(text).unwrap_or_else(|| panic!("{text}: {done:?}"));
    assert!(at("not taken yet") < at("hufu_sk_") && at("hufu_sk_") < at("they are taken now"), "{done:?}");
}

#[test]
fn new_keys_are_on_the_disk_before_they_are_taken() {
    let folder = tempfile::tempdir().expect("a folder");
    let config = prepared(folder.path());
    let file = folder.path().join("new.json");
    let out = file.to_str().expect("UTF-8");
    let done = rotate(&config, &["--json", "--out", out]);
    assert_eq!(done.code, 0, "{done:?}");
    let kept = std::fs::read_to_string(&file).expect("written");
    let kept: Value = serde_json::from_str(&kept).expect("JSON");
    let key = kept["api_key"].as_str().expect("a key");
    assert_eq!(kept["signing_key"].as_str().map(str::len), Some(32), "{kept}");
    assert!(!done.out.contains(key), "not also shown: {done:?}");
    assert_eq!(std::fs::metadata(&file).expect("there").permissions().mode() & 0o777, 0o600);
    // Nothing is written over, and then nothing is changed either.
    let again = rotate(&config, &["--finish"]);
    assert_eq!(again.code, 0, "{again:?}");
    let before = run(&["merchant", "list", "--config", &config, "--json"]).out;
    let over = rotate(&config, &["--out", out]);
    assert!(over.code == 2 && over.err.contains("Nothing was changed"), "{over:?}");
    assert_eq!(run(&["merchant", "list", "--config", &config, "--json"]).out, before);
}

/// A switch that lists its merchant, and goes away in the middle of a rotation.
fn cut_off(socket: &Path) -> std::thread::JoinHandle<Vec<Value>> {
    let listener = UnixListener::bind(socket).expect("bound");
    std::thread::spawn(move || {
        let mut asked = Vec::new();
        loop {
            let (stream, _) = listener.accept().expect("a command");
            let mut line = String::new();
            BufReader::new(&stream).read_line(&mut line).expect("a line");
            if line.is_empty() {
                continue; // It only looked whether a switch runs.
            }
            let command: Value = serde_json::from_str(&line).expect("JSON");
            asked.push(command);
            if asked.len() == 2 {
                return asked;
            }
            let merchant = json!({
                "merchant": 1, "mch_id": "1900000207", "sub_mch_id": null, "appid": "wx07",
                "provider": "1900000109", "upstream_sub_mch_id": "1900000117", "sub_appid": null,
                "mode": "relay", "sign_kinds": "md5", "status": "active", "has_api_key": true, "created_at": "",
            });
            writeln!(&stream, "{}", json!({"result": [merchant]})).expect("answered");
        }
    })
}

#[test]
fn keys_whose_fate_is_unknown_are_left_to_whoever_asked() {
    let _covers = covers::covers(&["CF-05"]);
    for mode in ["people", "json", "file"] {
        let folder = tempfile::tempdir().expect("a folder");
        let config = settings(folder.path());
        let switch = cut_off(&folder.path().join("admin.sock"));
        let file = folder.path().join("new.json");
        let done = match mode {
            "people" => rotate(&config, &[]),
            "json" => rotate(&config, &["--json"]),
            _ => rotate(&config, &["--out", file.to_str().expect("UTF-8")]),
        };
        let asked = switch.join().expect("asked");
        let sent = &asked[1]["keys"];
        assert_eq!(done.code, 69, "{mode}: {done:?}");
        assert!(done.err.contains("not known whether the new keys are taken"), "{mode}: {done:?}");
        let kept = std::fs::read_to_string(&file).unwrap_or_else(|_| done.out.clone());
        for name in ["signing_key", "api_key"] {
            let key = sent[name].as_str().unwrap_or_else(|| panic!("{mode}: {asked:?}"));
            assert!(kept.contains(key), "{mode}: {name} is lost: {done:?}");
        }
    }
}
