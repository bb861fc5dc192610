//! Peers that our own code would not be: built on quinn and rustls directly.

use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use certs::throwaway::Material;
use protocol::message::TransferHeader;
use protocol::quic::{ALPN, Link, Listener};
use protocol::{codec, frame};
use quinn::crypto::rustls::{QuicClientConfig, QuicServerConfig};
use quinn::{ConnectionError, Endpoint};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{
    ClientSessionMemoryCache, ClientSessionStore, Resumption, Tls12ClientSessionValue,
    Tls13ClientSessionValue,
};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::{DigitallySignedStruct, Error, NamedGroup, SignatureScheme};

use crate::party::{bytes, federation, loopback, meet, participant, server};

/// A client that trusts everybody.
#[derive(Debug)]
struct Credulous;

impl ServerCertVerifier for Credulous {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        vec![SignatureScheme::ED25519]
    }
}

fn chain(material: &Material) -> Vec<CertificateDer<'static>> {
    vec![CertificateDer::from_pem_slice(material.certificate.as_bytes()).unwrap()]
}

fn key(material: &Material) -> PrivateKeyDer<'static> {
    PrivateKeyDer::from_pem_slice(material.key.as_bytes()).unwrap()
}

/// What to show and to sign with: a party's certificate, and the key of `signer`, whose it need not be. rustls compares the two
/// everywhere else.
fn shown(material: &Material, signer: &Material) -> Arc<SingleCertAndKey> {
    let key = rustls::crypto::ring::sign::any_supported_type(&key(signer)).unwrap();
    let certified = CertifiedKey::new(chain(material), key);
    Arc::new(SingleCertAndKey::from(certified))
}

/// A listener that shows any certificate and asks for none.
pub(crate) fn listener_of(material: &Material) -> Endpoint {
    listener_with_key_of(material, material)
}

/// A listener that shows any certificate, signs with any key and asks for no certificate.
pub(crate) fn listener_with_key_of(material: &Material, signer: &Material) -> Endpoint {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = rustls::ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .with_no_client_auth()
        .with_cert_resolver(shown(material, signer));
    config.alpn_protocols = vec![ALPN.to_vec()];
    let crypto = QuicServerConfig::try_from(config).unwrap();
    Endpoint::server(
        quinn::ServerConfig::with_crypto(Arc::new(crypto)),
        loopback(),
    )
    .unwrap()
}

/// A dialer that trusts everybody and offers this protocol.
pub(crate) fn credulous(material: Option<&Material>, alpn: &[u8]) -> Endpoint {
    endpoint(client_config(
        material.map(|material| shown(material, material)),
        alpn,
    ))
}

fn client_config(shown: Option<Arc<SingleCertAndKey>>, alpn: &[u8]) -> rustls::ClientConfig {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = rustls::ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Credulous));
    let mut config = match shown {
        Some(shown) => builder.with_client_cert_resolver(shown),
        None => builder.with_no_client_auth(),
    };
    config.alpn_protocols = vec![alpn.to_vec()];
    config
}

fn endpoint(config: rustls::ClientConfig) -> Endpoint {
    let crypto = QuicClientConfig::try_from(config).unwrap();
    let mut endpoint = Endpoint::client(loopback()).unwrap();
    endpoint.set_default_client_config(quinn::ClientConfig::new(Arc::new(crypto)));
    endpoint
}

/// Connects with any certificate, and returns how the server ended it.
pub(crate) async fn dial(material: &Material, address: SocketAddr) -> ConnectionError {
    end(credulous(Some(material), ALPN), address).await
}

/// Connects without a certificate, and returns how the server ended it.
pub(crate) async fn dial_without_certificate(address: SocketAddr) -> ConnectionError {
    end(credulous(None, ALPN), address).await
}

async fn end(endpoint: Endpoint, address: SocketAddr) -> ConnectionError {
    match endpoint.connect(address, "localhost").unwrap().await {
        Ok(connection) => connection.closed().await,
        Err(error) => error,
    }
}

/// Shows a certificate, signs with the key of `signer`, and asks to be let in; returns how the server ended it, if it did.
pub(crate) async fn ask_with_key_of(
    (material, signer): (&Material, &Material),
    address: SocketAddr,
) -> Option<ConnectionError> {
    let endpoint = endpoint(client_config(Some(shown(material, signer)), ALPN));
    let connection = endpoint.connect(address, "localhost").unwrap().await;
    // In TLS 1.3 our side is done before the server has looked at anything.
    let connection = match connection {
        Ok(connection) => connection,
        Err(error) => return Some(error),
    };
    match greet(&connection).await {
        Some(_) => None,
        None => Some(connection.closed().await),
    }
}

/// A client that has proven who it is and does not ask to be let in: its handshake is under way as long as it likes.
pub(crate) struct Hesitant {
    _connection: quinn::Connection,
    _endpoint: Endpoint,
}

impl Hesitant {
    /// Returns once the server has taken the handshake on.
    pub(crate) async fn dial(material: &Material, address: SocketAddr) -> Self {
        let endpoint = credulous(Some(material), ALPN);
        let connection = endpoint.connect(address, "localhost").unwrap().await;
        Self {
            _connection: connection.unwrap(),
            _endpoint: endpoint,
        }
    }
}

/// A client that keeps what tickets it is given, and would send data before its handshake is done.
pub(crate) struct Returning {
    endpoint: Endpoint,
    tickets: Arc<Tickets>,
}

impl Returning {
    pub(crate) fn new(material: &Material) -> Self {
        let tickets = Arc::new(Tickets::default());
        let mut config = client_config(Some(shown(material, material)), ALPN);
        config.resumption = Resumption::store(Arc::clone(&tickets) as Arc<_>);
        config.enable_early_data = true;
        let endpoint = endpoint(config);
        Self { endpoint, tickets }
    }

    /// Connects and asks to be let in; whether it was.
    pub(crate) async fn ask(&self, address: SocketAddr) -> bool {
        let connecting = self.endpoint.connect(address, "localhost").unwrap();
        let Err(connecting) = connecting.into_0rtt() else {
            panic!("there are keys for early data");
        };
        match connecting.await {
            Ok(connection) => greet(&connection).await.is_some(),
            Err(_) => false,
        }
    }

    /// How many tickets it was given.
    pub(crate) fn tickets(&self) -> usize {
        self.tickets.given.load(Ordering::SeqCst)
    }
}

/// Tickets as rustls keeps them, counted.
#[derive(Debug)]
struct Tickets {
    kept: ClientSessionMemoryCache,
    given: AtomicUsize,
}

impl Default for Tickets {
    fn default() -> Self {
        Self {
            kept: ClientSessionMemoryCache::new(8),
            given: AtomicUsize::new(0),
        }
    }
}

impl ClientSessionStore for Tickets {
    fn set_kx_hint(&self, server_name: ServerName<'static>, group: NamedGroup) {
        self.kept.set_kx_hint(server_name, group);
    }

    fn kx_hint(&self, server_name: &ServerName<'_>) -> Option<NamedGroup> {
        self.kept.kx_hint(server_name)
    }

    fn set_tls12_session(&self, _: ServerName<'static>, _: Tls12ClientSessionValue) {}

    fn tls12_session(&self, _: &ServerName<'_>) -> Option<Tls12ClientSessionValue> {
        None
    }

    fn remove_tls12_session(&self, _: &ServerName<'static>) {}

    fn insert_tls13_ticket(&self, name: ServerName<'static>, ticket: Tls13ClientSessionValue) {
        self.given.fetch_add(1, Ordering::SeqCst);
        self.kept.insert_tls13_ticket(name, ticket);
    }

    fn take_tls13_ticket(&self, name: &ServerName<'static>) -> Option<Tls13ClientSessionValue> {
        self.kept.take_tls13_ticket(name)
    }
}

/// Asks to be let in, and returns our half of the control stream if we are.
async fn greet(connection: &quinn::Connection) -> Option<quinn::SendStream> {
    let (mut control, mut answers) = connection.open_bi().await.ok()?;
    control.write_all(ALPN).await.ok()?;
    let mut greeting = [0; 8];
    answers.read_exact(&mut greeting).await.ok()?;
    assert_eq!(greeting, ALPN);
    Some(control)
}

/// An admitted participant that then writes what it likes.
pub(crate) struct Rogue {
    pub(crate) control: quinn::SendStream,
    connection: quinn::Connection,
    _endpoint: Endpoint,
}

/// A rogue, and the honest server's end of its link.
pub(crate) async fn link(material: &Material, listener: &mut Listener) -> (Rogue, Link) {
    let endpoint = credulous(Some(material), ALPN);
    let address = listener.local_address();
    let dial = async {
        let connection = endpoint
            .connect(address, "localhost")
            .unwrap()
            .await
            .unwrap();
        (greet(&connection).await.unwrap(), connection)
    };
    let ((control, connection), link) = tokio::join!(dial, listener.accept());
    let rogue = Rogue {
        control,
        connection,
        _endpoint: endpoint.clone(),
    };
    (rogue, link.unwrap().unwrap())
}

impl Rogue {
    /// Sends a header and then these bytes, whatever the header says.
    pub(crate) async fn transfer(&self, header: &TransferHeader, payload: &[u8]) {
        let mut bytes = frame::encode_frame(&codec::encode(header).unwrap()).unwrap();
        bytes.extend_from_slice(payload);
        self.raw_transfer(&bytes).await;
    }

    /// Sends these bytes on a stream of their own.
    pub(crate) async fn raw_transfer(&self, bytes: &[u8]) {
        let mut stream = self.connection.open_uni().await.unwrap();
        // The receiver may stop it at any byte.
        if stream.write_all(bytes).await.is_ok() {
            let _ = stream.finish();
        }
    }
}

#[tokio::test]
async fn garbage_datagrams_do_not_disturb_the_listener() {
    let federation = federation();
    let mut listener = server(&federation);
    let socket = UdpSocket::bind(loopback()).unwrap();
    let noise = bytes(400_000);
    let address = listener.local_address();
    for (index, start) in (0..399_000).step_by(1000).enumerate() {
        let mut datagram = noise[start..start + 1 + index % 1400 % 1000].to_vec();
        // Every kind of first byte, long headers of version 1 among them.
        datagram[0] = u8::try_from(index % 256).unwrap();
        if index % 3 == 0 && datagram.len() > 6 {
            datagram[1..5].copy_from_slice(&1_u32.to_be_bytes());
        }
        socket.send_to(&datagram, address).unwrap();
        if index % 64 == 0 {
            tokio::task::yield_now().await;
        }
    }
    let (client, server) = meet(&mut listener, &participant(&federation)).await;
    assert_eq!(server.unwrap().connection.peer().name(), "hospital-a");
    client.unwrap();
}

#[tokio::test]
async fn a_peer_that_speaks_another_protocol_is_told_so() {
    let federation = federation();
    let mut listener = server(&federation);
    let material = federation.participant("hospital-a").unwrap();
    let stranger = end(credulous(Some(material), b"h3"), listener.local_address());
    let (_, at_server) = tokio::join!(stranger, listener.accept());
    let error = at_server.unwrap().unwrap_err();
    assert_eq!(error.label(), "foreign", "{error}");
}

#[tokio::test]
async fn a_control_stream_that_opens_with_other_bytes_is_foreign() {
    let federation = federation();
    let mut listener = server(&federation);
    let material = federation.participant("hospital-a").unwrap();
    let endpoint = credulous(Some(material), ALPN);
    let address = listener.local_address();
    let dial = async {
        let connection = endpoint
            .connect(address, "localhost")
            .unwrap()
            .await
            .unwrap();
        let (mut control, _answers) = connection.open_bi().await.unwrap();
        control.write_all(b"GET / HTTP/1.1").await.unwrap();
        connection.closed().await
    };
    let (_, at_server) = tokio::join!(dial, listener.accept());
    let error = at_server.unwrap().unwrap_err();
    assert_eq!(error.label(), "foreign", "{error}");
}
