use crate::support::{finish, hufu, run, settings};

#[test]
fn check_config_lists_every_problem_at_once() {
    let _covers = covers::covers(&["CF-01"]);
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("hufu.toml");
    std::fs::write(
        &path,
        "mode = \"sandbox\"\n[listen]\ngatewy = \"x\"\n[store]\nseal_key = \"secretsecret\"\n[policy]\ngive_up_ms = 0\n",
    )
    .expect("written");
    let path = path.to_str().expect("UTF-8");
    let done = run(&["check-config", "--config", path]);
    assert_eq!(done.code, 2, "{done:?}");
    for problem in ["listen.gatewy", "store.path", "store.seal_key", "policy.give_up_ms", "provider"] {
        assert!(done.err.contains(problem), "{problem} in {}", done.err);
    }
    assert!(!done.err.contains("secretsecret") && !done.out.contains("secretsecret"));
    let json = run(&["check-config", "--config", path, "--json"]);
    assert_eq!(json.code, 2);
    let report = &json.json()[0];
    assert_eq!(report["ok"], false);
    assert!(report["problems"].as_array().is_some_and(|problems| problems.len() >= 5), "{report}");
    assert_eq!(run(&["serve", "--config", path]).code, 2, "serve does not start with problems");
}

#[test]
fn check_config_shows_what_is_in_effect_without_secrets() {
    let _covers = covers::covers(&["INV-26"]);
    let folder = tempfile::tempdir().expect("a folder");
    let config = settings(folder.path());
    let done = run(&["check-config", "--config", &config]);
    assert_eq!(done.code, 0, "{done:?}");
    assert!(done.out.starts_with("ok\n"), "{}", done.out);
    for secret in ["5a5a5a", "kkkkkkkk"] {
        assert!(!done.out.contains(secret), "{}", done.out);
    }
    let mut over = hufu(&["check-config", "--config", &config, "--json"]);
    over.env("HUFU_POLICY__GIVE_UP_MS", "60000");
    let report = &finish(over).json()[0];
    assert_eq!((&report["ok"], &report["settings"]["policy"]["give_up_ms"]), (&true.into(), &60_000.into()));
}

#[test]
fn without_a_switch_nothing_is_reversed() {
    let folder = tempfile::tempdir().expect("a folder");
    let config = settings(folder.path());
    let done = run(&["payment", "reverse", "P20261123000000000001", "--config", &config, "--json"]);
    assert_eq!(done.code, 69, "{done:?}");
    for text in ["P20261123000000000001", "Nothing was done", "no money has moved", "hufu serve"] {
        assert!(done.err.contains(text), "{text} in {}", done.err);
    }
    assert_eq!(done.json()[0]["exit"], 69);
    let missing = run(&["payment", "list", "--config", "/nonexistent/hufu.toml"]);
    assert_eq!(missing.code, 2, "{missing:?}");
}
