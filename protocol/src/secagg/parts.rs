//! Lists that do not fit one frame, in parts.

use serde::Serialize;

use super::message::Piece;
use crate::codec;

/// What a part may hold, in bytes: a frame less room for what is around it.
const PART_BYTES: usize = 60_000;

/// Cuts a list into parts that fit a frame each; an empty list is one empty part, and no other part is empty.
pub fn split<T: Clone + Serialize>(items: &[T]) -> Vec<Piece<T>> {
    let total = u32::try_from(items.len()).unwrap_or(u32::MAX);
    let mut parts = vec![Piece {
        first: 0,
        total,
        items: Vec::new().into(),
    }];
    let mut room = PART_BYTES;
    for (index, item) in (0_u32..).zip(items) {
        // What is too long for any part is refused when the frame is made.
        let length = codec::encode(item).map_or(PART_BYTES, |bytes| bytes.len());
        let is_begun = parts.last().is_some_and(|part| !part.items.is_empty());
        if is_begun && room < length {
            parts.push(Piece {
                first: index,
                total,
                items: Vec::new().into(),
            });
            room = PART_BYTES;
        }
        room = room.saturating_sub(length);
        if let Some(part) = parts.last_mut() {
            part.items.push(item.clone());
        }
    }
    parts
}

/// Puts the parts of a list together, which must come in order.
#[derive(Clone, Debug)]
pub struct Assembly<T> {
    items: Vec<T>,
}

impl<T> Default for Assembly<T> {
    fn default() -> Self {
        Self { items: Vec::new() }
    }
}

impl<T: Clone> Assembly<T> {
    /// Adds a part and gives the list once it is whole. `None` inside if there is more to come.
    ///
    /// # Errors
    /// `Err` if the part does not follow the ones before, or the list would be longer than `limit`.
    pub fn add(&mut self, part: Piece<T>, limit: u32) -> Result<Option<Vec<T>>, BadPart> {
        let held = u32::try_from(self.items.len()).map_err(|_| BadPart)?;
        let more = u32::try_from(part.items.len()).map_err(|_| BadPart)?;
        let end = held.checked_add(more).ok_or(BadPart)?;
        let goes_on = 0 < more || part.total == 0;
        if limit < part.total || part.first != held || part.total < end || !goes_on {
            return Err(BadPart);
        }
        self.items.extend(part.items.into_vec());
        Ok((end == part.total).then(|| std::mem::take(&mut self.items)))
    }
}

/// A part of a list that does not follow the parts before it.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("a part of a list does not follow the parts before it, or the list is too long")]
pub struct BadPart;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_list_comes_in_parts_that_fit_and_is_put_together_again() {
        let list: Vec<Vec<u8>> = (0..300).map(|size| vec![7; size * 3]).collect();
        let parts = split(&list);
        assert!(2 < parts.len());
        let mut assembly = Assembly::default();
        let mut whole = None;
        for part in parts {
            assert!(codec::encode(&part).is_ok());
            assert!(whole.is_none());
            whole = assembly.add(part, 300).unwrap();
        }
        assert_eq!(whole, Some(list));
        assert_eq!(
            Assembly::<u8>::default().add(split(&[]).remove(0), 9),
            Ok(Some(vec![]))
        );
    }

    #[test]
    fn an_item_longer_than_a_part_leaves_no_part_empty() {
        let list = vec![vec![7_u8; 62_000], vec![7], vec![7; 62_000]];
        let mut assembly = Assembly::default();
        let whole = split(&list)
            .into_iter()
            .find_map(|part| assembly.add(part, 3).unwrap());
        assert_eq!(whole, Some(list));
    }

    #[test]
    fn parts_out_of_order_empty_or_beyond_the_limit_are_refused() {
        let part = |first, total, items: &[u8]| Piece {
            first,
            total,
            items: items.to_vec().into(),
        };
        for (part, limit) in [
            (part(1, 2, &[1]), 9),
            (part(0, 2, &[]), 9),
            (part(0, 1, &[1, 2]), 9),
            (part(0, 10, &[1]), 9),
        ] {
            assert_eq!(Assembly::default().add(part, limit), Err(BadPart));
        }
        let mut assembly = Assembly::default();
        assert_eq!(assembly.add(part(0, 3, &[1, 2]), 9), Ok(None));
        assert_eq!(assembly.add(part(0, 3, &[1]), 9), Err(BadPart));
    }
}
