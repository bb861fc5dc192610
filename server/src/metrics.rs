//! What monitoring may know of a run: states and counts, served as text over plain HTTP. Off unless configured.
//!
//! Data flows one way: the events of [`crate::observer`] go to the log, to [`Metrics`], which counts them, and to
//! whoever started the run; the endpoint shows the counts, and beside them what the journal's commits took and what
//! connections cost, which no event tells. Nobody asks the run for anything but whether its loop still
//! goes round, and nothing that monitoring does has a say in the run. No value of an adapter, no weight and no loss is in
//! it.
//!
//! - `facts`, `phase`, `counts`: what is known, and what an event changes. `page`: what is shown.
//! - `exposition`: Prometheus's text format. `histogram`: durations in classes. `process`: what the system knows.
//! - `endpoint`: HTTP. `health`: whether the run goes on.

mod counts;
mod endpoint;
mod exposition;
mod facts;
mod health;
mod histogram;
mod page;
mod phase;
mod process;

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use tokio::sync::mpsc;
use tokio::task::JoinSet;

pub(crate) use self::endpoint::Endpoint;
pub(crate) use self::histogram::Histogram;

use self::counts::Counts;
use self::endpoint::Answers;
use self::facts::Facts;
use self::health::Health;
use crate::driver::Event;
use crate::journal::Journal;
use crate::network::Network;
use crate::observer::{Observer, RunEvent};
use crate::start::Prepared;

/// The counts of one run, fed by its events.
#[derive(Debug)]
struct Metrics(Mutex<Counts>);

impl Metrics {
    fn counts(&self) -> MutexGuard<'_, Counts> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The metrics of a run that has an endpoint for them.
#[derive(Debug)]
pub(crate) struct Monitoring {
    metrics: Arc<Metrics>,
    endpoint: Endpoint,
}

impl Monitoring {
    /// Begins to count; nothing has happened.
    pub(crate) fn new(endpoint: Endpoint, prepared: &Prepared) -> Self {
        let counts = Counts::new(Facts::of(prepared), Instant::now());
        Self {
            metrics: Arc::new(Metrics(Mutex::new(counts))),
            endpoint,
        }
    }

    /// Gives an observer that counts an event and passes it on.
    pub(crate) fn before(&self, next: Arc<dyn Observer>) -> Arc<dyn Observer> {
        let metrics = Arc::clone(&self.metrics);
        Arc::new(move |event: &RunEvent| {
            metrics.counts().take(event, Instant::now());
            next.observe(event);
        })
    }

    /// Answers until the result is dropped.
    pub(crate) fn serve(
        self,
        (journal, network): (Arc<Journal>, Arc<Network>),
        events: mpsc::Sender<Event>,
    ) -> JoinSet<()> {
        let Self { metrics, endpoint } = self;
        say_where(endpoint.address());
        let served = Served {
            metrics,
            journal,
            network,
            events,
        };
        let mut serving = JoinSet::new();
        serving.spawn(endpoint.serve(Arc::new(served)));
        serving
    }
}

fn say_where(address: SocketAddr) {
    tracing::info!(%address, "serving metrics");
    if !address.ip().is_loopback() {
        tracing::warn!(
            %address,
            "metrics.listen is not loopback: whoever reaches the port reads names of participants and counts, over plain \
             HTTP without authentication; let the firewall pass the monitoring host alone"
        );
    }
}

/// What the endpoint answers from.
struct Served {
    metrics: Arc<Metrics>,
    journal: Arc<Journal>,
    network: Arc<Network>,
    events: mpsc::Sender<Event>,
}

impl Answers for Served {
    fn metrics(&self) -> String {
        let (commits, costs) = (self.journal.commits(), self.network.costs());
        page::of(
            &self.metrics.counts(),
            (&commits, &costs),
            process::read(),
            Instant::now(),
        )
    }

    async fn health(&self) -> Health {
        let said = health::of(&self.metrics.counts());
        if !said.is_well {
            return said;
        }
        match health::ask(&self.events, health::ANSWER_LIMIT).await {
            // What had happened when we were asked is counted now.
            Ok(()) => health::of(&self.metrics.counts()),
            Err(stuck) => stuck,
        }
    }
}
