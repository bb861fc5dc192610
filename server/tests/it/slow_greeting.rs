//! A participant with a good certificate that proves who it is and then takes its time, on quinn and rustls directly.

use std::net::SocketAddr;
use std::sync::Arc;

use certs::throwaway::Material;
use protocol::close::CloseCode;
use protocol::quic::ALPN;
use quinn::crypto::rustls::QuicClientConfig;
use quinn::{Connection, ConnectionError, Endpoint};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::{DigitallySignedStruct, Error, SignatureScheme};

/// A connection whose certificate the server has checked, before the eight bytes that ask to be let in.
pub(crate) struct SlowGreeting {
    connection: Connection,
    _endpoint: Endpoint,
}

impl SlowGreeting {
    /// Connects, and returns once the server has checked the certificate.
    pub(crate) async fn connect(material: &Material, address: SocketAddr) -> Self {
        let endpoint = endpoint(material);
        let connection = endpoint.connect(address, "foedus").unwrap().await.unwrap();
        // In TLS 1.3 our side is done first; the server says so when it is.
        while connection.stats().frame_rx.handshake_done == 0 {
            tokio::task::yield_now().await;
        }
        Self {
            connection,
            _endpoint: endpoint,
        }
    }

    /// Asks to be let in, and returns the code with which the server ends the connection.
    pub(crate) async fn greet(self) -> Option<CloseCode> {
        let (mut send, _receive) = self.connection.open_bi().await.unwrap();
        send.write_all(b"foedus/1").await.unwrap();
        match self.connection.closed().await {
            ConnectionError::ApplicationClosed(close) => {
                let wire = u32::try_from(close.error_code.into_inner()).unwrap();
                CloseCode::from_wire(wire)
            }
            other => panic!("{other}"),
        }
    }
}

fn endpoint(material: &Material) -> Endpoint {
    let chain = CertificateDer::from_pem_slice(material.certificate.as_bytes()).unwrap();
    let key = PrivateKeyDer::from_pem_slice(material.key.as_bytes()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = rustls::ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Credulous))
        .with_client_auth_cert(vec![chain], key)
        .unwrap();
    config.alpn_protocols = vec![ALPN.to_vec()];
    let crypto = QuicClientConfig::try_from(config).unwrap();
    let mut endpoint = Endpoint::client("127.0.0.1:0".parse().unwrap()).unwrap();
    endpoint.set_default_client_config(quinn::ClientConfig::new(Arc::new(crypto)));
    endpoint
}

/// Trusts every server: whom the server lets in is the question.
#[derive(Debug)]
struct Credulous;

impl ServerCertVerifier for Credulous {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        vec![SignatureScheme::ED25519]
    }
}
