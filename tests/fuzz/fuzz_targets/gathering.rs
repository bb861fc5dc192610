//! Fuzzes [`foedus_fuzz::gathering`].

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| foedus_fuzz::gathering(bytes));
