//! Fuzzes [`foedus_fuzz::header`].

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| foedus_fuzz::header(bytes));
