//! Fuzzes [`foedus_fuzz::transcript`].

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| foedus_fuzz::transcript(bytes));
