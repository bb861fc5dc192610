//! Fuzzes [`foedus_fuzz::message`].

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| foedus_fuzz::message(bytes));
