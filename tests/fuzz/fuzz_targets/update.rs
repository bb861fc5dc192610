//! Fuzzes [`foedus_fuzz::update`].

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| foedus_fuzz::update(bytes));
