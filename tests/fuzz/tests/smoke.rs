//! Runs every fuzz target for a second or two on bytes from a seeded generator, so that the targets cannot rot and
//! cheap failures are found on stable.

/// SplitMix64 (Steele, Lea and Flood 2014).
fn next(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut mixed = *state;
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

/// Bytes with many small and many extreme ones: uniform bytes rarely make a length or a variant that exists.
fn bytes(seed: u64, length_max: u64) -> Vec<u8> {
    let mut state = seed;
    let length = next(&mut state) % (length_max + 1);
    let byte = |state: &mut u64| match next(state) % 4 {
        0 => (next(state) % 8) as u8,
        1 => [0, 1, 250, 251, 252, 253, 254, 255][(next(state) % 8) as usize],
        _ => next(state) as u8,
    };
    (0..length).map(|_| byte(&mut state)).collect()
}

fn smoke(target: fn(&[u8]), runs: u64, length_max: u64) {
    println!("seeds 0 to {}", runs - 1);
    (0..runs).for_each(|seed| target(&bytes(seed, length_max)));
}

#[test]
fn frames_hold_their_promises() {
    smoke(foedus_fuzz::frame, 200_000, 64);
}

#[test]
fn messages_hold_their_promises() {
    smoke(foedus_fuzz::message, 300_000, 200);
}

#[test]
fn headers_hold_their_promises() {
    smoke(foedus_fuzz::header, 300_000, 160);
}

#[test]
fn updates_hold_their_promises() {
    smoke(foedus_fuzz::update, 20_000, 80);
}

#[test]
fn deltas_hold_their_promises() {
    smoke(foedus_fuzz::delta, 20_000, 80);
}

#[test]
fn adapter_folders_hold_their_promises() {
    smoke(foedus_fuzz::folder, 20_000, 60);
}

#[test]
fn plans_hold_their_promises() {
    smoke(foedus_fuzz::plan, 300_000, 400);
}

#[test]
fn coordinators_hold_their_promises() {
    smoke(foedus_fuzz::coordinator, 40_000, 900);
}

/// Random bytes are hardly ever a record, so real ones are damaged.
#[test]
fn transcripts_hold_their_promises() {
    smoke(foedus_fuzz::transcript, 100_000, 400);
    damage(
        foedus_fuzz::transcript,
        &foedus_fuzz::record_line(),
        100_000,
    );
}

/// Random operations hardly ever come to the opening, so attempts that do are damaged.
#[test]
fn members_and_gatherings_hold_their_promises() {
    smoke(foedus_fuzz::member, 20_000, 90);
    damage(foedus_fuzz::member, &foedus_fuzz::member_script(), 60_000);
    smoke(foedus_fuzz::gathering, 20_000, 200);
    damage(
        foedus_fuzz::gathering,
        &foedus_fuzz::gathering_script(),
        60_000,
    );
}

/// Runs a target on bytes of which some are changed, taken out or put in.
fn damage(target: fn(&[u8]), whole: &[u8], runs: u64) {
    println!("seeds 0 to {}", runs - 1);
    target(whole);
    for seed in 0..runs {
        let (mut state, mut line) = (seed, whole.to_vec());
        for _ in 0..=next(&mut state) % 3 {
            let place = (next(&mut state) % line.len() as u64) as usize;
            let byte = next(&mut state) as u8;
            match next(&mut state) % 4 {
                0 => line[place] = byte,
                1 => line[place] ^= 1 << (byte % 8),
                2 => drop(line.remove(place)),
                _ => line.insert(place, line[byte as usize % line.len()]),
            }
        }
        target(&line);
    }
}
