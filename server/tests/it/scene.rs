//! A federation, a start folder and a server for one test.

use std::future::Future;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use aggregation::peft::{self, Sidecar};
use aggregation::{Adapter, AdapterLayout, ModuleLayout};
use certs::throwaway::{Federation, Material};
use protocol::close::CloseCode;
use protocol::plan::{Participants, ValueEncoding};
use protocol::quic::{Closed, TlsMaterial};
use server::{Config, RoundRecord, RunEvent, RunOutcome, Server, ServerError};
use tempfile::TempDir;
use tokio::sync::{oneshot, watch};
use tokio::task::JoinHandle;

use crate::scripted::{Scripted, constant};

/// No test takes this long; one that hangs ends with a sentence.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

pub(crate) const BASE: [u8; 32] = [7; 32];

pub(crate) struct Scene {
    pub(crate) federation: Federation,
    pub(crate) folder: TempDir,
    pub(crate) config: Config,
    pub(crate) start: Adapter,
}

impl Scene {
    /// A run named `trial` over these participants, in which all must deliver.
    pub(crate) fn new(names: &[&str]) -> Self {
        let federation = Federation::create("trial-federation", names).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let start = write_start(&folder.path().join("start"));
        let run = "trial".parse().unwrap();
        let mut config = Config::new(
            material(federation.server()),
            run,
            folder.path().join("start"),
        );
        config.run.out = folder.path().join("runs");
        config.run.rounds = 1;
        config.run.transfer = ValueEncoding::F32;
        config.cohort.participants =
            Participants::Named(names.iter().map(|name| name.parse().unwrap()).collect());
        config.cohort.quorum = u32::try_from(names.len()).unwrap();
        Self {
            federation,
            folder,
            config,
            start,
        }
    }

    pub(crate) fn serve(&self) -> Running {
        Running::start(self.config.clone())
    }

    /// Serves a first round whose adapter's folder cannot be written, after both have delivered every value as given; `meanwhile` looks
    /// at what is left before the obstacle is taken away.
    pub(crate) async fn lose_first_folder(&self, values: [f32; 2], meanwhile: impl FnOnce()) {
        let running = self.serve();
        let mut north = self.join("north", &running).await;
        let mut south = self.join("south", &running).await;
        let (round, _) = north.asked().await;
        south.asked().await;
        let folder = self.config.run.folder().join("round-0001");
        std::fs::write(&folder, b"no folder").unwrap();
        north.deliver(round, &constant(values[0]), 1).await;
        south.deliver(round, &constant(values[1]), 1).await;
        let how = in_time(south.link.connection.closed()).await;
        assert_eq!(how, Closed::ByPeer(CloseCode::ServerStopping));
        let error = running.outcome().await.unwrap_err();
        assert!(matches!(error, ServerError::Write { .. }), "{error}");
        assert!(error.to_string().contains("round-0001"), "{error}");
        meanwhile();
        std::fs::remove_file(&folder).unwrap();
    }

    pub(crate) fn tls(&self, name: &str) -> TlsMaterial {
        material(self.federation.participant(name).unwrap())
    }

    pub(crate) async fn join(&self, name: &str, running: &Running) -> Scripted {
        let mut scripted = Scripted::connect(self.tls(name), running.address, &self.start)
            .await
            .unwrap();
        scripted.agree().await;
        scripted
    }

    pub(crate) fn records(&self) -> Vec<RoundRecord> {
        let lines = std::fs::read_to_string(self.config.run.folder().join("rounds.jsonl")).unwrap();
        lines
            .lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect()
    }

    pub(crate) fn saved(&self, name: &str) -> Adapter {
        let folder = self.config.run.folder().join(name);
        let read = |file: &str| std::fs::read(folder.join(file)).unwrap();
        let sidecar = Sidecar::from_json(&read("foedus.json")).unwrap();
        assert_eq!(sidecar.base_fingerprint, BASE);
        peft::load(
            &read("adapter_config.json"),
            &read("adapter_model.safetensors"),
        )
        .unwrap()
        .0
    }
}

pub(crate) fn material(of: &Material) -> TlsMaterial {
    TlsMaterial::from_pem(
        &of.certificate,
        &of.key,
        &of.authority,
        Some(&of.revocations),
    )
    .unwrap()
}

pub(crate) fn layout() -> Arc<AdapterLayout> {
    let module = |projection: &str, out_features| ModuleLayout {
        name: format!("model.layers.0.self_attn.{projection}"),
        in_features: 6,
        out_features,
    };
    let modules = vec![module("q_proj", 4), module("v_proj", 3)];
    Arc::new(AdapterLayout::new(2, 4.0, false, modules).unwrap())
}

fn write_start(folder: &Path) -> Adapter {
    let start = Adapter::initial(layout(), 11);
    let files = peft::save(&start, "tiny-llama", 0.1);
    let sidecar = Sidecar {
        base_fingerprint: BASE,
        base_name: "tiny-llama".to_owned(),
    };
    std::fs::create_dir(folder).unwrap();
    std::fs::write(folder.join("adapter_config.json"), files.config_json).unwrap();
    std::fs::write(folder.join("adapter_model.safetensors"), files.safetensors).unwrap();
    std::fs::write(folder.join("foedus.json"), sidecar.to_json()).unwrap();
    start
}

/// A server that serves in the background.
pub(crate) struct Running {
    pub(crate) address: SocketAddr,
    /// Where its metrics are, if it has any.
    pub(crate) metrics: Option<SocketAddr>,
    seen: watch::Receiver<Vec<String>>,
    stop: Option<oneshot::Sender<()>>,
    task: JoinHandle<Result<RunOutcome, ServerError>>,
}

impl Running {
    fn start(config: Config) -> Self {
        let server = Server::bind(config).unwrap();
        let (address, metrics) = (server.address(), server.metrics_address());
        let (log, seen) = watch::channel(Vec::new());
        let log = Mutex::new(log);
        let observer = move |event: &RunEvent| {
            log.lock()
                .unwrap()
                .send_modify(|events| events.push(format!("{event:?}")));
        };
        let (stop, stopped) = oneshot::channel::<()>();
        let shutdown = async move {
            // A dropped switch is no request.
            if stopped.await.is_err() {
                std::future::pending::<()>().await;
            }
        };
        let task = tokio::spawn(server.run(Arc::new(observer), shutdown));
        Self {
            address,
            metrics,
            seen,
            stop: Some(stop),
            task,
        }
    }

    pub(crate) fn stop(&mut self) {
        self.stop.take().unwrap().send(()).unwrap();
    }

    /// Waits until an event's debug form holds all of these texts.
    pub(crate) async fn saw(&mut self, texts: &[&str]) {
        let holds = |events: &Vec<String>| {
            events
                .iter()
                .any(|event| texts.iter().all(|text| event.contains(text)))
        };
        let found = in_time(self.seen.wait_for(holds)).await.is_ok();
        assert!(
            found,
            "no event with {texts:?} in {:#?}",
            *self.seen.borrow()
        );
    }

    pub(crate) async fn outcome(self) -> Result<RunOutcome, ServerError> {
        in_time(self.task).await.unwrap()
    }
}

pub(crate) async fn in_time<T>(work: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, work)
        .await
        .expect("the test hangs")
}
