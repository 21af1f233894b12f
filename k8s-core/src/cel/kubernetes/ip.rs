//! `ip(text)`: addresses of both families.

use std::net::IpAddr;

use super::{Answer, Budget, EvalError, Opaque, Value, text};

/// Reads an address; those of IPv4 written as IPv6 are refused.
pub(super) fn parse(text: &str) -> Result<IpAddr, String> {
    let wrong = || format!("IP Address \"{text}\" parse error during conversion from string");
    let address: IpAddr = text.parse().map_err(|_| wrong())?;
    match address {
        IpAddr::V6(v6) if v6.to_ipv4_mapped().is_some() => {
            Err(format!("IPv4-mapped IPv6 address \"{text}\" is not allowed"))
        }
        other => Ok(other),
    }
}

/// `ip(text)`, or the address of a range.
pub(in crate::cel) fn ip<'a>(args: &[Value<'a>], _: &mut Budget) -> Answer<'a> {
    match &args[0] {
        Value::Opaque(Opaque::Cidr(cidr)) => Ok(Opaque::Ip(cidr.address()).into()),
        _ => Ok(Opaque::Ip(parse(text(args, 0)?).map_err(EvalError::new)?).into()),
    }
}

/// `isIP(text)`
pub(in crate::cel) fn is_ip<'a>(args: &[Value<'a>], _: &mut Budget) -> Answer<'a> {
    Ok(Value::Bool(parse(text(args, 0)?).is_ok()))
}

/// `ip.isCanonical(text)`
pub(in crate::cel) fn is_canonical<'a>(args: &[Value<'a>], _: &mut Budget) -> Answer<'a> {
    let text = text(args, 0)?;
    let address = parse(text).map_err(EvalError::new)?;
    Ok(Value::Bool(address.to_string() == text))
}

fn of(args: &[Value<'_>]) -> Result<IpAddr, EvalError> {
    match &args[0] {
        Value::Opaque(Opaque::Ip(address)) => Ok(*address),
        _ => Err(EvalError::no_overload()),
    }
}

/// `a.family()`: 4 or 6.
pub(in crate::cel) fn family<'a>(args: &[Value<'a>], _: &mut Budget) -> Answer<'a> {
    Ok(Value::Int(if of(args)?.is_ipv4() { 4 } else { 6 }))
}

/// `a.isUnspecified()`
pub(in crate::cel) fn is_unspecified<'a>(args: &[Value<'a>], _: &mut Budget) -> Answer<'a> {
    Ok(Value::Bool(of(args)?.is_unspecified()))
}

/// `a.isLoopback()`
pub(in crate::cel) fn is_loopback<'a>(args: &[Value<'a>], _: &mut Budget) -> Answer<'a> {
    Ok(Value::Bool(of(args)?.is_loopback()))
}

/// `a.isLinkLocalMulticast()`
pub(in crate::cel) fn is_link_local_multicast<'a>(args: &[Value<'a>], _: &mut Budget) -> Answer<'a> {
    Ok(Value::Bool(match of(args)? {
        IpAddr::V4(address) => address.octets()[..3] == [224, 0, 0],
        IpAddr::V6(address) => address.segments()[0] & 0xff0f == 0xff02,
    }))
}

fn link_local(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => address.is_link_local(),
        IpAddr::V6(address) => address.segments()[0] & 0xffc0 == 0xfe80,
    }
}

/// `a.isLinkLocalUnicast()`
pub(in crate::cel) fn is_link_local_unicast<'a>(args: &[Value<'a>], _: &mut Budget) -> Answer<'a> {
    Ok(Value::Bool(link_local(of(args)?)))
}

/// `a.isGlobalUnicast()`
pub(in crate::cel) fn is_global_unicast<'a>(args: &[Value<'a>], _: &mut Budget) -> Answer<'a> {
    let address = of(args)?;
    let broadcast = matches!(address, IpAddr::V4(v4) if v4.is_broadcast());
    let special = address.is_unspecified() || address.is_loopback() || address.is_multicast() || broadcast;
    Ok(Value::Bool(!special && !link_local(address)))
}
