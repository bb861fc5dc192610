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

/// The largest power of two below `length`, which is at least 2.
fn split(length: usize) -> usize {
    length.next_power_of_two() / 2
}

/// The root over these leaf hashes; over none, the hash of nothing.
pub(super) fn root(leaves: &[Digest]) -> Digest {
    match leaves {
        [] => Digest::of(b""),
        [leaf] => *leaf,
        _ => {
            let (left, right) = leaves.split_at(split(leaves.len()));
            node(root(left), root(right))
        }
    }
}

/// The hashes that lead from leaf `index` to the root, from the leaf up.
pub(super) fn path(leaves: &[Digest], index: usize) -> Vec<Digest> {
    if leaves.len() < 2 {
        return Vec::new();
    }
    let middle = split(leaves.len());
    let (left, right) = leaves.split_at(middle);
    let (mut way, other) = if index < middle {
        (path(left, index), root(right))
    } else {
        (path(right, index - middle), root(left))
    };
    way.push(other);
    way
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
