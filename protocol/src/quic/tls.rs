//! The TLS settings of one handshake: TLS 1.3 only, ring, mutual, and never resumed.
//!
//! Resumption and 0-RTT are off on both sides. A resumed session would skip the certificate
//! check, so that a party revoked meanwhile could come back, and 0-RTT data can be replayed
//! (RFC 8446, section 8). Handshakes are rare here; a round trip saved is worth neither.

use std::sync::Arc;

use quinn::crypto::rustls::{NoInitialCipherSuite, QuicClientConfig, QuicServerConfig};
use rustls::client::Resumption;
use rustls::server::NoServerSessionStorage;
use rustls::sign::SingleCertAndKey;
use rustls::version::TLS13;
use rustls::{ClientConfig, ServerConfig};

use super::material::TlsMaterial;
use super::verifier::PeerVerifier;

/// The protocol's name in the TLS handshake (RFC 7301).
pub const ALPN: &[u8] = b"foedus/1";

/// The server name that rustls wants. It is never sent and never compared; `.invalid` belongs to
/// nobody (RFC 2606).
pub(super) const SERVER_NAME: &str = "foedus.invalid";

const NO_SUITE: &str = "ring has the suite of QUIC's initial packets";

/// Returns the settings of a server for one handshake.
pub(super) fn server(
    material: &TlsMaterial,
    verifier: Arc<PeerVerifier>,
) -> Result<QuicServerConfig, NoInitialCipherSuite> {
    QuicServerConfig::try_from(server_settings(material, verifier))
}

/// Returns the settings of a client for one handshake.
pub(super) fn client(
    material: &TlsMaterial,
    verifier: Arc<PeerVerifier>,
) -> Result<QuicClientConfig, NoInitialCipherSuite> {
    QuicClientConfig::try_from(client_settings(material, verifier))
}

fn server_settings(material: &TlsMaterial, verifier: Arc<PeerVerifier>) -> ServerConfig {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&TLS13])
        .expect(NO_SUITE)
        .with_client_cert_verifier(verifier)
        .with_cert_resolver(Arc::new(SingleCertAndKey::from(material.certified())));
    config.alpn_protocols = vec![ALPN.to_vec()];
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    config.max_early_data_size = 0;
    config
}

fn client_settings(material: &TlsMaterial, verifier: Arc<PeerVerifier>) -> ClientConfig {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&TLS13])
        .expect(NO_SUITE)
        .dangerous() // Not less than rustls' own check, but another: see the module `verifier`.
        .with_custom_certificate_verifier(verifier)
        .with_client_cert_resolver(Arc::new(SingleCertAndKey::from(material.certified())));
    config.alpn_protocols = vec![ALPN.to_vec()];
    config.resumption = Resumption::disabled();
    config.enable_early_data = false;
    config.enable_sni = false;
    config
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::identity::Role;

    /// Each of these keeps sessions from being resumed even without the others, so that only here is one of them missed.
    #[test]
    fn neither_side_resumes_a_session_or_takes_early_data() {
        let federation = certs::throwaway::Federation::create::<&str>("north-sea", &[]).unwrap();
        let own = federation.server();
        let (own, authority) = ((&own.certificate, &own.key), &own.authority);
        let material = TlsMaterial::from_pem(own.0, own.1, authority, None).unwrap();

        let verifier = PeerVerifier::new(&material, Role::Participant);
        let server = server_settings(&material, verifier);
        assert_eq!(server.send_tls13_tickets, 0);
        assert_eq!(server.max_early_data_size, 0);
        assert!(!server.session_storage.can_cache());
        assert!(!server.ticketer.enabled());

        let verifier = PeerVerifier::new(&material, Role::Server);
        let client = client_settings(&material, verifier);
        assert!(!client.enable_early_data);
        assert!(!client.enable_sni);
        // It says nothing else of itself.
        let resumption = format!("{:?}", client.resumption);
        assert!(
            resumption.contains("NoClientSessionStorage"),
            "{resumption}"
        );
    }
}
