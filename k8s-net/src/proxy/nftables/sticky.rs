//! Makes the packet filter forget IPv4 clients whose endpoint is gone.
//!
//! The kernel remembers clients by itself, so only it knows them: they are listed and removed one by one. Happens
//! only when a Service with affinity loses an endpoint, for all clients or for those outside of the cluster.

use std::{collections::BTreeSet, net::IpAddr};

use ipnet::IpNet;
use serde_json::Value;

use crate::{
    nft::{Nft, NftError},
    proxy::{Backends, Destination, Frontend, Protocol, Rules, Target},
};

/// The map in which they are remembered.
const MAP: &str = "affinity4";

/// How often to try again when a client came or went between listing and removing.
const TRIES: usize = 3;

/// One remembered client.
#[derive(Debug, PartialEq, Eq)]
struct Client {
    address: IpAddr,
    frontend: Frontend,
    target: Target,
}

type Offers = BTreeSet<(Frontend, Target)>;

/// What is not offered any more.
struct Departed<'a> {
    /// To nobody inside the cluster.
    inside: Offers,
    /// To nobody outside of it.
    outside: Offers,
    /// Who is inside for certain. The node is too, and is taken for a stranger: it forgets too much rather than too little.
    pods: &'a [IpNet],
}

impl Departed<'_> {
    fn concerns(&self, client: &Client) -> bool {
        let offer = (client.frontend, client.target);
        let is_pod = self.pods.iter().any(|pods| pods.contains(&client.address));
        self.inside.contains(&offer) || (!is_pod && self.outside.contains(&offer))
    }
}

/// Removes what is remembered of targets that `before` offered to sticky clients and `rules` does not.
pub(super) async fn forget_departed(nft: &Nft, table: &str, before: &Rules, rules: &Rules) -> Result<(), NftError> {
    let gone = |of: fn(&Destination) -> &Backends| offers(before, of).difference(&offers(rules, of)).copied().collect();
    let outside = gone(|destination| destination.outside.as_ref().unwrap_or(&destination.backends));
    let departed = Departed { inside: gone(|destination| &destination.backends), outside, pods: &rules.pod_cidrs };
    let nothing = departed.inside.is_empty() && departed.outside.is_empty();
    if nothing { Ok(()) } else { forget(nft, table, &departed).await }
}

fn offers(rules: &Rules, of: impl Fn(&Destination) -> &Backends) -> Offers {
    let ipv4 = rules.frontends.iter().filter(|(frontend, _)| frontend.address.is_ipv4());
    let sticky = ipv4.filter(|(_, destination)| destination.affinity.is_some());
    let offered = sticky.flat_map(|(frontend, destination)| {
        let targets = of(destination).targets().iter();
        targets.map(|target| (*frontend, *target))
    });
    offered.collect()
}

async fn forget(nft: &Nft, table: &str, departed: &Departed<'_>) -> Result<(), NftError> {
    let mut outcome = Ok(());
    for _ in 0..TRIES {
        let listing = nft.query(&["-j", "-n", "list", "map", "inet", table, MAP]).await?;
        let mut clients = read(&listing);
        clients.retain(|client| departed.concerns(client));
        if clients.is_empty() {
            return Ok(());
        }
        outcome = nft.apply(&removal(table, &clients)).await;
        if outcome.is_ok() {
            break;
        }
    }
    outcome
}

/// Adds before it removes, so that a client whose time ran out meanwhile does not fail the transaction.
fn removal(table: &str, clients: &[Client]) -> String {
    let key = |Client { address: client, frontend: Frontend { address, protocol, port }, .. }: &Client| {
        format!("{client} . {address} . {} . {port}", protocol.as_str())
    };
    let add: Vec<_> =
        clients.iter().map(|c| format!("{} : {} . {}", key(c), c.target.address, c.target.port)).collect();
    let delete: Vec<_> = clients.iter().map(key).collect();
    format!(
        "add element inet {table} {MAP} {{ {} }}\ndelete element inet {table} {MAP} {{ {} }}\n",
        add.join(", "),
        delete.join(", ")
    )
}

/// Reads `nft`'s JSON listing of the map. What it does not understand it passes over.
fn read(listing: &str) -> Vec<Client> {
    let listing: Value = serde_json::from_str(listing).unwrap_or_default();
    let objects = listing["nftables"].as_array().into_iter().flatten();
    let elements = objects.filter_map(|object| object["map"]["elem"].as_array()).flatten();
    elements.filter_map(client).collect()
}

/// An element is a pair of key and value; the key is wrapped together with its timeout.
fn client(element: &Value) -> Option<Client> {
    let key = &element[0];
    let key = if key["elem"].is_null() { key } else { &key["elem"]["val"] };
    let [client, address, protocol, port] = key["concat"].as_array()?.as_slice() else { return None };
    let [target, target_port] = element[1]["concat"].as_array()?.as_slice() else { return None };
    Some(Client {
        address: ip(client)?,
        frontend: Frontend { address: ip(address)?, protocol: transport(protocol)?, port: number(port)? },
        target: Target { address: ip(target)?, port: number(target_port)? },
    })
}

fn ip(value: &Value) -> Option<IpAddr> {
    value.as_str()?.parse().ok()
}

fn number(value: &Value) -> Option<u16> {
    u16::try_from(value.as_u64()?).ok()
}

fn transport(value: &Value) -> Option<Protocol> {
    match (value.as_str(), value.as_u64()) {
        (Some("tcp"), _) | (_, Some(6)) => Some(Protocol::Tcp),
        (Some("udp"), _) | (_, Some(17)) => Some(Protocol::Udp),
        (Some("sctp"), _) | (_, Some(132)) => Some(Protocol::Sctp),
        _ => None,
    }
}
