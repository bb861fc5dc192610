//! Fuzzes [`foedus_fuzz::folder`].

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| foedus_fuzz::folder(bytes));
