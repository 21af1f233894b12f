//! Which flows count as astray.

use std::{net::IpAddr, sync::Arc};

use super::*;
use crate::proxy::{Backends, Destination, Masquerade};

fn frontend(port: u16, protocol: Protocol) -> Frontend {
    Frontend { address: "10.96.0.1".parse().unwrap(), protocol, port }
}

fn target(last: u8) -> Target {
    Target { address: IpAddr::from([10, 1, 0, last]), port: 53 }
}

fn rules(frontends: &[(Frontend, &[u8])]) -> Rules {
    let destination = |targets: &[u8]| Destination {
        service: "ns/dns:".into(),
        backends: match targets {
            [] => Backends::Reject,
            targets => Backends::Balance(targets.iter().map(|last| target(*last)).collect::<Arc<[_]>>()),
        },
        outside: None,
        known: [].into(),
        masquerade: Masquerade::OffCluster,
        affinity: None,
        sources: None,
    };
    let frontends = frontends.iter().map(|(frontend, targets)| (*frontend, destination(targets))).collect();
    Rules { frontends, ..Rules::default() }
}

#[test]
fn only_udp_frontends_that_lost_a_target_or_gained_the_first_are_looked_at() {
    let udp = |port| frontend(port, Protocol::Udp);
    let before = rules(&[
        (udp(1), &[1, 2]),
        (udp(2), &[1]),
        (udp(3), &[]),
        (udp(4), &[1]),
        (frontend(1, Protocol::Tcp), &[1, 2]),
    ]);
    let after =
        rules(&[(udp(1), &[2]), (udp(2), &[1, 2]), (udp(3), &[1]), (udp(5), &[1]), (frontend(1, Protocol::Tcp), &[2])]);
    let looked_at = stale(Some(&before), &after);
    assert_eq!(looked_at.keys().map(|frontend| frontend.port).collect::<Vec<_>>(), [1, 3, 4, 5]);
    assert_eq!(looked_at[&udp(1)], [target(2)].into());
    assert_eq!(looked_at[&udp(4)], BTreeSet::new());
    assert_eq!(stale(None, &after).len(), 4, "after a restart every UDP frontend is suspect");
}

#[test]
fn a_flow_is_astray_unless_it_goes_to_a_target() {
    let stale = stale(None, &rules(&[(frontend(53, Protocol::Udp), &[1])]));
    let flow = |to: &str, goes_to: &str| Flow { to: to.parse().unwrap(), goes_to: goes_to.parse().unwrap() };
    assert!(!is_astray(&flow("10.96.0.1:53", "10.1.0.1:53"), &stale));
    assert!(is_astray(&flow("10.96.0.1:53", "10.1.0.2:53"), &stale), "went to another endpoint");
    assert!(is_astray(&flow("10.96.0.1:53", "10.96.0.1:53"), &stale), "went nowhere");
    assert!(!is_astray(&flow("10.96.0.1:54", "10.1.0.2:53"), &stale), "not a frontend");
}
