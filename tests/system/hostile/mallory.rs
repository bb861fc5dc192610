//! A participant with a good certificate and no manners: it writes what it likes on connections of its own making.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Duration;

use protocol::close::CloseCode;
use protocol::frame::{FrameDecoder, encode_frame};
use protocol::message::{
    Capabilities, Content, Metrics, PROTOCOL_VERSION, ToClient, ToServer, TransferHeader,
};
use protocol::plan::CheckedPlan;
use protocol::quic::ALPN;
use protocol::seal::{Examiner, Seal, SealFault};
use protocol::{ParticipantName, Round, Text, codec};
use quinn::crypto::rustls::QuicClientConfig;
use quinn::{Connection, ConnectionError, Endpoint, ReadError, RecvStream, SendStream, VarInt};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::{DigitallySignedStruct, Error, SignatureScheme};

/// Nothing that a hostile participant waits for takes this long.
const PATIENCE: Duration = Duration::from_secs(60);

/// What a participant is told.
#[derive(Debug)]
pub(super) enum Heard {
    Message(ToClient),
    Closed(CloseCode),
}

/// One connection of one participant.
pub(super) struct Mallory {
    folder: PathBuf,
    address: String,
    pub(super) name: ParticipantName,
    pub(super) connection: Connection,
    control: SendStream,
    answers: RecvStream,
    frames: FrameDecoder,
    unread: Vec<u8>,
    plan: Option<CheckedPlan>,
    _endpoint: Endpoint,
}

/// Believes every seal: what Mallory wants is not in the plan.
#[derive(Debug)]
struct AnySeal;

impl Examiner for AnySeal {
    fn examine(&self, _: &[u8], _: &Seal) -> Result<(), SealFault> {
        Ok(())
    }
}

impl Mallory {
    /// Connects with the certificate of `name` in the federation's folder, and joins the run.
    pub(super) async fn join(folder: &Path, name: &str, address: &str) -> Self {
        let mut mallory = Self::connect(folder, name, address).await;
        let (software, capabilities) = (Text::new("mallory 1"), Capabilities::NONE);
        mallory
            .say(&ToServer::Hello {
                version: PROTOCOL_VERSION,
                software,
                capabilities,
            })
            .await;
        let Heard::Message(ToClient::Welcome { plan, .. }) = mallory.hear().await else {
            panic!("{name}: no welcome");
        };
        let plan = plan.open(&AnySeal).expect("the server's plan is one");
        let (holds, begun) = (Vec::new(), Vec::new());
        mallory
            .say(&ToServer::Ready {
                plan: plan.digest(),
                holds,
                begun,
                recorded: Round(0),
            })
            .await;
        mallory.plan = Some(plan);
        mallory
    }

    async fn connect(folder: &Path, name: &str, address: &str) -> Self {
        let endpoint = endpoint(folder, name);
        let server = address.parse().expect("an address");
        let connecting = endpoint.connect(server, "foedus.invalid").expect("a route");
        let connection = connecting.await.expect("its certificate is good");
        let (mut control, mut answers) = connection.open_bi().await.expect("a control stream");
        control.write_all(ALPN).await.expect("the greeting leaves");
        let mut greeting = [0; 8];
        // Also one that is closed next was admitted first.
        let read = answers.read_exact(&mut greeting).await;
        assert!(
            read.is_ok() || connection.close_reason().is_some(),
            "{read:?}"
        );
        Self {
            folder: folder.to_owned(),
            address: address.to_owned(),
            name: name.parse().expect("a name"),
            connection,
            control,
            answers,
            frames: FrameDecoder::new(),
            unread: Vec::new(),
            plan: None,
            _endpoint: endpoint,
        }
    }

    /// Connects again as the same participant, and says nothing.
    pub(super) async fn again(&self) -> Self {
        Self::connect(&self.folder, self.name.as_str(), &self.address).await
    }

    /// Writes a message; that the connection is gone is heard of by `hear`.
    pub(super) async fn say(&mut self, message: &ToServer) {
        let payload = codec::encode(message).expect("a message of ours");
        self.write(&encode_frame(&payload).expect("it fits")).await;
    }

    /// Writes any bytes to the control stream.
    pub(super) async fn write(&mut self, bytes: &[u8]) {
        let _ = self.control.write_all(bytes).await;
    }

    /// Waits for what the server says next.
    pub(super) async fn hear(&mut self) -> Heard {
        let heard = tokio::time::timeout(PATIENCE, self.read()).await;
        heard.unwrap_or_else(|_| panic!("{} is told nothing", self.name))
    }

    async fn read(&mut self) -> Heard {
        loop {
            let mut input: &[u8] = &self.unread;
            let frame = self
                .frames
                .feed(&mut input)
                .expect("the server frames well");
            self.unread = input.to_vec();
            if let Some(payload) = frame {
                return Heard::Message(codec::decode(&payload).expect("a message"));
            }
            match self.answers.read_chunk(usize::MAX, true).await {
                Ok(Some(chunk)) => self.unread.extend_from_slice(&chunk.bytes),
                Ok(None) => return Heard::Closed(code(&self.connection.closed().await)),
                Err(ReadError::ConnectionLost(error)) => return Heard::Closed(code(&error)),
                Err(error) => panic!("{}: {error}", self.name),
            }
        }
    }

    /// Waits for a round.
    pub(super) async fn asked(&mut self) -> Round {
        loop {
            match self.hear().await {
                Heard::Message(ToClient::Train { global }) => return global.round,
                Heard::Message(_) => {}
                Heard::Closed(code) => panic!("{}: closed, {code}", self.name),
            }
        }
    }

    /// Takes what the server sends, to its end.
    pub(super) async fn take(&self) {
        let mut stream = self.connection.accept_uni().await.expect("a transfer");
        stream.read_to_end(1 << 24).await.expect("a small adapter");
    }

    /// Waits for a refusal or the end of the connection, and gives its label.
    pub(super) async fn verdict(&mut self) -> &'static str {
        loop {
            match self.hear().await {
                Heard::Message(ToClient::Refused { reason, .. }) => return reason.label(),
                Heard::Message(_) => {}
                Heard::Closed(code) => return code.label(),
            }
        }
    }

    fn plan(&self) -> &CheckedPlan {
        self.plan.as_ref().expect("it joined")
    }

    /// An update of the plan's length with the same bf16 value everywhere.
    pub(super) fn update(&self, value: f32) -> Vec<u8> {
        let upper = value.to_le_bytes();
        let values = usize::try_from(self.plan().encoded_bytes() / 2).expect("a small adapter");
        [upper[2], upper[3]].repeat(values)
    }

    /// The header under which it would be offered.
    pub(super) fn header(&self, round: Round, bytes: &[u8]) -> TransferHeader {
        TransferHeader::update(&self.name, round, self.plan().digest(), Content::of(bytes))
    }

    /// Offers an update.
    pub(super) async fn offer(&mut self, transfer: TransferHeader, weight: u64) {
        let metrics = Metrics::default();
        self.say(&ToServer::Offer {
            transfer,
            weight,
            metrics,
        })
        .await;
    }

    /// Waits until an offer is taken up, and gives the byte from which it is wanted.
    pub(super) async fn is_wanted(&mut self) -> u64 {
        loop {
            match self.hear().await {
                Heard::Message(ToClient::Deliver { offset, .. }) => return offset,
                Heard::Message(ToClient::Train { .. } | ToClient::Recorded(_)) => {}
                other => panic!("{}: not asked to deliver but {other:?}", self.name),
            }
        }
    }

    /// Opens a stream with a header and some bytes, and leaves it open.
    pub(super) async fn begin(&self, header: &TransferHeader, bytes: &[u8]) -> SendStream {
        let mut stream = self.connection.open_uni().await.expect("a stream is free");
        let payload = codec::encode(header).expect("a header of ours");
        let frame = encode_frame(&payload).expect("it fits");
        // The server may stop it at any byte.
        if stream.write_all(&frame).await.is_ok() {
            let _ = stream.write_all(bytes).await;
        }
        stream
    }

    /// Sends a whole stream.
    pub(super) async fn send(&self, header: &TransferHeader, bytes: &[u8]) {
        let _ = self.begin(header, bytes).await.finish();
    }

    /// Offers and delivers an update as announced.
    pub(super) async fn deliver(&mut self, round: Round, bytes: &[u8], weight: u64) {
        let header = self.header(round, bytes);
        self.offer(header, weight).await;
        let offset = self.is_wanted().await;
        assert_eq!(offset, 0);
        self.send(&header, bytes).await;
    }
}

/// Breaks a stream off.
pub(super) fn reset(mut stream: SendStream) {
    let _ = stream.reset(VarInt::from_u32(0));
}

fn code(error: &ConnectionError) -> CloseCode {
    match error {
        ConnectionError::ApplicationClosed(close) => {
            let wire = u32::try_from(close.error_code.into_inner()).ok();
            let known = wire.and_then(CloseCode::from_wire);
            known.unwrap_or_else(|| panic!("closed with {close}"))
        }
        other => panic!("the connection ended otherwise: {other}"),
    }
}

/// A client that trusts everybody: whom it talks to is not what is tested.
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

fn endpoint(folder: &Path, name: &str) -> Endpoint {
    let read = |file: String| fs::read(folder.join(file)).expect("it was enrolled");
    let certificate = CertificateDer::from_pem_slice(&read(format!("{name}.crt")));
    let key = PrivateKeyDer::from_pem_slice(&read(format!("{name}.key")));
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = rustls::ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .expect("ring speaks TLS 1.3")
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Credulous))
        .with_client_auth_cert(
            vec![certificate.expect("a certificate")],
            key.expect("a key"),
        )
        .expect("they belong together");
    config.alpn_protocols = vec![ALPN.to_vec()];
    let crypto = QuicClientConfig::try_from(config).expect("TLS 1.3");
    let mut endpoint = Endpoint::client(from_elsewhere()).expect("a socket");
    endpoint.set_default_client_config(quinn::ClientConfig::new(Arc::new(crypto)));
    endpoint
}

/// An address of this machine that no other of them has: one alone may not have so many handshakes in progress.
fn from_elsewhere() -> SocketAddr {
    static TAKEN: AtomicU8 = AtomicU8::new(1);
    let host = TAKEN.fetch_add(1, Ordering::Relaxed);
    (Ipv4Addr::new(127, 0, 1, host), 0).into()
}
