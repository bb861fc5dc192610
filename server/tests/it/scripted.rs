//! A participant that speaks the protocol by hand and trains nothing.

use std::net::SocketAddr;
use std::sync::Arc;

use aggregation::Adapter;
use bytes::Bytes;
use protocol::close::{CloseCode, RefusalReason};
use protocol::message::{
    Capabilities, Content, Metrics, PROTOCOL_VERSION, ToClient, ToServer, TransferHeader,
};
use protocol::plan::CheckedPlan;
use protocol::quic::{
    self, Authorities, Closed, HandshakeError, Limits, Link, ServerExaminer, TlsMaterial,
    TransferError,
};
use protocol::transcript::Excerpt;
use protocol::{ParticipantName, Round, Text};

use crate::scene::in_time;

pub(crate) struct Scripted {
    pub(crate) link: Link,
    pub(crate) name: ParticipantName,
    pub(crate) plan: Option<CheckedPlan>,
    /// What it has on record, and what it was told.
    pub(crate) recorded: Round,
    pub(crate) records: Vec<Excerpt>,
    authorities: Authorities,
    layout: Arc<aggregation::AdapterLayout>,
}

impl Scripted {
    pub(crate) async fn connect(
        tls: TlsMaterial,
        address: SocketAddr,
        like: &Adapter,
    ) -> Result<Self, HandshakeError> {
        Self::connect_within(&Limits::default(), tls, address, like).await
    }

    /// Connects with other limits than a client has by default.
    pub(crate) async fn connect_within(
        limits: &Limits,
        tls: TlsMaterial,
        address: SocketAddr,
        like: &Adapter,
    ) -> Result<Self, HandshakeError> {
        let link = in_time(quic::connect(address, &tls, limits)).await?;
        let name = tls.identity().name().parse().unwrap();
        Ok(Self {
            link,
            name,
            authorities: tls.authorities().clone(),
            recorded: Round(0),
            records: Vec::new(),
            plan: None,
            layout: Arc::clone(like.layout()),
        })
    }

    pub(crate) async fn say(&mut self, message: &ToServer) {
        in_time(self.link.sender.send(message)).await.unwrap();
    }

    /// Hears a message; records are put aside.
    pub(crate) async fn hear(&mut self) -> ToClient {
        loop {
            let heard = in_time(self.link.receiver.recv::<ToClient>()).await;
            match heard.unwrap().expect("the server says more") {
                ToClient::Recorded(excerpt) => self.records.push(*excerpt),
                message => return message,
            }
        }
    }

    /// Says hello and returns the plan, its signature checked.
    pub(crate) async fn greet(&mut self) -> CheckedPlan {
        let software = Text::new("scripted 1");
        let capabilities = Capabilities::NONE;
        self.say(&ToServer::Hello {
            version: PROTOCOL_VERSION,
            software,
            capabilities,
        })
        .await;
        let ToClient::Welcome { plan, .. } = self.hear().await else {
            panic!("no welcome");
        };
        let server = self.link.connection.peer().clone();
        let examiner = ServerExaminer::new(self.authorities.clone(), server);
        let plan = plan.open(&examiner).unwrap();
        self.plan = Some(plan.clone());
        plan
    }

    /// Joins the run.
    pub(crate) async fn agree(&mut self) {
        let plan = self.greet().await.digest();
        self.say(&ToServer::Ready {
            plan,
            holds: Vec::new(),
            begun: Vec::new(),
            recorded: self.recorded,
        })
        .await;
    }

    /// Waits for a request to train and the adapter to start from.
    pub(crate) async fn asked(&mut self) -> (Round, Adapter) {
        let ToClient::Train { global } = self.hear().await else {
            panic!("not asked to train");
        };
        let (header, bytes) = self.receive().await;
        assert_eq!(header, global);
        (
            global.round,
            Adapter::from_le_bytes(Arc::clone(&self.layout), &bytes).unwrap(),
        )
    }

    pub(crate) async fn receive(&mut self) -> (TransferHeader, Vec<u8>) {
        let incoming = in_time(self.link.connection.accept_transfer())
            .await
            .unwrap();
        let header = *incoming.header();
        let bytes = in_time(incoming.receive(1 << 20, |_| {})).await.unwrap();
        self.say(&ToServer::Received {
            transfer: header.id,
        })
        .await;
        (header, bytes)
    }

    pub(crate) fn header(&self, round: Round, bytes: &[u8]) -> TransferHeader {
        let plan = self.plan.as_ref().unwrap().digest();
        TransferHeader::update(&self.name, round, plan, Content::of(bytes))
    }

    pub(crate) async fn offer(&mut self, transfer: TransferHeader, weight: u64) {
        let metrics = Metrics {
            train_loss: Some(1.5),
        };
        self.say(&ToServer::Offer {
            transfer,
            weight,
            metrics,
        })
        .await;
    }

    pub(crate) async fn send(
        &self,
        header: &TransferHeader,
        bytes: &[u8],
    ) -> Result<(), TransferError> {
        let bytes = Bytes::copy_from_slice(bytes);
        in_time(self.link.connection.send_transfer(header, bytes, |_| {})).await
    }

    /// Offers and delivers these bytes.
    pub(crate) async fn deliver(&mut self, round: Round, bytes: &[u8], weight: u64) {
        let header = self.header(round, bytes);
        self.offer(header, weight).await;
        assert_eq!(
            self.hear().await,
            ToClient::Deliver {
                transfer: header.id,
                offset: 0
            }
        );
        self.send(&header, bytes).await.unwrap();
    }

    pub(crate) async fn is_accepted(&mut self, round: Round) {
        assert_eq!(self.hear().await, ToClient::Accepted { round });
    }

    pub(crate) async fn is_refused(&mut self, round: Round, reason: RefusalReason) {
        assert_eq!(self.hear().await, ToClient::Refused { round, reason });
    }

    /// Waits for the end of the run and the final adapter.
    pub(crate) async fn finished(mut self) -> Adapter {
        let ToClient::Finished { adapter, .. } = self.hear().await else {
            panic!("not finished");
        };
        let (header, bytes) = self.receive().await;
        assert_eq!(header, adapter);
        assert_eq!(
            in_time(self.link.connection.closed()).await,
            Closed::ByPeer(CloseCode::Finished)
        );
        Adapter::from_le_bytes(self.layout, &bytes).unwrap()
    }
}

/// An update with the same value everywhere.
pub(crate) fn constant(value: f32) -> Vec<u8> {
    let parameters = crate::scene::layout().parameters();
    (0..parameters).flat_map(|_| value.to_le_bytes()).collect()
}
