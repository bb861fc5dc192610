//! Handshakes in progress by where they come from, so that one address cannot take every place.
//!
//! Only counting here: whether an address is really the peer's is found out by a retry, which the listener asks for.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::{Arc, Mutex, PoisonError};

/// Where a peer is, as far as it cannot choose: an IPv4 address, or the /64 that one subscriber or one link has of IPv6
/// (RFC 4291, section 2.5.1).
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
enum Origin {
    Address(Ipv4Addr),
    Network(u64),
}

impl Origin {
    fn of(address: IpAddr) -> Self {
        // A socket for both families shows IPv4 as IPv6.
        match address.to_canonical() {
            IpAddr::V4(address) => Self::Address(address),
            IpAddr::V6(address) => Self::Network(network(address)),
        }
    }
}

fn network(address: Ipv6Addr) -> u64 {
    (address.to_bits() >> 64) as u64
}

/// Places taken by each origin; none is remembered that has none.
#[derive(Clone, Debug, Default)]
pub(super) struct Origins {
    taken: Arc<Mutex<BTreeMap<Origin, usize>>>,
}

/// One place of an origin, until it is dropped.
#[derive(Debug)]
pub(super) struct Share {
    origin: Origin,
    origins: Origins,
}

impl Origins {
    /// How many places an address has taken.
    pub(super) fn taken(&self, address: IpAddr) -> usize {
        let origin = Origin::of(address);
        self.change(|taken| taken.get(&origin).copied().unwrap_or(0))
    }

    /// Takes one more place for an address.
    pub(super) fn take(&self, address: IpAddr) -> Share {
        let origin = Origin::of(address);
        self.change(|taken| *taken.entry(origin).or_default() += 1);
        Share {
            origin,
            origins: self.clone(),
        }
    }

    fn change<T>(&self, change: impl FnOnce(&mut BTreeMap<Origin, usize>) -> T) -> T {
        change(&mut self.taken.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.origins.change(|taken| {
            if let Some(count) = taken.get_mut(&self.origin) {
                *count -= 1;
                if *count == 0 {
                    taken.remove(&self.origin);
                }
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn a_place_is_its_addresss_until_it_is_given_back() {
        let origins = Origins::default();
        let (one, other) = (address("192.0.2.1"), address("192.0.2.2"));
        let places = [origins.take(one), origins.take(one), origins.take(other)];
        assert_eq!((origins.taken(one), origins.taken(other)), (2, 1));
        drop(places);
        assert_eq!((origins.taken(one), origins.taken(other)), (0, 0));
        assert!(origins.change(|taken| taken.is_empty()), "nothing is left");
    }

    #[test]
    fn all_of_a_64_is_one_and_ipv4_is_itself_in_either_form() {
        let origins = Origins::default();
        let _places = [
            origins.take(address("2001:db8:1:2::1")),
            origins.take(address("::ffff:192.0.2.1")),
        ];
        for (text, taken) in [
            ("2001:db8:1:2:ffff:ffff:ffff:ffff", 1),
            ("2001:db8:1:3::1", 0),
            ("192.0.2.1", 1),
            ("::ffff:192.0.2.2", 0),
            ("::1", 0),
        ] {
            assert_eq!(origins.taken(address(text)), taken, "{text}");
        }
    }
}
