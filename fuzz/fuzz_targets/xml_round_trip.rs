#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| hostile::run("xml_round_trip", data));
