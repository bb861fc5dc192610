//! One server: bound to a socket, then run to the end of its one run.
//!
//! Needs a tokio runtime around it and nothing else: no global state, so that tests and the simulator can have several
//! servers in one process.

use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Instant, SystemTime};

use bytes::Bytes;
use protocol::coordinator::{Coordinator, History, Outcome, Setup};
use protocol::message::Content;
use protocol::plan::{CheckedPlan, LatePolicy};
use protocol::quic::{self, Limits, Listener};
use protocol::{Digest, Text};
use tokio::sync::{Semaphore, mpsc};
use tokio::task::{JoinHandle, JoinSet};

use crate::config::{Config, IdentitySource};
use crate::driver::{self, Ended, Event, Parts};
use crate::error::ServerError;
use crate::fold::{Folder, Job};
use crate::identity;
use crate::metrics::{Endpoint, Monitoring};
use crate::narrate::Narrator;
use crate::network::Network;
use crate::observer::{Observer, RunEvent, RunOutcome};
use crate::record::FINAL_FOLDER;
use crate::recovery::Recovered;
use crate::session::{NARROW_BYTES, Shared};
use crate::spool::Spool;
use crate::start::Prepared;

/// Events that may wait for the driver; beyond them, sessions wait and the network with them.
const EVENTS_MAX: usize = 256;
/// Connections beyond the run's participants: those that reconnect, and strangers about to be turned away.
const SPARE_CONNECTIONS: usize = 64;

/// A server that listens and has not begun to serve.
#[derive(Debug)]
pub struct Server {
    prepared: Prepared,
    listener: Listener,
    /// For monitoring, if there is any.
    endpoint: Option<Endpoint>,
}

/// Binds and runs a server; the run ends with its last round, on `shutdown`, or when it cannot go on.
///
/// The address is reported by [`RunEvent::Listening`]. With `shutdown` participants are told, what is complete is on
/// disk, and the result is [`ServerError::Unfinished`].
///
/// # Errors
/// [`ServerError`]; [`ServerError::exit_code`] says what a program makes of it.
pub async fn run(
    config: Config,
    observer: Arc<dyn Observer>,
    shutdown: impl Future<Output = ()> + Send,
) -> Result<RunOutcome, ServerError> {
    Server::bind(config)?.run(observer, shutdown).await
}

impl Server {
    /// Loads and checks everything, and opens the socket. Needs a tokio runtime around it.
    ///
    /// # Errors
    /// [`ServerError`] says which file, key or address is wrong.
    pub fn bind(config: Config) -> Result<Self, ServerError> {
        Self::listen(Prepared::load(config)?)
    }

    /// Opens the sockets for a run that is prepared. Needs a tokio runtime around it.
    ///
    /// # Errors
    /// [`ServerError::Listen`], [`ServerError::Metrics`].
    pub fn listen(prepared: Prepared) -> Result<Self, ServerError> {
        let participants =
            usize::try_from(prepared.plan.limits.participants_max).unwrap_or(usize::MAX);
        let limits = Limits {
            connections: participants.saturating_add(SPARE_CONNECTIONS),
            connection_window_bytes: NARROW_BYTES,
            ..prepared.config.transport
        };
        let listener = quic::listen(prepared.config.listen, &prepared.tls, &limits)?;
        let endpoint = prepared.config.metrics_listen.map(Endpoint::bind);
        Ok(Self {
            endpoint: endpoint.transpose()?,
            prepared,
            listener,
        })
    }

    /// Gives the address listened on, with the real port.
    pub fn address(&self) -> SocketAddr {
        self.listener.local_address()
    }

    /// Gives the address at which metrics are served, with the real port, if they are.
    pub fn metrics_address(&self) -> Option<SocketAddr> {
        self.endpoint.as_ref().map(Endpoint::address)
    }

    /// Gives the checked run plan.
    pub fn plan(&self) -> &CheckedPlan {
        &self.prepared.plan
    }

    /// Serves the run to its end; see [`run`].
    ///
    /// # Errors
    /// [`ServerError`].
    pub async fn run(
        self,
        observer: Arc<dyn Observer>,
        shutdown: impl Future<Output = ()> + Send,
    ) -> Result<RunOutcome, ServerError> {
        let Self {
            mut prepared,
            listener,
            endpoint,
        } = self;
        let started = Instant::now();
        let monitoring = endpoint.map(|endpoint| Monitoring::new(endpoint, &prepared));
        let narrator = Narrator {
            run: prepared.plan.run.clone(),
            observer: match &monitoring {
                Some(monitoring) => monitoring.before(observer),
                None => observer,
            },
        };
        identity::warn_of_dates(&prepared.tls, SystemTime::now());
        warn_of_noise(&prepared);
        let (events, incoming) = mpsc::channel(EVENTS_MAX);
        let recovered = Recovered::open(&mut prepared)?;
        let global = recovered.released.clone();
        let travelling = global.release.adapter;
        let anchor = prepared
            .anchor
            .as_ref()
            .map_or_else(Bytes::new, |anchor| anchor.bytes.clone());
        let coordinator = coordinator(&prepared, &recovered, &anchor)?;
        let was_over = coordinator.is_over();
        tell_of_start(&narrator, listener.local_address(), &prepared, &recovered);
        let (journal, traffic) = (Arc::clone(&recovered.disk.journal), recovered.traffic());
        let records = recovered.records.clone();
        let spool = Arc::clone(&recovered.disk.spool);
        let work = Work::start(&prepared, recovered, travelling, events.clone())?;
        let network = Arc::new(Network::new(&prepared.plan.cohort.participants));
        let beside_events = (Arc::clone(&journal), Arc::clone(&network));
        // Both end with this function.
        let _serving = monitoring.map(|monitoring| monitoring.serve(beside_events, events.clone()));
        let _watching = watch_identity(&prepared, events.clone());
        let shared = shared(&prepared, spool, events);
        let parts = Parts {
            coordinator,
            tls: prepared.tls.clone(),
            listener,
            events: incoming,
            shared,
            jobs: work.jobs.clone(),
            journal,
            network,
            records,
            traffic,
            global,
            anchor,
            narrator: Narrator {
                run: narrator.run.clone(),
                observer: Arc::clone(&narrator.observer),
            },
        };
        let ended = driver::drive(parts, shutdown).await;
        let folder = work.finish().await?;
        let result = conclude(&prepared, ended, folder, &narrator, started);
        result.map_err(|error| error.after_no_work(was_over))
    }
}

/// Tells where the server listens, and from where the run goes on.
fn tell_of_start(
    narrator: &Narrator,
    address: SocketAddr,
    prepared: &Prepared,
    recovered: &Recovered,
) {
    let (run, plan, rounds) = (
        narrator.run.clone(),
        prepared.plan.digest(),
        prepared.plan.rounds,
    );
    narrator.tell(&RunEvent::Listening {
        address,
        run,
        plan,
        rounds,
    });
    if recovered.history != History::default() {
        narrator.tell(&RunEvent::Resumed {
            round: recovered.history.round(),
            is_open: recovered.history.open.is_some(),
            accepted: recovered.accepted.len(),
        });
    }
}

/// The folding thread.
struct Work {
    jobs: mpsc::UnboundedSender<Job>,
    thread: JoinHandle<Folder>,
}

impl Work {
    fn start(
        prepared: &Prepared,
        recovered: Recovered,
        global: Content,
        events: mpsc::Sender<Event>,
    ) -> Result<Self, ServerError> {
        let sum = recovered.sum(prepared)?;
        let summing = recovered.summing(prepared);
        let folder = Folder {
            travelling: global.sha256,
            chain: recovered.chain,
            summing,
            participant_privacy: recovered.participant_privacy,
            adapters: prepared.adapter_encoding(),
            by_deltas: prepared.sends_deltas(),
            is_masked: prepared.plan.secure_aggregation.is_some(),
            global: recovered.global,
            merger: prepared.merger(),
            disk: recovered.disk,
            rounds: prepared.plan.rounds,
            unsettled: None,
            keeps_beginnings: prepared.plan.cohort.late != LatePolicy::Refuse,
        };
        let (jobs, queue) = mpsc::unbounded_channel();
        let thread = tokio::task::spawn_blocking(move || folder.work(sum, queue, &events));
        Ok(Self { jobs, thread })
    }

    /// Lets the thread finish what it is at.
    async fn finish(self) -> Result<Folder, ServerError> {
        drop(self.jobs);
        self.thread.await.map_err(|error| ServerError::Internal {
            what: format!("the folding thread ended: {error}"),
        })
    }
}

/// What the sessions of this run share.
fn shared(prepared: &Prepared, spool: Arc<Spool>, events: mpsc::Sender<Event>) -> Shared {
    let config = &prepared.config;
    let window = config.transport.stream_window_bytes as usize;
    let room = window.saturating_mul(config.uploads_at_once.max(1) as usize);
    Shared {
        events,
        room: Arc::new(Semaphore::new(room.min(Semaphore::MAX_PERMITS))),
        spool,
        update_bytes: prepared.plan.update_bytes(),
        window_bytes: config.transport.stream_window_bytes,
        bytes_per_second_min: config.upload_per_second_min,
        stall_limit: prepared.plan.cohort.stall_limit,
    }
}

/// Looks after the files of our identity for as long as the result lives.
fn watch_identity(prepared: &Prepared, events: mpsc::Sender<Event>) -> JoinSet<()> {
    let mut watching = JoinSet::new();
    if let IdentitySource::Files(files) = &prepared.config.identity {
        let tls = prepared.tls.clone();
        watching.spawn(identity::watch(files.clone(), tls, events));
    }
    watching
}

fn warn_of_noise(prepared: &Prepared) {
    if prepared.plan.multiplies_noise() {
        tracing::warn!(
            "noise for privacy is on both factors of the adapter and multiplies in their product; more participants or records, fewer \
             modules and a lower rank leave more of what was learned (docs/privacy.md)"
        );
    }
}

fn coordinator(
    prepared: &Prepared,
    recovered: &Recovered,
    anchor: &Bytes,
) -> Result<Coordinator, ServerError> {
    let setup = Setup {
        plan: prepared.plan.clone(),
        signed: prepared.signed.clone(),
        release: recovered.released.release,
        anchor: prepared.anchor.is_some().then(|| Content::of(anchor)),
        transcript: recovered.transcript.clone(),
        software: Text::new(concat!("foedus-server ", env!("CARGO_PKG_VERSION"))),
        allowance: prepared.config.allowance,
    };
    let history = recovered.history.clone();
    let resumed = Coordinator::resume(setup, history, Instant::now());
    let coordinator = resumed.map_err(|error| ServerError::Internal {
        what: error.to_string(),
    })?;
    let mut coordinator = coordinator.with_signatures(quic::verify_signature);
    for (name, (transfer, bytes)) in &recovered.parts {
        coordinator.update_found(name, *transfer, *bytes);
    }
    Ok(coordinator)
}

fn conclude(
    prepared: &Prepared,
    ended: Ended,
    folder: Folder,
    narrator: &Narrator,
    started: Instant,
) -> Result<RunOutcome, ServerError> {
    let Ended {
        outcome,
        records,
        traffic,
        broken,
    } = ended;
    if let Some(error) = broken {
        return Err(error);
    }
    match outcome {
        Outcome::Failed { reason, detail } => Err(ServerError::Unfinished {
            reason,
            detail: detail.to_string(),
            rounds_done: u32::try_from(records.len()).unwrap_or(u32::MAX),
            rounds: prepared.plan.rounds,
        }),
        Outcome::Finished { rounds, .. } => {
            folder.disk.files.finish()?;
            folder.disk.journal.finish()?;
            let adapter_sha256 = Digest(folder.global.sha256());
            narrator.tell(&RunEvent::Finished {
                rounds,
                adapter: adapter_sha256,
            });
            Ok(RunOutcome {
                run: narrator.run.clone(),
                plan: prepared.plan.digest(),
                records,
                adapter: Arc::unwrap_or_clone(folder.global),
                adapter_sha256,
                adapter_folder: prepared.config.run.folder().join(FINAL_FOLDER),
                bytes_up: traffic.up,
                bytes_down: traffic.down,
                seconds: started.elapsed().as_secs_f64(),
            })
        }
    }
}

#[cfg(test)]
mod tests;
