//! One APIService, as requests need it.

use std::sync::Arc;

use base64::{Engine, engine::general_purpose::STANDARD};
use k8s_core::{doc::Doc, env::Env};
use k8s_wire::{
    client::Dialer,
    pki::{self, Identity},
    tls::ServerTrust,
};

/// One version of one group.
pub(crate) struct Entry {
    /// The name: `VERSION.GROUP`.
    pub name: String,
    /// The group.
    pub group: String,
    /// The version.
    pub version: String,
    /// Where its group stands among groups: higher ones first.
    pub group_priority: i64,
    /// Where it stands in its group: higher ones first.
    pub version_priority: i64,
    /// Who answers for it; `None` if this server does.
    pub remote: Option<Remote>,
    /// Whether the object says that it is available.
    pub is_available: bool,
}

/// Another server.
pub(crate) struct Remote {
    /// The namespace of its service.
    pub namespace: String,
    /// The name of its service.
    pub service: String,
    /// The port of its service.
    pub port: u16,
    bundle: String,
    insecure: bool,
    /// Makes connections to it; the error says what of its certificates cannot be read.
    pub dialer: Arc<Result<Dialer, String>>,
}

impl Entry {
    /// Reads an object. What the object said before is kept as far as it is the same: connections' configuration is
    /// not made anew for a change of status.
    pub fn read(doc: &Doc, before: Option<&Self>, env: &Env, identity: Option<&Identity>) -> Self {
        let number = |field: &str| doc.at(&["spec", field]).and_then(Doc::as_i64).unwrap_or(0);
        let conditions = doc.at(&["status", "conditions"]).map_or(&[][..], Doc::items);
        let before = before.and_then(|before| before.remote.as_ref());
        Self {
            name: doc.str_at(&["metadata", "name"]).to_owned(),
            group: doc.str_at(&["spec", "group"]).to_owned(),
            version: doc.str_at(&["spec", "version"]).to_owned(),
            group_priority: number("groupPriorityMinimum"),
            version_priority: number("versionPriority"),
            remote: Remote::read(doc, before, env, identity),
            is_available: conditions
                .iter()
                .any(|one| one.str_at(&["type"]) == "Available" && one.str_at(&["status"]) == "True"),
        }
    }

    /// Whether both send the same requests to the same server.
    pub fn says_the_same(&self, other: &Self) -> bool {
        self.name == other.name
            && match (&self.remote, &other.remote) {
                (Some(one), Some(other)) => one.says_the_same(other),
                (None, None) => true,
                _ => false,
            }
    }

    /// `GROUP/VERSION`.
    pub fn group_version(&self) -> String {
        format!("{}/{}", self.group, self.version)
    }
}

impl Remote {
    fn read(doc: &Doc, before: Option<&Self>, env: &Env, identity: Option<&Identity>) -> Option<Self> {
        let service = doc.at(&["spec", "service"]).filter(|service| !service.is_null())?;
        let port = service.get("port").and_then(Doc::as_u64).and_then(|port| port.try_into().ok()).unwrap_or(443);
        let mut remote = Self {
            namespace: service.str_at(&["namespace"]).to_owned(),
            service: service.str_at(&["name"]).to_owned(),
            port,
            bundle: doc.str_at(&["spec", "caBundle"]).to_owned(),
            insecure: doc.at(&["spec", "insecureSkipTLSVerify"]).and_then(Doc::as_bool) == Some(true),
            dialer: Arc::new(Err(String::new())),
        };
        remote.dialer = match before.filter(|before| before.says_the_same(&remote)) {
            Some(before) => before.dialer.clone(),
            None => Arc::new(remote.dialer(env, identity)),
        };
        Some(remote)
    }

    fn dialer(&self, env: &Env, identity: Option<&Identity>) -> Result<Dialer, String> {
        if self.insecure {
            return Dialer::new(env.clone(), ServerTrust::Anyone, identity).map_err(|why| why.to_string());
        }
        let pem = STANDARD.decode(&self.bundle).map_err(|why| format!("caBundle: {why}"))?;
        let authorities = if pem.is_empty() {
            Vec::new()
        } else {
            pki::certificates("caBundle", &pem).map_err(|why| why.to_string())?
        };
        Dialer::new(env.clone(), ServerTrust::Authorities(&authorities), identity).map_err(|why| why.to_string())
    }

    fn says_the_same(&self, other: &Self) -> bool {
        (&self.namespace, &self.service, self.port, &self.bundle, self.insecure)
            == (&other.namespace, &other.service, other.port, &other.bundle, other.insecure)
    }

    /// What its certificate must be for.
    pub fn server_name(&self) -> String {
        format!("{}.{}.svc", self.service, self.namespace)
    }
}
