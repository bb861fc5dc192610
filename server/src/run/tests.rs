use std::path::Path;
use std::time::Duration;

use aggregation::peft::{self, Sidecar};
use aggregation::{AdapterLayout, ModuleLayout};
use certs::throwaway::{Federation, Material};
use protocol::ConnectionId;
use protocol::close::RunFailure;
use protocol::coordinator::Entry;
use protocol::message::{Capabilities, PROTOCOL_VERSION, ToServer};
use protocol::plan::Participants;
use protocol::quic::TlsMaterial;

use super::*;

fn material(of: &Material) -> TlsMaterial {
    let list = Some(of.revocations.as_str());
    TlsMaterial::from_pem(&of.certificate, &of.key, &of.authority, list).unwrap()
}

/// A run that `north` alone takes part in.
fn config(folder: &Path) -> Config {
    let modules = vec![ModuleLayout {
        name: "model.layers.0.self_attn.q_proj".to_owned(),
        in_features: 6,
        out_features: 4,
    }];
    let layout = Arc::new(AdapterLayout::new(2, 4.0, false, modules).unwrap());
    let files = peft::save(&aggregation::Adapter::initial(layout, 11), "tiny", 0.1);
    let sidecar = Sidecar {
        base_fingerprint: [7; 32],
        base_name: "tiny".to_owned(),
    };
    let start = folder.join("start");
    std::fs::create_dir(&start).unwrap();
    std::fs::write(start.join("adapter_config.json"), files.config_json).unwrap();
    std::fs::write(start.join("adapter_model.safetensors"), files.safetensors).unwrap();
    std::fs::write(start.join("foedus.json"), sidecar.to_json()).unwrap();
    let federation = Federation::create("trial-federation", &["north"]).unwrap();
    let tls = material(federation.server());
    let mut config = Config::new(tls, "trial".parse().unwrap(), start);
    config.run.out = folder.join("runs");
    config.cohort.participants = Participants::Named(vec!["north".parse().unwrap()]);
    config.cohort.quorum = 1;
    config
}

/// North joins.
fn join(coordinator: &mut Coordinator, plan: Digest) {
    let (connection, now) = (ConnectionId(1), Instant::now());
    coordinator.handle_connected(connection, "north".parse().unwrap(), now);
    let hello = ToServer::Hello {
        version: PROTOCOL_VERSION,
        software: Text::new("test 1"),
        capabilities: Capabilities::NONE,
    };
    coordinator.handle_message(connection, hello, now);
    let ready = ToServer::Ready {
        plan,
        holds: Vec::new(),
        begun: Vec::new(),
        recorded: protocol::Round(0),
    };
    coordinator.handle_message(connection, ready, now);
}

#[tokio::test]
async fn a_run_whose_end_cannot_be_written_down_ends_all_the_same() {
    let folder = tempfile::tempdir().unwrap();
    let Server {
        mut prepared,
        listener,
        ..
    } = Server::bind(config(folder.path())).unwrap();
    let recovered = Recovered::open(&mut prepared).unwrap();
    let global = recovered.released.clone();
    let mut coordinator = coordinator(&prepared, &recovered, &Bytes::new()).unwrap();
    // Who joined is to be written down with the run's end.
    join(&mut coordinator, prepared.plan.digest());
    coordinator.stop();
    recovered.disk.journal.spoil();
    let (events, incoming) = mpsc::channel(EVENTS_MAX);
    let (jobs, _queue) = mpsc::unbounded_channel();
    let parts = Parts {
        coordinator,
        tls: prepared.tls.clone(),
        listener,
        events: incoming,
        shared: shared(&prepared, Arc::clone(&recovered.disk.spool), events),
        jobs,
        journal: Arc::clone(&recovered.disk.journal),
        network: Arc::new(Network::new(&prepared.plan.cohort.participants)),
        records: Vec::new(),
        traffic: recovered.traffic(),
        global,
        anchor: Bytes::new(),
        narrator: Narrator {
            run: prepared.plan.run.clone(),
            observer: Arc::new(|_: &RunEvent| {}),
        },
    };
    let driven = driver::drive(parts, std::future::pending());
    let ended = tokio::time::timeout(Duration::from_secs(20), driven);
    let ended = ended.await.expect("the run goes on for ever");
    assert!(matches!(ended.broken, Some(ServerError::Journal(_))));
    assert!(matches!(
        ended.outcome,
        Outcome::Failed {
            reason: RunFailure::Stopped,
            ..
        }
    ));
}

/// Not exit code 75, at which a supervisor would start it for ever, and its participants come for ever.
#[tokio::test]
async fn a_run_that_can_only_end_again_says_so_and_does_not_ask_to_be_tried_again() {
    let folder = tempfile::tempdir().unwrap();
    let config = config(folder.path());
    let mut prepared = Prepared::load(config.clone()).unwrap();
    let recovered = Recovered::open(&mut prepared).unwrap();
    let round = protocol::Round(1);
    let entries = [
        Entry::Opened { round },
        Entry::SumUnopened { round, times: 2 },
    ];
    recovered.disk.journal.record(&entries).unwrap();
    drop(recovered);
    let observer: Arc<dyn Observer> = Arc::new(|_: &RunEvent| {});
    let served = run(config, observer, std::future::pending());
    let ended = tokio::time::timeout(Duration::from_secs(20), served).await;
    let error = ended.expect("the run goes on for ever").unwrap_err();
    assert_eq!(error.exit_code(), 1, "{error}");
    let said = error.to_string();
    for expected in ["gave no sum of updates", "choose another run.name"] {
        assert!(said.contains(expected), "{said}");
    }
}
