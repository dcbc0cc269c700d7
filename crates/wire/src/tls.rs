//! Mutual TLS 1.3 with pinned raw Ed25519 keys.
//!
//! A certificate here is an envelope for a key. Its subject, issuer and dates are ignored; the key is taken
//! from the same parse that checks the handshake signature, so two parsers cannot disagree about it, and is
//! compared in constant time. Resumption is off: a resumed session skips the certificate check, and
//! connections are long-lived anyway.

use std::fmt;
use std::sync::Arc;

use record::keys::{PublicKey, SecretKey};
use rustls::client::Resumption;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, PrivatePkcs8KeyDer, ServerName, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::server::{NoServerSessionStorage, ParsedCertificate};
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, DistinguishedName, Error as TlsError, OtherError,
    PeerIncompatible, ServerConfig, SignatureScheme,
};
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

use crate::error::WireError;
use crate::server::Admit;

/// The one name in every certificate. It identifies nobody.
pub(crate) const NAME: &str = "comity";
const ALPN: &[u8] = b"http/1.1";
/// SubjectPublicKeyInfo of an Ed25519 key up to the key itself, RFC 8410 section 4.
const SPKI_PREFIX: [u8; 12] = [0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00];
/// PKCS #8 of an Ed25519 seed up to the seed itself, RFC 8410 section 7.
const PKCS8_PREFIX: [u8; 16] =
    [0x30, 0x2e, 0x02, 0x01, 0x00, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x04, 0x22, 0x04, 0x20];

/// A TLS key and the certificate that carries it. No `Debug` of the secret; the seed is wiped on drop (the
/// TLS library keeps its own copy as long as a client or server made from this lives).
#[derive(Clone)]
pub struct TlsIdentity {
    pkcs8: Arc<Zeroizing<Vec<u8>>>,
    public: PublicKey,
    certificate: CertificateDer<'static>,
}

impl fmt::Debug for TlsIdentity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TlsIdentity").field("public", &self.public.to_string()).finish_non_exhaustive()
    }
}

impl TlsIdentity {
    /// The identity of a 32-byte Ed25519 seed. The same seed always has the same public key; the
    /// certificate around it may differ.
    pub fn from_seed(seed: &[u8; 32]) -> Result<Self, WireError> {
        let public = SecretKey::from_seed(*seed).public();
        let mut pkcs8 = Zeroizing::new(Vec::with_capacity(PKCS8_PREFIX.len() + seed.len()));
        pkcs8.extend_from_slice(&PKCS8_PREFIX);
        pkcs8.extend_from_slice(seed);
        let identity = |e: rcgen::Error| WireError::Identity { reason: e.to_string() };
        let pair = rcgen::KeyPair::try_from(&PrivatePkcs8KeyDer::from(pkcs8.as_slice())).map_err(identity)?;
        let mut params = rcgen::CertificateParams::new(vec![NAME.to_owned()]).map_err(identity)?;
        params.distinguished_name = rcgen::DistinguishedName::new();
        params.distinguished_name.push(rcgen::DnType::CommonName, NAME);
        let certificate = params.self_signed(&pair).map_err(identity)?.der().clone();
        Ok(Self { pkcs8: Arc::new(pkcs8), public, certificate })
    }

    /// A new identity from the operating system's randomness, with its seed to be kept.
    pub fn generate() -> Result<(Self, Zeroizing<[u8; 32]>), WireError> {
        let mut seed = Zeroizing::new([0u8; 32]);
        getrandom::fill(seed.as_mut_slice()).map_err(|e| WireError::Identity {
            reason: format!("no randomness from the operating system ({e})"),
        })?;
        Ok((Self::from_seed(&seed)?, seed))
    }

    /// The key that peers pin and the charter names.
    pub fn public_key(&self) -> PublicKey {
        self.public
    }

    /// TLS settings for calling the one peer that holds `expected`.
    pub(crate) fn client_config(&self, expected: PublicKey) -> Result<ClientConfig, WireError> {
        let mut config = ClientConfig::builder_with_provider(provider())
            .with_protocol_versions(&[&rustls::version::TLS13])
            .map_err(unusable)?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(Pinned { expected }))
            .with_client_auth_cert(vec![self.certificate.clone()], self.private().into())
            .map_err(unusable)?;
        config.resumption = Resumption::disabled();
        config.enable_sni = false;
        config.alpn_protocols = vec![ALPN.to_vec()];
        Ok(config)
    }

    /// TLS settings for answering peers that `admit` lets in.
    pub(crate) fn server_config(&self, admit: Admit) -> Result<ServerConfig, WireError> {
        let mut config = ServerConfig::builder_with_provider(provider())
            .with_protocol_versions(&[&rustls::version::TLS13])
            .map_err(unusable)?
            .with_client_cert_verifier(Arc::new(Known { admit }))
            .with_single_cert(vec![self.certificate.clone()], self.private().into())
            .map_err(unusable)?;
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
        config.alpn_protocols = vec![ALPN.to_vec()];
        Ok(config)
    }

    fn private(&self) -> PrivatePkcs8KeyDer<'static> {
        PrivatePkcs8KeyDer::from(self.pkcs8.to_vec())
    }
}

fn unusable(e: TlsError) -> WireError {
    WireError::Identity { reason: e.to_string() }
}

/// One provider, handed to each configuration: nothing depends on a process-wide default.
fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

/// The Ed25519 key in a certificate.
pub(crate) fn key_of(certificate: &CertificateDer<'_>) -> Result<PublicKey, TlsError> {
    let spki = ParsedCertificate::try_from(certificate)?.subject_public_key_info();
    spki.as_ref()
        .strip_prefix(&SPKI_PREFIX)
        .and_then(|raw| <[u8; 32]>::try_from(raw).ok())
        .and_then(|raw| PublicKey::from_bytes(raw).ok())
        .ok_or_else(|| CertificateError::BadEncoding.into())
}

/// The key found is not the key pinned. Travels inside the TLS error so that the caller can name both.
#[derive(Debug, Clone, thiserror::Error)]
#[error("peer shows TLS key `{found}`, expected `{expected}`")]
pub(crate) struct Unpinned {
    pub(crate) found: String,
    pub(crate) expected: String,
}

fn handshake_signature(
    message: &[u8],
    certificate: &CertificateDer<'_>,
    dss: &DigitallySignedStruct,
) -> Result<HandshakeSignatureValid, TlsError> {
    verify_tls13_signature(message, certificate, dss, &provider().signature_verification_algorithms)
}

/// TLS 1.2 is never offered; a verifier must still answer.
fn no_tls12() -> Result<HandshakeSignatureValid, TlsError> {
    Err(PeerIncompatible::ServerDoesNotSupportTls12Or13.into())
}

/// The calling side: exactly one key will do.
#[derive(Debug)]
struct Pinned {
    expected: PublicKey,
}

impl ServerCertVerifier for Pinned {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, TlsError> {
        let unpinned = |found: String| {
            TlsError::from(CertificateError::Other(OtherError(Arc::new(Unpinned {
                found,
                expected: self.expected.to_string(),
            }))))
        };
        let found =
            key_of(end_entity).map_err(|_| unpinned("a certificate without an Ed25519 key".to_owned()))?;
        if bool::from(found.as_bytes().ct_eq(self.expected.as_bytes())) {
            Ok(ServerCertVerified::assertion())
        } else {
            Err(unpinned(found.to_string()))
        }
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, TlsError> {
        no_tls12()
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, TlsError> {
        handshake_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        vec![SignatureScheme::ED25519]
    }
}

/// The answering side: whoever is admitted now. Asked again at every request, because a connection may
/// outlive a membership.
struct Known {
    admit: Admit,
}

impl fmt::Debug for Known {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Known")
    }
}

impl ClientCertVerifier for Known {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _now: UnixTime,
    ) -> Result<ClientCertVerified, TlsError> {
        match (self.admit)(&key_of(end_entity)?) {
            Some(_) => Ok(ClientCertVerified::assertion()),
            None => Err(CertificateError::ApplicationVerificationFailure.into()),
        }
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, TlsError> {
        no_tls12()
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, TlsError> {
        handshake_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        vec![SignatureScheme::ED25519]
    }
}
