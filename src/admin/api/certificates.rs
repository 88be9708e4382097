//! The certificates of each listener, and changed files of TLS that are not used.

use std::path::Path;

use http::StatusCode;
use serde::Serialize;

use super::process::{RefusedCertificate, refused_certificates};
use super::{Api, ApiRequest};
use crate::admin::response::ApiResponse;
use crate::config::{Certificate, ListenerTls, Validity};
use crate::timestamp::Timestamp;

/// The certificates in use.
#[derive(Debug, Serialize)]
pub(super) struct CertificateList {
    /// The listeners with TLS, in the order of the configuration.
    listeners: Vec<ListenerCertificates>,
    /// Changed files of TLS that are not used.
    refused: Vec<RefusedCertificate>,
}

/// The certificates of a listener.
#[derive(Debug, Serialize)]
pub(super) struct ListenerCertificates {
    /// Its address.
    address: String,
    /// Its certificates; of several for a name the first serves it.
    certificates: Vec<CertificateInfo>,
}

/// A certificate of a listener. Dates are null where they cannot be read.
#[derive(Debug, Serialize)]
pub(super) struct CertificateInfo {
    /// The file of the chain.
    file: String,
    /// The file of the key.
    key: String,
    /// The DNS names in it.
    names: Vec<String>,
    /// Those of them that it serves; the others another certificate serves.
    serves: Vec<String>,
    /// Whether it is for names that no certificate has.
    default: bool,
    /// The distinguished name of its authority.
    issuer: Option<String>,
    /// When its chain is valid from (RFC 3339).
    not_before: Option<String>,
    /// When the first certificate of its chain expires (RFC 3339).
    not_after: Option<String>,
    /// Why a changed file is not used.
    refused: Option<String>,
    /// Its OCSP response. `None`: it has no file of one.
    ocsp: Option<OcspInfo>,
}

/// The file of an OCSP response.
#[derive(Debug, Serialize)]
pub(super) struct OcspInfo {
    /// The file.
    file: String,
    /// When clients accept the response from (RFC 3339).
    this_update: Option<String>,
    /// When the response expires (RFC 3339).
    next_update: Option<String>,
    /// Why clients do not get it. `None`: they do.
    problem: Option<String>,
}

pub(super) fn all(api: &Api, _request: &ApiRequest) -> Result<ApiResponse, ApiResponse> {
    let loaded_config = api.process.loaded_config();
    let refused = refused_certificates(&loaded_config);
    let now = Timestamp::now().unix_seconds() as i64;
    let listeners = loaded_config.config.listeners.iter();
    let listeners = listeners.filter_map(|listener| {
        let tls = listener.tls.as_ref()?;
        Some(ListenerCertificates {
            address: listener.address.to_string(),
            certificates: certificates(tls, &refused, now),
        })
    });
    let list = CertificateList {
        listeners: listeners.collect(),
        refused,
    };
    Ok(ApiResponse::json(StatusCode::OK, &list))
}

fn certificates(
    tls: &ListenerTls,
    refused: &[RefusedCertificate],
    now: i64,
) -> Vec<CertificateInfo> {
    let default = tls.default_certificate();
    let serving = tls.serving(now).into_iter();
    let certificates = serving.map(|(certificate, names)| {
        let file = display(&certificate.files.chain_file);
        let refused = refused.iter().find(|refused| refused.file == file);
        let (not_before, not_after) = dates(certificate.validity);
        CertificateInfo {
            key: display(&certificate.files.key_file),
            names: certificate.names.clone(),
            serves: names.into_iter().map(str::to_owned).collect(),
            default: default.is_some_and(|default| std::ptr::eq(default, certificate)),
            issuer: certificate.issuer(),
            not_before,
            not_after,
            refused: refused.map(|refused| refused.reason.clone()),
            ocsp: ocsp(certificate, now),
            file,
        }
    });
    certificates.collect()
}

fn ocsp(certificate: &Certificate, now: i64) -> Option<OcspInfo> {
    let file = certificate.files.ocsp_file.as_deref()?;
    let dates = certificate.response().map(|response| response.validity);
    let (this_update, next_update) = dates.map(self::dates).unwrap_or_default();
    Some(OcspInfo {
        file: display(file),
        this_update,
        next_update,
        problem: certificate.ocsp_fault(now),
    })
}

/// Beginning and end, where there are such.
fn dates(Validity { from, until }: Validity) -> (Option<String>, Option<String>) {
    let date = |seconds| Some(jiff::Timestamp::from_second(seconds).ok()?.to_string());
    (date(from), date(until))
}

fn display(file: &Path) -> String {
    file.display().to_string()
}
