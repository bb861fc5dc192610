//! A server with a good certificate and bad intentions: it stands between a participant and the real server with the keys
//! of both, passes on what each says, and changes what its trick has it change. To the participant it is the server; the
//! real one sees a participant whose connection breaks now and then.
//!
//! It moves messages and transfers; what is changed in them is `trick`'s.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::{Arc, Mutex};

use protocol::close::CloseCode;
use protocol::message::{ToClient, ToServer, TransferHeader};
use protocol::quic::{
    Closed, Connection, ControlReceiver, ControlSender, IncomingTransfer, Limits, Link, Listener,
    TlsFiles, TlsMaterial, connect, listen,
};
use tokio::runtime::Runtime;
use tokio::task::JoinSet;

use super::trick::{Forger, Reply, Trick};

/// One impostor in the place of the server, for one participant at a time.
pub(super) struct Impostor {
    pub(super) address: String,
    forger: Arc<Mutex<Forger>>,
    _runtime: Runtime,
}

impl Impostor {
    /// Stands before the server at `server` with the certificate of `hub`, for the participant `name`.
    pub(super) fn before(server: &str, folder: &Path, name: &str) -> Self {
        let runtime = Runtime::new().unwrap();
        let server: SocketAddr = server.parse().unwrap();
        let (ours, theirs) = (material(folder, "hub"), material(folder, name));
        let _guard = runtime.enter();
        let any = "127.0.0.1:0".parse().unwrap();
        let listener = listen(any, &ours, &Limits::default()).unwrap();
        let address = listener.local_address().to_string();
        let forger = Arc::new(Mutex::new(Forger::new()));
        runtime.spawn(serve(listener, (server, theirs), Arc::clone(&forger)));
        Self {
            address,
            forger,
            _runtime: runtime,
        }
    }

    /// From now on this is done.
    pub(super) fn play(&self, trick: Trick) {
        self.forger.lock().unwrap().play(trick);
    }
}

fn material(folder: &Path, name: &str) -> TlsMaterial {
    let files = TlsFiles {
        certificate: folder.join(format!("{name}.crt")),
        key: folder.join(format!("{name}.key")),
        authority: folder.join("authority/ca.crt"),
        revocations: Some(folder.join("authority/crl.pem")),
    };
    files.load().unwrap()
}

async fn serve(
    mut listener: Listener,
    (server, theirs): (SocketAddr, TlsMaterial),
    forger: Arc<Mutex<Forger>>,
) {
    while let Some(arrived) = listener.accept().await {
        let participant = arrived.expect("only the participant comes");
        let real = connect(server, &theirs, &Limits::default()).await;
        stand_between(participant, real.unwrap(), &forger).await;
    }
}

/// Passes on until either side has had enough.
async fn stand_between(participant: Link, real: Link, forger: &Arc<Mutex<Forger>>) {
    let (client, server) = (participant.connection.clone(), real.connection.clone());
    let mut pumps = JoinSet::new();
    pumps.spawn(say(real.receiver, participant.sender, Arc::clone(forger)));
    pumps.spawn(hear(
        (participant.receiver, client.clone()),
        real.sender,
        Arc::clone(forger),
    ));
    let changed = Arc::clone(forger);
    pumps.spawn(pass_on(
        server.clone(),
        client.clone(),
        move |header, bytes| changed.lock().unwrap().transfer(header, bytes),
    ));
    pumps.spawn(pass_on(client.clone(), server.clone(), |header, bytes| {
        (header, bytes)
    }));
    tokio::select! {
        // The real server is not told that its participant has had enough of us.
        _ = client.closed() => server.close(CloseCode::Internal),
        closed = server.closed() => client.close(match closed {
            Closed::ByPeer(code) => code,
            _ => CloseCode::Internal,
        }),
    }
    drop(pumps);
}

/// What the real server says, as the participant is to hear it.
async fn say(mut from: ControlReceiver, mut to: ControlSender, forger: Arc<Mutex<Forger>>) {
    while let Ok(Some(message)) = from.recv::<ToClient>().await {
        let message = forger.lock().unwrap().message(message);
        if to.send(&message).await.is_err() {
            return;
        }
    }
}

/// What the participant says, answered here or passed on.
async fn hear(
    (mut from, client): (ControlReceiver, Connection),
    mut to: ControlSender,
    forger: Arc<Mutex<Forger>>,
) {
    while let Ok(Some(message)) = from.recv::<ToServer>().await {
        let reply = forger.lock().unwrap().reply(message);
        let sent = match reply {
            Reply::PassOn(message) => to.send(&message).await.is_ok(),
            Reply::Nothing => true,
            Reply::Transfer(header, bytes) => {
                let sent = client.send_transfer(&header, bytes.into(), |_| {});
                sent.await.is_ok()
            }
        };
        if !sent {
            return;
        }
    }
}

/// Transfers of one side, as the other is to get them.
async fn pass_on(
    from: Connection,
    to: Connection,
    change: impl Fn(TransferHeader, Vec<u8>) -> (TransferHeader, Vec<u8>),
) {
    let mut sending = JoinSet::new();
    while let Ok(incoming) = from.accept_transfer().await {
        // One that is broken off is of no use to anybody.
        let Some((header, bytes)) = whole(incoming).await else {
            continue;
        };
        let (header, bytes) = change(header, bytes);
        let to = to.clone();
        sending.spawn(async move { to.send_transfer(&header, bytes.into(), |_| {}).await });
    }
    sending.shutdown().await;
}

/// The transfer's bytes; zeros in the place of those that the receiver has.
async fn whole(mut incoming: IncomingTransfer) -> Option<(TransferHeader, Vec<u8>)> {
    let header = *incoming.header();
    let mut bytes = vec![0; usize::try_from(header.offset).unwrap()];
    while let Some(pieces) = incoming.next().await.ok()? {
        for piece in pieces {
            bytes.extend_from_slice(&piece);
        }
    }
    Some((header, bytes))
}
