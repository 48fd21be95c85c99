//! Every kept seed, and thousands of bent ones, through the bodies of the fuzz targets.

use std::fs;
use std::path::{Path, PathBuf};

use hostile::draw::{Rng, mutate};
use hostile::{TARGETS, Target};

/// Bent seeds of each target and run.
const BENT: usize = 4_000;
/// The variable with another number, for a long run by hand.
const BENT_VARIABLE: &str = "HOSTILE_BENT";

fn seeds(target: &Target) -> Vec<(PathBuf, Vec<u8>)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/seeds").join(target.name);
    let entries = fs::read_dir(&folder).unwrap_or_else(|err| panic!("{}: {err}", folder.display()));
    let mut files: Vec<_> = entries.map(|entry| entry.expect("an entry").path()).collect();
    files.sort();
    assert!(!files.is_empty(), "{} has no seeds", target.name);
    files.into_iter().map(|file| (file.clone(), fs::read(file).expect("a seed"))).collect()
}

/// Runs one input; says which one it was if it is a finding.
fn run(target: &Target, what: &str, data: &[u8]) {
    let body = std::panic::AssertUnwindSafe(|| (target.run)(data));
    if let Err(panic) = std::panic::catch_unwind(body) {
        eprintln!("{}: {what}: {:?}", target.name, String::from_utf8_lossy(data));
        std::panic::resume_unwind(panic);
    }
}

/// Runs the target called `name`.
fn check(name: &str) {
    let target = TARGETS.iter().find(|target| target.name == name).expect("a target");
    let seeds = seeds(target);
    for (file, data) in &seeds {
        run(target, &file.display().to_string(), data);
    }
    let bent = std::env::var(BENT_VARIABLE).map_or(BENT, |count| count.parse().expect("a number"));
    for at in 0..bent {
        let mut rng = Rng::new(at as u64);
        let (file, data) = &seeds[at % seeds.len()];
        let (_, other) = &seeds[rng.below(seeds.len())];
        let mut bent = data.clone();
        mutate(&mut bent, other, target.dictionary, &mut rng);
        run(target, &format!("{} bent by {at}", file.display()), &bent);
    }
}

macro_rules! targets {
    ($($name:ident $ids:tt)*) => {
        $(#[test]
        fn $name() {
            let _covers = covers::covers(&$ids);
            check(stringify!($name));
        })*

        #[test]
        fn every_target_is_run_here_and_in_the_fuzz_folder() {
            let here = [$(stringify!($name)),*];
            let listed: Vec<_> = TARGETS.iter().map(|target| target.name).collect();
            assert_eq!(here[..], listed);
            for name in here {
                let file = format!("../../fuzz/fuzz_targets/{name}.rs");
                let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(file);
                let text = fs::read_to_string(&path).unwrap_or_else(|err| panic!("{}: {err}", path.display()));
                assert!(text.contains(&format!("hostile::run(\"{name}\"")), "{name} runs another body");
            }
        }
    };
}

targets! {
    xml_read ["MI-01", "MI-02", "MI-03", "MI-04", "MI-12", "MI-25", "INV-24"]
    xml_round_trip ["MI-04", "INV-25"]
    canonical ["MI-05", "MI-07", "INV-25"]
    answer ["INV-04", "INV-10", "INV-25", "MI-25", "UB-23"]
    record ["DB-11", "INV-24", "INV-28", "MI-25"]
    config ["CF-01", "CF-02", "CF-07", "INV-26"]
    json ["INV-03", "INV-24", "INV-25", "INV-26", "MI-10", "MI-11", "MI-12"]
    request ["INV-03", "INV-25", "MI-05", "MI-06", "MI-07", "MI-10", "MI-11"]
    http ["INV-24", "INV-25", "MI-13", "MI-14", "MI-25", "NM-04"]
}
