//! A range of addresses, cut into equal blocks.

use std::{net::IpAddr, ops::RangeInclusive};

use ipnet::IpNet;

/// The most bits that a block's prefix may be longer than the range's, as upstream: it bounds what is remembered.
const MAX_BITS: u8 = 16;

/// A range of addresses and how long the prefixes of its blocks are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Range {
    net: IpNet,
    prefix: u8,
}

/// Why a range cannot be cut so.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum RangeError {
    /// A block would be larger than the range, or smaller than an address.
    Prefix {
        /// The range.
        net: IpNet,
        /// The blocks' prefix length.
        prefix: u8,
    },
    /// There would be too many blocks.
    TooMany {
        /// The range.
        net: IpNet,
        /// The blocks' prefix length.
        prefix: u8,
    },
}

impl std::fmt::Display for RangeError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Prefix { net, prefix } => {
                write!(
                    f,
                    "a block of /{prefix} does not fit into {net}: say from /{} to /{}",
                    net.prefix_len(),
                    net.max_prefix_len()
                )
            }
            Self::TooMany { net, prefix } => {
                write!(f, "{net} has too many blocks of /{prefix}: at most /{}", net.prefix_len() + MAX_BITS)
            }
        }
    }
}

impl std::error::Error for RangeError {}

impl Range {
    /// The range `net`, in blocks with prefixes of this length.
    pub fn new(net: IpNet, prefix: u8) -> Result<Self, RangeError> {
        let net = net.trunc();
        if prefix < net.prefix_len() || prefix > net.max_prefix_len() {
            return Err(RangeError::Prefix { net, prefix });
        }
        if prefix - net.prefix_len() > MAX_BITS {
            return Err(RangeError::TooMany { net, prefix });
        }
        Ok(Self { net, prefix })
    }

    /// All addresses of the range.
    pub fn net(&self) -> IpNet {
        self.net
    }

    /// How many blocks there are.
    pub fn count(&self) -> usize {
        1 << (self.prefix - self.net.prefix_len())
    }

    /// The block with this number, counted from 0.
    pub fn block(&self, number: usize) -> IpNet {
        let shift = u32::from(self.net.max_prefix_len() - self.prefix);
        let address = match self.net.network() {
            IpAddr::V4(base) => IpAddr::V4((base.to_bits() + (number as u32).checked_shl(shift).unwrap_or(0)).into()),
            IpAddr::V6(base) => IpAddr::V6((base.to_bits() + (number as u128).checked_shl(shift).unwrap_or(0)).into()),
        };
        // Invariant: the prefix was checked against the family's length.
        IpNet::new(address, self.prefix).expect("the prefix fits the family")
    }

    /// The numbers of the blocks that share an address with `net`, if any does.
    pub fn touched(&self, net: &IpNet) -> Option<RangeInclusive<usize>> {
        if net.contains(&self.net) {
            return Some(0..=self.count() - 1);
        }
        if !self.net.contains(net) {
            return None;
        }
        Some(self.number(net.network())..=self.number(net.broadcast()))
    }

    /// The number of the block that an address of the range is in.
    fn number(&self, address: IpAddr) -> usize {
        let shift = u32::from(self.net.max_prefix_len() - self.prefix);
        match (self.net.network(), address) {
            (IpAddr::V4(base), IpAddr::V4(address)) => {
                (address.to_bits() - base.to_bits()).checked_shr(shift).unwrap_or(0) as usize
            }
            (IpAddr::V6(base), IpAddr::V6(address)) => {
                (address.to_bits() - base.to_bits()).checked_shr(shift).unwrap_or(0) as usize
            }
            _ => 0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn range(net: &str, prefix: u8) -> Result<Range, RangeError> {
        Range::new(net.parse().unwrap(), prefix)
    }

    #[test]
    fn blocks_lie_side_by_side() {
        let v4 = range("10.244.0.0/16", 24).unwrap();
        assert_eq!(v4.count(), 256);
        assert_eq!(v4.block(0).to_string(), "10.244.0.0/24");
        assert_eq!(v4.block(255).to_string(), "10.244.255.0/24");
        let v6 = range("fd00:1::/56", 64).unwrap();
        assert_eq!(v6.block(255).to_string(), "fd00:1:0:ff::/64");
        assert_eq!(range("192.0.2.0/24", 24).unwrap().count(), 1);
    }

    #[test]
    fn a_network_touches_the_blocks_that_it_shares_addresses_with() {
        let range = range("10.244.0.0/16", 24).unwrap();
        let touched = |net: &str| range.touched(&net.parse().unwrap());
        assert_eq!(touched("10.244.3.0/24"), Some(3..=3));
        assert_eq!(touched("10.244.3.128/25"), Some(3..=3));
        assert_eq!(touched("10.244.4.0/22"), Some(4..=7));
        assert_eq!(touched("10.0.0.0/8"), Some(0..=255));
        assert_eq!(touched("10.245.0.0/24"), None);
        assert_eq!(touched("fd00::/64"), None);
    }

    #[test]
    fn what_cannot_be_cut_says_why() {
        let why = |net, prefix| range(net, prefix).unwrap_err().to_string();
        assert_eq!(why("10.244.0.0/16", 8), "a block of /8 does not fit into 10.244.0.0/16: say from /16 to /32");
        assert_eq!(why("10.0.0.0/8", 25), "10.0.0.0/8 has too many blocks of /25: at most /24");
    }
}
