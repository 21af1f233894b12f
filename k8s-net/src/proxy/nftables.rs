//! The nftables backend: one table, flat maps, one atomic transaction for each change.

mod inflow;
mod own;
mod script;
mod sticky;
mod table;

use std::path::PathBuf;

use async_trait::async_trait;

pub use self::inflow::NftablesTraffic;

use self::table::Table;
use super::{Applied, ProxyError, Rules, ServiceBackend, stale};
use crate::{netfilter, nft::Nft};

/// Marks the table as made here.
const MARK: &str = "k8s-net service proxy";

/// What an [`Nftables`] backend is called and runs.
#[derive(Debug, Clone)]
pub struct NftablesConfig {
    /// The name of the `inet` table. Two backends with different names do not see each other.
    pub table: String,
    /// The `nft` program: a path, or a name to look for.
    pub nft: PathBuf,
}

impl Default for NftablesConfig {
    fn default() -> Self {
        Self { table: "k8s-services".into(), nft: "nft".into() }
    }
}

/// Applies [`Rules`] to the packet filter of this process's network namespace, through the `nft` program.
///
/// A new connection costs a handful of hash look-ups however many Services there are: an address, protocol and port
/// leads to a chain for that *number* of endpoints, which draws one number and looks up the endpoint under it.
/// Needs a tokio runtime, `CAP_NET_ADMIN`, and `nft` 1.0.6 or later.
///
/// [`intact`](ServiceBackend::intact) notices when somebody else removes the table or changes its rules or sets, but not
/// when they change a set's elements. While nobody changes any packet filter it costs one question to the kernel.
pub struct Nftables {
    nft: Nft,
    table: String,
    claimed: bool,
    /// What is in force; `None` when unknown, so that the next call replaces everything.
    applied: Option<(Rules, Table)>,
    seal: Seal,
}

/// What tells whether somebody else has touched the table since.
#[derive(Default)]
struct Seal {
    /// The generation of the kernel's rules up to which nobody has; `None` when somebody may have.
    generation: Option<u32>,
    /// The table without elements, as last written.
    definition: Option<String>,
}

impl Nftables {
    /// A backend that has applied nothing yet.
    pub fn new(config: NftablesConfig) -> Self {
        Self { nft: Nft::new(config.nft), table: config.table, claimed: false, applied: None, seal: Seal::default() }
    }

    async fn claim(&mut self) -> Result<(), ProxyError> {
        if !self.claimed {
            self.nft.claim(&self.table, MARK).await?;
            self.claimed = true;
        }
        Ok(())
    }

    /// Sends the difference if there is something to differ from and the kernel takes it, else everything.
    async fn send(&self, before: Option<&Table>, table: &Table) -> Result<Applied, ProxyError> {
        if let Some(change) = before.and_then(|before| script::change(&self.table, before, table)) {
            if change.elements == 0 {
                return Ok(Applied { full: false, changes: 0 });
            }
            match self.nft.apply(&change.text).await {
                Ok(()) => return Ok(Applied { full: false, changes: change.elements }),
                // Usually somebody flushed or edited the table.
                Err(error) => tracing::warn!(%error, table = self.table, "replacing the whole table"),
            }
        }
        self.nft.apply(&script::full(&self.table, MARK, table)).await?;
        Ok(Applied { full: true, changes: table.elements.len() })
    }

    /// Remembers how the table looks after a change of ours that began at generation `before`.
    async fn seal(&mut self, before: Option<u32>, reshaped: bool) -> Result<(), ProxyError> {
        if reshaped {
            self.seal.definition = self.nft.definition(&self.table).await?;
        }
        let now = netfilter::generation().ok();
        // More than one step is not ours alone.
        self.seal.generation = now.filter(|now| before.map(|before| before.wrapping_add(1)) == Some(*now));
        Ok(())
    }

    /// Ends what outlives a rule: remembered clients, and connections without an end that still go to the old
    /// endpoint. Failing at it is reported and leaves the rules in force.
    async fn settle(&self, applied: Applied, before: Option<&Rules>, rules: &Rules) {
        if let Some(before) = before.filter(|_| !applied.full)
            && let Err(error) = sticky::forget_departed(&self.nft, &self.table, before, rules).await
        {
            tracing::warn!(%error, "clients may keep going to endpoints that are gone");
        }
        let stale = stale::stale(before, rules);
        if stale.is_empty() {
            return;
        }
        let outcome = tokio::task::spawn_blocking(move || stale::end(&stale)).await;
        let outcome = outcome.unwrap_or_else(|error| Err(std::io::Error::other(error)));
        if let Err(error) = outcome {
            tracing::warn!(%error, "UDP clients may keep going to endpoints that are gone");
        }
    }
}

#[async_trait]
impl ServiceBackend for Nftables {
    async fn apply(&mut self, rules: Rules) -> Result<Applied, ProxyError> {
        self.claim().await?;
        let table = Table::of(&rules);
        // Taken out, so that dropping this future half-way leaves "unknown" behind.
        let before = self.applied.take();
        let generation = netfilter::generation().ok();
        let applied = self.send(before.as_ref().map(|(_, table)| table), &table).await?;
        if applied.full || applied.changes > 0 {
            let same_shape = |(_, before): &(Rules, Table)| before.chains == table.chains && before.own == table.own;
            self.seal(generation, applied.full || !before.as_ref().is_some_and(same_shape)).await?;
            self.settle(applied, before.as_ref().map(|(rules, _)| rules), &rules).await;
        }
        self.applied = Some((rules, table));
        Ok(applied)
    }

    async fn intact(&mut self) -> Result<bool, ProxyError> {
        if self.applied.is_none() {
            return Ok(false);
        }
        let now = netfilter::generation().ok();
        if now.is_some() && now == self.seal.generation {
            return Ok(true);
        }
        let intact = self.nft.definition(&self.table).await? == self.seal.definition;
        self.seal.generation = now.filter(|_| intact);
        Ok(intact)
    }

    fn forget(&mut self) {
        self.applied = None;
    }

    async fn cleanup(&mut self) -> Result<(), ProxyError> {
        self.claim().await?;
        self.applied = None;
        let table = &self.table;
        Ok(self.nft.apply(&format!("add table inet {table}\ndelete table inet {table}\n")).await?)
    }
}
