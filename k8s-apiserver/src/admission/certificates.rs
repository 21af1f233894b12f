//! Who may decide about certificates: `CertificateApproval`, `CertificateSigning`, `ClusterTrustBundleAttest`, and
//! `CertificateSubjectRestriction`.
//!
//! A right about a signer is a verb on `signers` in the group of certificates, by the signer's name or `DOMAIN/*`.

use std::sync::Arc;

use async_trait::async_trait;
use k8s_core::{
    doc::Doc,
    request::{ResourceType, Target, Verb},
    status::ApiResult,
};
use x509_parser::{certification_request::X509CertificationRequest, prelude::FromDer};

use super::{Admission, AdmissionRequest};
use crate::{
    auth::{Attributes, Authorizer, Decision, Subject},
    registry::signing_request,
};

const GROUP: &str = "certificates.k8s.io";
const REQUESTS: &str = "certificatesigningrequests";
/// Signs client certificates that the API server believes.
const CLIENT_SIGNER: &str = "kubernetes.io/kube-apiserver-client";
const MASTERS: &str = "system:masters";

/// Whether the caller has a right about a signer.
async fn may(authorizer: &Arc<dyn Authorizer>, request: &AdmissionRequest<'_>, verb: &str, signer: &str) -> bool {
    let domain = signer.split('/').next().unwrap_or("");
    for name in [signer.to_owned(), format!("{domain}/*")] {
        let target = Target::one(ResourceType::new(GROUP, "*", "signers"), "", name);
        let subject = Subject::Resource(&target);
        let attributes = Attributes { caller: request.caller, verb, subject, fields: None };
        if authorizer.authorize(&attributes).await == Decision::Allow {
            return true;
        }
    }
    false
}

fn signer_of(doc: Option<&Doc>) -> &str {
    doc.map_or("", |doc| doc.str_at(&["spec", "signerName"]))
}

/// Only who may approve for a signer decides about a request to it.
pub struct CertificateApproval {
    /// Decides who may.
    pub authorizer: Arc<dyn Authorizer>,
}

#[async_trait]
impl Admission for CertificateApproval {
    fn name(&self) -> &'static str {
        "CertificateApproval"
    }

    fn handles(&self, request: &AdmissionRequest<'_>) -> bool {
        request.verb == Verb::Update && request.is_below(GROUP, REQUESTS) && request.target.subresource == "approval"
    }

    async fn validate(&self, request: &AdmissionRequest<'_>) -> ApiResult<()> {
        let signer = signer_of(request.old);
        if may(&self.authorizer, request, "approve", signer).await {
            return Ok(());
        }
        Err(request.forbidden(format!("user not permitted to approve requests with signerName {signer:?}")))
    }
}

/// Only who may sign for a signer issues its certificates, or says that it will not.
pub struct CertificateSigning {
    /// Decides who may.
    pub authorizer: Arc<dyn Authorizer>,
}

#[async_trait]
impl Admission for CertificateSigning {
    fn name(&self) -> &'static str {
        "CertificateSigning"
    }

    fn handles(&self, request: &AdmissionRequest<'_>) -> bool {
        request.verb == Verb::Update && request.is_below(GROUP, REQUESTS) && request.target.subresource == "status"
    }

    async fn validate(&self, request: &AdmissionRequest<'_>) -> ApiResult<()> {
        let said = |doc: Option<&Doc>| {
            let of = |field: &str| doc.and_then(|doc| doc.at(&["status", field])).cloned();
            (of("certificate"), of("conditions"))
        };
        let signer = signer_of(request.old);
        if said(request.object()) == said(request.old) || may(&self.authorizer, request, "sign", signer).await {
            return Ok(());
        }
        Err(request.forbidden(format!("user not permitted to sign requests with signerName {signer:?}")))
    }
}

/// Only who may attest for a signer says which certificates to trust it by.
pub struct TrustBundleAttest {
    /// Decides who may.
    pub authorizer: Arc<dyn Authorizer>,
}

#[async_trait]
impl Admission for TrustBundleAttest {
    fn name(&self) -> &'static str {
        "ClusterTrustBundleAttest"
    }

    fn handles(&self, request: &AdmissionRequest<'_>) -> bool {
        matches!(request.verb, Verb::Create | Verb::Update) && request.is_on(GROUP, "clustertrustbundles")
    }

    async fn validate(&self, request: &AdmissionRequest<'_>) -> ApiResult<()> {
        let signer = signer_of(request.object());
        let spec = |doc: Option<&Doc>| doc.and_then(|doc| doc.get("spec")).cloned();
        let is_same = request.old.is_some() && spec(request.old) == spec(request.object());
        if signer.is_empty() || is_same || may(&self.authorizer, request, "attest", signer).await {
            return Ok(());
        }
        Err(request.forbidden(format!("user not permitted to attest for signerName {signer:?}")))
    }
}

/// Nobody becomes the master of the cluster by a client certificate that is asked for.
pub struct SubjectRestriction;

#[async_trait]
impl Admission for SubjectRestriction {
    fn name(&self) -> &'static str {
        "CertificateSubjectRestriction"
    }

    fn handles(&self, request: &AdmissionRequest<'_>) -> bool {
        request.verb == Verb::Create && request.is_on(GROUP, REQUESTS)
    }

    async fn validate(&self, request: &AdmissionRequest<'_>) -> ApiResult<()> {
        if signer_of(request.object()) != CLIENT_SIGNER {
            return Ok(());
        }
        let Some(Ok(der)) = request.object().map(signing_request) else { return Ok(()) };
        let Ok((_, asked)) = X509CertificationRequest::from_der(&der) else { return Ok(()) };
        let mut organizations = asked.certification_request_info.subject.iter_organization();
        if organizations.any(|name| name.as_str() == Ok(MASTERS)) {
            let why = format!("use of {CLIENT_SIGNER} signer with {MASTERS} group is not allowed");
            return Err(request.forbidden(why));
        }
        Ok(())
    }
}
