//! The hash tree over a record's lines: Merkle tree hashing as in RFC 9162, section 2.1.
//!
//! Leaves and nodes are hashed under different first bytes, so that neither passes for the other.

use sha2::{Digest as _, Sha256};

use crate::ids::Digest;

/// The longest path that is looked at: a tree of 2^32 leaves.
pub const PATH_MAX: usize = 32;

/// The hash of a leaf (RFC 9162: `0x00 || data`).
pub(super) fn leaf(bytes: &[u8]) -> Digest {
    let mut hash = Sha256::new();
    hash.update([0]);
    hash.update(bytes);
    Digest(hash.finalize().into())
}

fn node(left: Digest, right: Digest) -> Digest {
    let mut hash = Sha256::new();
    hash.update([1]);
    hash.update(left.0);
    hash.update(right.0);
    Digest(hash.finalize().into())
}

/// A tree with all its nodes: made once, it gives the way from any leaf.
#[derive(Debug)]
pub(super) struct Tree {
    /// The leaves, then the nodes above them, up to the root alone.
    levels: Vec<Vec<Digest>>,
}

impl Tree {
    /// The tree over these leaf hashes.
    ///
    /// Pairs are joined level by level, and what is left over at an end goes up as it is: that is the tree that RFC 9162 describes
    /// from the root down, by splitting at the largest power of two.
    pub(super) fn over(leaves: Vec<Digest>) -> Self {
        let join = |pair: &[Digest]| match *pair {
            [left, right] => node(left, right),
            _ => pair[0],
        };
        let mut levels = Vec::new();
        let mut level = leaves;
        while 1 < level.len() {
            let above = level.chunks(2).map(join).collect();
            levels.push(std::mem::replace(&mut level, above));
        }
        levels.push(level);
        Self { levels }
    }

    /// The root; over no leaf, the hash of nothing.
    pub(super) fn root(&self) -> Digest {
        let top = self.levels.last().and_then(|level| level.first());
        top.copied().unwrap_or_else(|| Digest::of(b""))
    }

    /// The hashes that lead from leaf `index` to the root, from the leaf up.
    pub(super) fn path(&self, index: usize) -> Vec<Digest> {
        let beside =
            |(height, level): (usize, &Vec<Digest>)| level.get((index >> height) ^ 1).copied();
        self.levels.iter().enumerate().filter_map(beside).collect()
    }
}

/// Where a path leads from this leaf (RFC 9162, section 2.1.3.2); none if there can be no such path.
pub(super) fn climb(leaf: Digest, index: u32, leaves: u32, path: &[Digest]) -> Option<Digest> {
    if leaves <= index {
        return None;
    }
    let (mut at, mut last, mut found) = (index, leaves - 1, leaf);
    for &other in path {
        if last == 0 {
            return None;
        }
        if at % 2 == 1 || at == last {
            found = node(other, found);
            while at % 2 == 0 && at != 0 {
                (at, last) = (at / 2, last / 2);
            }
        } else {
            found = node(found, other);
        }
        (at, last) = (at / 2, last / 2);
    }
    (last == 0).then_some(found)
}
