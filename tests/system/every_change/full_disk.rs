//! Programs whose disk is full from a chosen change on: each ends with the name of the file, and the run goes on once there is room.

use std::iter::repeat;

use tests::{Cause, Death};

use super::{MASKED, PLAIN, comes_to_it_by, stride};
use crate::crash::whole;
use crate::masked;

/// Whatever it writes there.
fn comes_to_the_same_adapter_when_there_is_room(
    place: (&'static str, usize),
    expected: &[u8],
    run: impl Fn(&Death) -> (Vec<u8>, bool),
) {
    comes_to_it_by(repeat(Cause::FullDisk), place, expected, run);
}

#[test]
fn a_server_whose_disk_is_full_names_the_file_and_the_run_goes_on_when_there_is_room() {
    let place = ("/runs/", stride(16));
    comes_to_the_same_adapter_when_there_is_room(place, &whole(), |death| PLAIN.server_dies(death));
}

#[test]
fn a_client_whose_disk_is_full_names_the_file_and_goes_on_when_there_is_room() {
    let place = ("/bank-b-adapter", stride(6));
    comes_to_the_same_adapter_when_there_is_room(place, &whole(), |death| PLAIN.client_dies(death));
}

#[test]
fn a_client_of_a_masked_run_whose_disk_is_full_goes_on_when_there_is_room() {
    let place = ("/bank-b-adapter", stride(16));
    let run = |death: &Death| MASKED.client_dies(death);
    comes_to_the_same_adapter_when_there_is_room(place, &masked::plain(), run);
}
