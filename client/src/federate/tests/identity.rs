//! Certificates and lists that are replaced while a participant takes part.

use std::{
    path::PathBuf,
    sync::mpsc::{Receiver, channel},
};

use jiff::Timestamp;
use protocol::{
    identity::Role,
    quic::{HandshakeError, Rejection, TlsFiles},
};
use server::{IdentitySource, RunEvent};

use super::{untrained::Untrained, *};

const WEEK: Duration = Duration::from_secs(7 * 24 * 3600);

/// Where one party keeps its files.
struct Party {
    folder: PathBuf,
    files: TlsFiles,
}

impl Party {
    /// Writes the files of `name` into a folder of its own.
    fn create(world: &World, name: &str) -> Self {
        let folder = world.folder.path().join(format!("of-{name}"));
        world.certificates.write(&folder).unwrap();
        let files = TlsFiles {
            certificate: folder.join(format!("{name}.crt")),
            key: folder.join(format!("{name}.key")),
            authority: folder.join("ca.crt"),
            revocations: Some(folder.join("crl.pem")),
        };
        Self { folder, files }
    }

    fn put(&self, new: &Material) {
        std::fs::write(&self.files.key, new.key.as_str()).unwrap();
        std::fs::write(&self.files.certificate, &new.certificate).unwrap();
    }

    fn list(&self) -> PathBuf {
        self.folder.join("crl.pem")
    }

    fn settings(&self, address: &str) -> Settings {
        let mut settings = Settings::new(address, self.files.load().unwrap());
        settings.tls_files = Some(self.files.clone());
        settings.patience.first_pause = Duration::from_millis(10);
        settings
    }
}

/// Revokes a party, and gives it another certificate; the list that comes with it names the old one only.
fn renewed(world: &mut World, role: Role, name: &str) -> Material {
    world.certificates.revoke(name).unwrap();
    let now = Timestamp::now() - Duration::from_secs(60);
    world.certificates.issue(role, name, now, WEEK).unwrap()
}

/// One participant, and a server that looks after its files, of which one party is to be renewed.
struct Renewal {
    north: Party,
    hub: Party,
    new: Material,
    server: Server,
    settings: Settings,
    _folder: TempDir,
}

impl Renewal {
    fn of(role: Role, name: &str) -> Self {
        let mut world = World::new();
        world.participants = 1;
        let north = Party::create(&world, "north");
        let hub = Party::create(&world, "server");
        let mut config = world.server();
        config.identity = IdentitySource::Files(hub.files.clone());
        let new = renewed(&mut world, role, name);
        let server = Server::bind(config).unwrap();
        let settings = north.settings(&server.address().to_string());
        Self {
            north,
            hub,
            new,
            server,
            settings,
            _folder: world.folder,
        }
    }
}

/// A site whose first training begins with `first` and lasts until it may go on.
fn site(first: impl Fn() + Send + Sync + 'static, go_on: Receiver<()>) -> Arc<Untrained> {
    let go_on = Mutex::new(Some(go_on));
    Arc::new(Untrained {
        layout: Arc::clone(start_adapter().layout()),
        weight: 1,
        change: Arc::new(move |values| {
            values[0] += 1e-3;
            if let Some(go_on) = go_on.lock().unwrap().take() {
                first();
                go_on.recv_timeout(PATIENCE).unwrap();
            }
        }),
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_is_revoked_in_mid_round_is_cut_off_and_named() {
    let mut world = World::new();
    world.participants = 1;
    let north = Party::create(&world, "north");
    let new_list = world.certificates.revoke("server").unwrap();
    let server = Server::bind(world.server()).unwrap();
    let settings = north.settings(&server.address().to_string());
    let (ends, mut ended) = unbounded_channel();
    let heard = move |event: &RunEvent| {
        if let RunEvent::Disconnected { how, .. } = event {
            let _ = ends.send(how.clone());
        }
    };
    let serving = tokio::spawn(server.run(Arc::new(heard), std::future::pending()));

    let (reloaded, go_on) = channel();
    let list = north.list();
    let site = site(move || std::fs::write(&list, &new_list).unwrap(), go_on);
    let observer = move |event: &Event| {
        if matches!(event, Event::IdentityReloaded { .. }) {
            let _ = reloaded.send(());
        }
    };
    let (turn, observer) = (DeviceTurn::new(), Arc::new(observer));
    let error = participate(settings, site, turn, observer, Shutdown::never())
        .await
        .unwrap_err();
    let ClientError::Handshake(HandshakeError::Refused(peer)) = &error else {
        panic!("{error}")
    };
    assert_eq!(peer.reason, Rejection::Revoked);
    assert!(error.to_string().contains("/server/server"), "{error}");
    let how = tokio::time::timeout(PATIENCE, ended.recv()).await;
    let how = how.unwrap().unwrap();
    assert!(how.contains("the certificate is revoked"), "{how}");
    serving.abort();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_whose_old_certificate_is_revoked_is_met_again_with_its_renewed_one() {
    let Renewal {
        north,
        hub,
        new,
        server,
        settings,
        _folder,
    } = Renewal::of(Role::Server, "server");
    let (list, revocations) = (north.list(), new.revocations.clone());
    let heard = move |event: &RunEvent| {
        if matches!(event, RunEvent::IdentityReloaded { .. }) {
            std::fs::write(&list, &revocations).unwrap();
        }
    };
    let serving = tokio::spawn(server.run(Arc::new(heard), std::future::pending()));

    let (cut_off, go_on) = channel();
    let site = site(move || hub.put(&new), go_on);
    let observer = move |event: &Event| {
        if matches!(event, Event::Disconnected { reason } if reason.contains("revoked")) {
            let _ = cut_off.send(());
        }
    };
    let (turn, observer) = (DeviceTurn::new(), Arc::new(observer));
    let outcome = participate(settings, site, turn, observer, Shutdown::never()).await;
    let served = serving.await.unwrap().unwrap();
    assert_eq!(outcome.unwrap().adapter, served.adapter);
    assert_eq!(served.records.len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_participant_whose_old_certificate_is_revoked_goes_on_with_its_renewed_one() {
    let Renewal {
        north,
        hub,
        new,
        server,
        settings,
        _folder,
    } = Renewal::of(Role::Participant, "north");
    let unheard = Arc::new(|_: &RunEvent| {});
    let serving = tokio::spawn(server.run(unheard, std::future::pending()));

    let (cut_off, go_on) = channel();
    let (list, revocations) = (hub.list(), new.revocations.clone());
    let site = site(move || north.put(&new), go_on);
    let observer = move |event: &Event| match event {
        Event::IdentityReloaded { .. } => std::fs::write(&list, &revocations).unwrap(),
        Event::Disconnected { reason } if reason.contains("revoked") => {
            let _ = cut_off.send(());
        }
        _ => {}
    };
    let (turn, observer) = (DeviceTurn::new(), Arc::new(observer));
    let outcome = participate(settings, site, turn, observer, Shutdown::never()).await;
    let outcome = outcome.unwrap();
    let served = serving.await.unwrap().unwrap();
    assert_eq!(outcome.adapter, served.adapter);
    assert_eq!(served.records.len(), 2);
}
