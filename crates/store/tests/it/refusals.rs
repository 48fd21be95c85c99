//! What is refused at the opening, in words that say what to do. Covers CF-03, CF-06, CF-09, PR-16.

use std::path::Path;

use store::{OpenError, Options, SealKey, SqliteReader, SqliteStore, Store};

use crate::support::{Place, accepted, all, apply, seal_key};

fn open(path: &Path) -> Result<SqliteStore, OpenError> {
    SqliteStore::open(path, &seal_key(), Options::default())
}

#[test]
fn a_second_writer_is_refused_and_told_who_writes() {
    let _covers = covers::covers(&["PR-16"]);
    let place = Place::new();
    let mut store = place.open();
    let error = open(&place.path()).expect_err("in use");
    assert_eq!(error, OpenError::InUse { path: place.path(), pid: Some(std::process::id()) });
    assert!(error.to_string().contains(&format!("(pid {})", std::process::id())), "{error}");
    // The first one is not disturbed, and a book of merchants counts as a writer.
    apply(&mut store, &[accepted(1, "order-1")]);
    let book = store.merchant_book().expect("a book");
    drop(store);
    assert!(matches!(open(&place.path()), Err(OpenError::InUse { .. })));
    drop(book);
    assert_eq!(all(&mut place.open()).len(), 1);
}

#[test]
fn another_master_key_is_refused() {
    let _covers = covers::covers(&["CF-06"]);
    let place = Place::new();
    drop(place.open());
    let wrong = SealKey::from_bytes([0xa5; 32]);
    let error = SqliteStore::open(&place.path(), &wrong, Options::default()).expect_err("the wrong key");
    assert_eq!(error, OpenError::WrongKey { path: place.path() });
    let error = SqliteReader::open(&place.path(), &wrong).expect_err("the wrong key");
    assert_eq!(error, OpenError::WrongKey { path: place.path() });
    assert_eq!(place.open().fence().0, 2, "a refused opening takes no fence");
}

#[test]
fn other_schemas_are_refused() {
    let _covers = covers::covers(&["CF-09", "INV-29"]);
    let place = Place::new();
    drop(place.open());
    for (schema, expected) in [
        (5, OpenError::NewerSchema { found: 5, known: 4 }),
        (1, OpenError::OlderSchema { found: 1, known: 4 }),
    ] {
        place.sql().execute("UPDATE store SET schema = ?1", [schema]).expect("written by hand");
        assert_eq!(open(&place.path()).expect_err("another schema"), expected);
        assert_eq!(SqliteReader::open(&place.path(), &seal_key()).expect_err("another schema"), expected);
    }
    place.sql().execute("UPDATE store SET schema = 4", []).expect("written by hand");
    drop(place.open());
}

#[test]
fn what_is_no_store_is_left_alone() {
    let place = Place::new();
    std::fs::write(place.path(), b"a text of some length that is no database at all").expect("written");
    let error = open(&place.path()).expect_err("no store");
    assert_eq!(error, OpenError::NotAStore { path: place.path() });
    assert_eq!(place.bytes("").len(), 48);

    let place = Place::new();
    place.sql().execute_batch("CREATE TABLE other (id INTEGER)").expect("another program's file");
    let error = open(&place.path()).expect_err("no store");
    assert_eq!(error, OpenError::NotAStore { path: place.path() });
}

#[test]
fn a_missing_directory_or_store_is_named() {
    let place = Place::new();
    let path = place.dir.path().join("missing").join("store.db");
    assert!(matches!(open(&path), Err(OpenError::Unavailable { .. })));
    let error = SqliteReader::open(&place.path(), &seal_key()).expect_err("nothing to read");
    assert!(matches!(&error, OpenError::Unavailable { path, .. } if *path == place.path()), "{error}");
    assert!(!place.path().exists(), "reading makes no store");
}

#[test]
fn files_are_for_their_owner_only() {
    use std::os::unix::fs::PermissionsExt;
    let place = Place::new();
    let _store = place.open();
    for suffix in ["", "-wal", "-recent-0", "-recent-1"] {
        let path = crate::support::with_suffix(&place.path(), suffix);
        let mode = std::fs::metadata(path).expect("the file is there").permissions().mode();
        assert_eq!(mode & 0o077, 0, "{suffix}: {mode:o}");
    }
}
