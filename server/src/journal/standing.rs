//! The entries that hold beyond their round: who takes part, and who is late. Participants come and go, and each time says so;
//! of all that a restart needs no more than who is there.

use protocol::coordinator::{Entry, History};
use redb::{Error, ReadableTable, Table};

use super::of_round;

/// Puts the fewest entries that come to the same in the place of those that hold beyond their round.
///
/// They may change places with entries of a round, which say nothing about them. What cannot be read is kept: the next
/// start names it.
pub(super) fn compact(entries: &mut Table<'_, u64, &'static [u8]>) -> Result<(), Error> {
    let (mut numbers, mut history) = (Vec::new(), History::default());
    for row in entries.iter()? {
        let (number, value) = row?;
        if let Ok(entry) = serde_json::from_slice::<Entry>(value.value())
            && of_round(&entry).is_none()
        {
            numbers.push(number.value());
            history.note(entry);
        }
    }
    let standing = history.standing();
    if standing.len() == numbers.len() {
        return Ok(());
    }
    let values = standing.iter().map(serde_json::to_vec);
    let values: Vec<_> = values
        .collect::<Result<_, _>>()
        .map_err(|error| Error::Io(std::io::Error::other(error)))?;
    // There are never more of them: each stands for one that was there.
    for (place, number) in numbers.iter().enumerate() {
        match values.get(place) {
            Some(value) => drop(entries.insert(number, value.as_slice())?),
            None => drop(entries.remove(number)?),
        }
    }
    Ok(())
}
