//! Fuzzes [`foedus_fuzz::plan`].

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| foedus_fuzz::plan(bytes));
