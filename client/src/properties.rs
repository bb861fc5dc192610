//! How property tests of this crate draw their cases, and how they damage files.

use proptest::{
    prelude::*,
    sample::Index,
    test_runner::{Config, RngSeed},
};

/// The same cases in every run, so that a failure in CI is the failure at home; proptest prints the smallest failing input.
pub(crate) fn fixed_seed() -> Config {
    Config {
        rng_seed: RngSeed::Fixed(20_261_126),
        failure_persistence: None,
        cases: 512,
        ..Config::default()
    }
}

/// One thing that happens to a file.
#[derive(Clone, Debug)]
pub(crate) enum Damage {
    /// A byte becomes another one.
    Change(Index, u8),
    /// A byte is put in.
    Insert(Index, u8),
    /// A stretch is taken out.
    Remove(Index, Index),
    /// A stretch is there once more.
    Repeat(Index, Index),
    /// It ends early.
    Cut(Index),
    /// A run of digits becomes this number.
    Number(Index, u64),
}

/// Any damage; digits and what JSON, TOML and PEM are made of more often than other bytes.
pub(crate) fn damage() -> impl Strategy<Value = Damage> {
    let at = any::<Index>;
    let byte = prop_oneof![
        3 => prop::sample::select(b" \n\r\t\"\\{}[],:=-.+#0123456789abcdefABCDEFtruenul".to_vec()),
        1 => any::<u8>(),
    ];
    let number = prop_oneof![Just(0), Just(u64::MAX), Just(u64::MAX / 2), any::<u64>()];
    prop_oneof![
        (at(), byte.clone()).prop_map(|(at, byte)| Damage::Change(at, byte)),
        (at(), byte).prop_map(|(at, byte)| Damage::Insert(at, byte)),
        (at(), at()).prop_map(|(one, other)| Damage::Remove(one, other)),
        (at(), at()).prop_map(|(one, other)| Damage::Repeat(one, other)),
        at().prop_map(Damage::Cut),
        (at(), number).prop_map(|(at, number)| Damage::Number(at, number)),
    ]
}

impl Damage {
    /// The bytes of a file after it; perhaps the same.
    pub(crate) fn done_to(&self, bytes: &[u8]) -> Vec<u8> {
        let mut changed = bytes.to_vec();
        let place = |at: &Index| at.index(bytes.len() + 1);
        let stretch = |one: &Index, other: &Index| {
            let (one, other) = (place(one), place(other));
            one.min(other)..one.max(other)
        };
        match self {
            Self::Change(at, byte) => changed[at.index(bytes.len())] = *byte,
            Self::Insert(at, byte) => changed.insert(place(at), *byte),
            Self::Remove(one, other) => drop(changed.drain(stretch(one, other))),
            Self::Repeat(one, other) => {
                let stretch = stretch(one, other);
                let again = bytes[stretch.clone()].to_vec();
                changed.splice(stretch.end..stretch.end, again);
            }
            Self::Cut(at) => changed.truncate(place(at)),
            Self::Number(at, number) => {
                let is_digit = |place: &usize| bytes[*place].is_ascii_digit();
                let from = at.index(bytes.len());
                if let Some(first) = (from..bytes.len()).find(is_digit) {
                    let end = (first..bytes.len()).find(|place| !is_digit(place));
                    let digits = first..end.unwrap_or(bytes.len());
                    changed.splice(digits, number.to_string().into_bytes());
                }
            }
        }
        changed
    }
}

/// What a file may hold that nobody wrote for this: any bytes, and text that looks like something.
pub(crate) fn any_bytes() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        prop::collection::vec(any::<u8>(), 0..300),
        "(\\PC|\n){0,200}".prop_map(String::into_bytes),
        "(\\{\"[a-z]{1,8}\":([0-9]{1,22}|\"[a-z0-9]{0,70}\"|null|[\\[\\{]{0,40})[,}]\n?){1,8}"
            .prop_map(String::into_bytes),
    ]
}
