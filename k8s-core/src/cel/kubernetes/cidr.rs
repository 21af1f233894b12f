//! `cidr(text)`: ranges of addresses.

use std::{fmt, net::IpAddr};

use super::{Answer, Budget, EvalError, Opaque, Value, ip, text};

/// A range: an address, of which the first bits count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cidr {
    address: IpAddr,
    bits: u8,
}

impl Cidr {
    fn parse(text: &str) -> Result<Self, String> {
        let wrong = || format!("network address parse error during conversion from string: \"{text}\"");
        let (address, bits) = text.split_once('/').ok_or_else(wrong)?;
        let address = ip::parse(address).map_err(|_| wrong())?;
        let canonical = !bits.is_empty()
            && bits.bytes().all(|byte| byte.is_ascii_digit())
            && (bits == "0" || !bits.starts_with('0'));
        let bits: u8 = bits.parse().ok().filter(|_| canonical).ok_or_else(wrong)?;
        let most = if address.is_ipv4() { 32 } else { 128 };
        if bits > most { Err(wrong()) } else { Ok(Self { address, bits }) }
    }

    /// The address as it was written, also the bits that do not count.
    pub(super) fn address(&self) -> IpAddr {
        self.address
    }

    fn masked(&self) -> Self {
        let address = match self.address {
            IpAddr::V4(v4) => {
                let mask = u32::MAX.checked_shl(32 - u32::from(self.bits)).unwrap_or(0);
                IpAddr::V4((u32::from(v4) & mask).into())
            }
            IpAddr::V6(v6) => {
                let mask = u128::MAX.checked_shl(128 - u32::from(self.bits)).unwrap_or(0);
                IpAddr::V6((u128::from(v6) & mask).into())
            }
        };
        Self { address, bits: self.bits }
    }

    fn contains(&self, address: IpAddr) -> bool {
        let same_family = self.address.is_ipv4() == address.is_ipv4();
        same_family && Self { address, bits: self.bits }.masked() == self.masked()
    }
}

impl fmt::Display for Cidr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.bits)
    }
}

/// `cidr(text)`
pub(in crate::cel) fn cidr<'a>(args: &[Value<'a>], _: &mut Budget) -> Answer<'a> {
    Ok(Opaque::Cidr(Cidr::parse(text(args, 0)?).map_err(EvalError::new)?).into())
}

/// `isCIDR(text)`
pub(in crate::cel) fn is_cidr<'a>(args: &[Value<'a>], _: &mut Budget) -> Answer<'a> {
    Ok(Value::Bool(Cidr::parse(text(args, 0)?).is_ok()))
}

fn of(args: &[Value<'_>]) -> Result<Cidr, EvalError> {
    match &args[0] {
        Value::Opaque(Opaque::Cidr(cidr)) => Ok(*cidr),
        _ => Err(EvalError::no_overload()),
    }
}

/// `c.containsIP(address)`
pub(in crate::cel) fn contains_ip<'a>(args: &[Value<'a>], _: &mut Budget) -> Answer<'a> {
    let address = match &args[1] {
        Value::Opaque(Opaque::Ip(address)) => *address,
        _ => ip::parse(text(args, 1)?).map_err(EvalError::new)?,
    };
    Ok(Value::Bool(of(args)?.contains(address)))
}

/// `c.containsCIDR(range)`
pub(in crate::cel) fn contains_cidr<'a>(args: &[Value<'a>], _: &mut Budget) -> Answer<'a> {
    let other = match &args[1] {
        Value::Opaque(Opaque::Cidr(cidr)) => *cidr,
        _ => Cidr::parse(text(args, 1)?).map_err(EvalError::new)?,
    };
    let range = of(args)?;
    Ok(Value::Bool(other.bits >= range.bits && range.contains(other.address)))
}

/// `c.masked()`
pub(in crate::cel) fn masked<'a>(args: &[Value<'a>], _: &mut Budget) -> Answer<'a> {
    Ok(Opaque::Cidr(of(args)?.masked()).into())
}

/// `c.prefixLength()`
pub(in crate::cel) fn prefix_length<'a>(args: &[Value<'a>], _: &mut Budget) -> Answer<'a> {
    Ok(Value::Int(i64::from(of(args)?.bits)))
}
