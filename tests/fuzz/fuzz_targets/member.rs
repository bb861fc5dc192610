//! Fuzzes [`foedus_fuzz::member`].

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| foedus_fuzz::member(bytes));
