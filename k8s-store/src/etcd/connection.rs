//! The way to etcd: several members, one of which will do; time limits; repetition where it is safe.

use std::{
    future::{Future, poll_fn},
    pin::pin,
    time::Duration,
};

use etcd_client::{
    Certificate, Client, ConnectOptions, Error, GetOptions, GetResponse, Identity, KvClient, LeaseClient,
    MaintenanceClient, TlsOptions, WatchClient,
};
use k8s_core::env::{Env, timeout};
use tokio::runtime::Handle;

use super::{EtcdOptions, EtcdTls, errors};
use crate::StoreError;

/// How often a request that cannot have done anything is made before its error is passed on.
const ATTEMPTS: u32 = 6;
const PAUSE: Duration = Duration::from_millis(50);

pub(super) struct Connection {
    pub(super) env: Env,
    options: EtcdOptions,
    /// Where the connections live, whoever uses them.
    runtime: Handle,
    client: Client,
}

impl Connection {
    pub(super) async fn open(options: EtcdOptions, env: Env) -> Result<Self, StoreError> {
        let runtime = Handle::try_current()
            .map_err(|_| StoreError::Invalid { reason: "etcd is connected to in a Tokio runtime only".into() })?;
        let client = connect(&options, &runtime).await?;
        Ok(Self { env, options, runtime, client })
    }

    /// Makes one request, within the time for one.
    pub(super) async fn once<T>(
        &self,
        request: impl Future<Output = Result<T, Error>> + Send,
    ) -> Result<T, StoreError> {
        self.attempt(request).await.map_err(|failure| failure.error)
    }

    /// Reads, from another member if one does not answer.
    pub(super) async fn get(&self, key: Vec<u8>, options: GetOptions) -> Result<GetResponse, StoreError> {
        let get = || {
            let (mut kv, key, options) = (self.kv(), key.clone(), options.clone());
            async move { kv.get(key, Some(options)).await }
        };
        self.repeat(get, |failure| failure.error.outcome_unknown()).await
    }

    /// Writes; tries again only if nobody can have received it.
    pub(super) async fn write<T, F>(&self, request: impl Fn(KvClient) -> F + Send + Sync) -> Result<T, StoreError>
    where
        F: Future<Output = Result<T, Error>> + Send,
    {
        self.repeat(|| request(self.kv()), |failure| failure.unsent).await
    }

    /// A connection of its own, so that a reader that does not read holds up nobody else.
    pub(super) async fn watch_client(&self) -> Result<WatchClient, StoreError> {
        let client = connect(&self.options, &self.runtime).await?;
        Ok(client.watch_client().max_decoding_message_size(usize::MAX))
    }

    pub(super) fn leases(&self) -> LeaseClient {
        self.client.lease_client()
    }

    pub(super) fn maintenance(&self) -> MaintenanceClient {
        self.client.maintenance_client()
    }

    /// Asks somebody who it is.
    pub(super) async fn check_version(&self) -> Result<(), StoreError> {
        let status = || {
            let mut maintenance = self.maintenance();
            async move { maintenance.status().await }
        };
        let asked = self.repeat(status, |failure| failure.error.outcome_unknown()).await;
        let status = asked.map_err(|error| match error {
            StoreError::Unavailable(why) => {
                StoreError::Unavailable(format!("none of {} answers: {why}", self.options.endpoints.join(", ")))
            }
            other => other,
        })?;
        let mut parts = status.version().split('.').map(|part| part.parse::<u32>().unwrap_or(0));
        match (parts.next(), parts.next()) {
            (Some(3), Some(4..)) => Ok(()),
            _ => Err(StoreError::Invalid {
                reason: format!("the etcd has version {}; 3.4 or a later 3.x is needed", status.version()),
            }),
        }
    }

    pub(super) fn kv(&self) -> KvClient {
        self.client.kv_client().max_decoding_message_size(usize::MAX)
    }

    async fn repeat<T, F>(
        &self,
        request: impl Fn() -> F + Send + Sync,
        safe: impl Fn(&Failure) -> bool + Send + Sync,
    ) -> Result<T, StoreError>
    where
        F: Future<Output = Result<T, Error>> + Send,
    {
        let mut attempt = 1;
        loop {
            match self.attempt(request()).await {
                Ok(answer) => return Ok(answer),
                Err(failure) if attempt < ATTEMPTS && safe(&failure) => {
                    self.env.sleep(self.env.jitter(PAUSE * attempt, 1.0)).await;
                    attempt += 1;
                }
                Err(failure) => return Err(failure.error),
            }
        }
    }

    async fn attempt<T>(&self, request: impl Future<Output = Result<T, Error>> + Send) -> Result<T, Failure> {
        match timeout(&*self.env, self.options.timeout, request).await {
            Some(Ok(answer)) => Ok(answer),
            Some(Err(error)) => Err(Failure { unsent: errors::is_unsent(&error), error: errors::store_error(&error) }),
            None => Err(Failure {
                error: StoreError::Unavailable(format!("etcd: no answer within {:?}", self.options.timeout)),
                unsent: false,
            }),
        }
    }
}

struct Failure {
    error: StoreError,
    /// Nothing can have happened.
    unsent: bool,
}

/// Makes the tasks of the connections run in `runtime`, wherever it is called.
async fn connect(options: &EtcdOptions, runtime: &Handle) -> Result<Client, StoreError> {
    let mut client = ConnectOptions::new()
        .with_keep_alive(options.keep_alive, options.keep_alive / 2)
        .with_keep_alive_while_idle(true)
        .with_connect_timeout(options.timeout)
        .with_require_leader(true);
    if let Some(tls) = &options.tls {
        client = client.with_tls(tls_options(tls));
    }
    let mut connecting = pin!(Client::connect(&options.endpoints, Some(client)));
    let connected = poll_fn(|cx| {
        let _inside = runtime.enter();
        connecting.as_mut().poll(cx)
    });
    connected.await.map_err(|error| StoreError::Invalid {
        reason: format!("{} cannot be connected to: {error}", options.endpoints.join(", ")),
    })
}

fn tls_options(tls: &EtcdTls) -> TlsOptions {
    let options = TlsOptions::new().ca_certificate(Certificate::from_pem(&tls.ca));
    match &tls.identity {
        Some((certificate, key)) => options.identity(Identity::from_pem(certificate, key)),
        None => options,
    }
}
