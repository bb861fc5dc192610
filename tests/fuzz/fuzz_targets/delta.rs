//! Fuzzes [`foedus_fuzz::delta`].

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| foedus_fuzz::delta(bytes));
