//! The result of a product, written in tiles by several threads.
//!
//! Tiles of one result interleave in memory, so they cannot be slices; a [`Tile`] is the one way to write to its part. Not
//! a matrix: nobody reads through it.
//!
//! One of the modules with unsafe code: tiles are written through one pointer.

use std::{marker::PhantomData, mem::MaybeUninit};

/// `rows x columns` values, row-major, all of them exclusively borrowed.
pub(super) struct Target<'a> {
    start: *mut f32,
    rows: usize,
    columns: usize,
    /// Whether there are values to add to.
    keep: bool,
    borrow: PhantomData<&'a mut [f32]>,
}

impl<'a> Target<'a> {
    /// A place for values that are not there yet; `tiles` must all be written before anybody reads.
    pub(super) fn fresh(place: &'a mut [MaybeUninit<f32>], columns: usize) -> Self {
        Self {
            start: place.as_mut_ptr().cast(),
            rows: place.len().checked_div(columns).unwrap_or(0),
            columns,
            keep: false,
            borrow: PhantomData,
        }
    }

    /// Values to add to.
    pub(super) fn sum(values: &'a mut [f32], columns: usize) -> Self {
        Self {
            start: values.as_mut_ptr(),
            rows: values.len().checked_div(columns).unwrap_or(0),
            columns,
            keep: true,
            borrow: PhantomData,
        }
    }

    /// Cuts into tiles of at most this height and width that cover it once, by columns first.
    pub(super) fn tiles(self, [height, width]: [usize; 2]) -> Vec<Tile<'a>> {
        let tile = |row, column| Tile {
            start: self.start,
            stride: self.columns,
            row,
            rows: height.min(self.rows - row),
            column,
            columns: width.min(self.columns - column),
            keep: self.keep,
            borrow: PhantomData,
        };
        let columns = (0..self.columns).step_by(width);
        columns
            .flat_map(|column| (0..self.rows).step_by(height).map(move |row| (row, column)))
            .map(|(row, column)| tile(row, column))
            .collect()
    }
}

/// A part of a result that no other part overlaps.
pub(super) struct Tile<'a> {
    start: *mut f32,
    stride: usize,
    /// Its first row in the result.
    pub(super) row: usize,
    pub(super) rows: usize,
    /// Its first column in the result.
    pub(super) column: usize,
    pub(super) columns: usize,
    /// Whether there are values to add to.
    pub(super) keep: bool,
    borrow: PhantomData<&'a mut [f32]>,
}

#[expect(unsafe_code, reason = "a tile goes to the thread that writes it")]
// SAFETY: a tile is the only one that writes to its part, `Target::tiles` made them disjoint, and the borrow lasts as long.
unsafe impl Send for Tile<'_> {}

impl Tile<'_> {
    /// Writes neighbouring values into one of the tile's rows; in a sum, adds them to what is there.
    ///
    /// # Panics
    /// If they are not all within the tile.
    #[inline(always)]
    pub(super) fn put(&mut self, row: usize, column: usize, values: &[f32]) {
        assert!(row < self.rows && column + values.len() <= self.columns);
        let offset = (self.row + row) * self.stride + self.column + column;
        #[expect(unsafe_code, reason = "the tile lies between other tiles")]
        // SAFETY: the assertion keeps the values within this tile, which lies within the borrowed result and is written
        // by nobody else. Values are read in a sum only, whose maker lent initialized ones.
        unsafe {
            let place = self.start.add(offset);
            for (index, value) in values.iter().enumerate() {
                let place = place.add(index);
                *place = if self.keep { *place + value } else { *value };
            }
        }
    }

    /// Where the tile begins and how far apart its rows are, for kernels that take pointers.
    pub(super) fn raw(&mut self) -> (*mut f32, usize) {
        let offset = self.row * self.stride + self.column;
        (self.start.wrapping_add(offset), self.stride)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tiles_cover_the_result_once() {
        for (rows, columns) in [(1, 1), (256, 192), (257, 193), (512, 576), (300, 1537)] {
            let mut covered = vec![0.0; rows * columns];
            for mut tile in Target::sum(&mut covered, columns).tiles([256, 192]) {
                assert!(tile.rows <= 256 && tile.columns <= 192);
                let ones = vec![1.0; tile.columns];
                for row in 0..tile.rows {
                    tile.put(row, 0, &ones);
                }
            }
            assert!(covered.iter().all(|&times| times == 1.0));
        }
    }

    #[test]
    #[should_panic(expected = "column + values.len() <= self.columns")]
    fn a_tile_writes_nothing_beside_itself() {
        let mut values = [0.0; 12];
        let mut tiles = Target::sum(&mut values, 4).tiles([3, 2]);
        tiles[0].put(0, 1, &[1.0, 1.0]);
    }
}
