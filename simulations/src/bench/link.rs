//! One participant behind a bad link: what its transfers cost in bytes and in time.
//!
//! The real server and the real client in this process, over a [`Relay`] that is slow, loses datagrams, goes dark and changes
//! the participant's address while bytes are moved. Outages begin when so much has been carried, so that they come in the
//! middle of transfers on any machine.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use certs::throwaway::Federation;
use client::{Event, Settings};
use protocol::quic::{Congestion, Limits};
use serde::Serialize;
use server::{RunEvent, Server};

use super::exchange::tls;
use super::parties;
use super::relay::{Relay, Traffic, Weather};
use super::scenario::Scenario;

/// How often the link's troubles look how far the transfers are.
const LOOK: Duration = Duration::from_millis(5);

/// A link and its troubles.
#[derive(Clone, Copy, Debug, PartialEq, clap::Args, Serialize)]
pub struct Hardship {
    /// Rate in each direction, in 10^6 bits a second.
    #[arg(long, default_value_t = 10.0)]
    pub megabits: f64,
    /// Round-trip time, in milliseconds.
    #[arg(long, default_value_t = 200)]
    pub round_trip_ms: u64,
    /// Length of the queue at the bottleneck, in milliseconds at the rate.
    #[arg(long, default_value_t = 250)]
    pub queue_ms: u64,
    /// Share of datagrams that are lost.
    #[arg(long, default_value_t = 0.01)]
    pub loss: f64,
    /// How often the link goes dark.
    #[arg(long, default_value_t = 3)]
    pub outages: u32,
    /// How long it stays dark each time, in seconds.
    #[arg(long, default_value_t = 20.0)]
    pub outage_seconds: f64,
    /// How often the participant's address changes, each time between two outages.
    #[arg(long, default_value_t = 1)]
    pub address_changes: u32,
    /// Silence after which a connection counts as lost, in seconds.
    #[arg(long, default_value_t = 30.0)]
    pub idle_seconds: f64,
    /// How senders find out how much the path can carry.
    #[arg(long, value_enum, default_value_t)]
    pub congestion: CongestionControl,
    /// Seed that decides which datagrams are lost.
    #[arg(long, default_value_t = 7)]
    pub link_seed: u64,
}

/// [`Congestion`], as an argument.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, clap::ValueEnum, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum CongestionControl {
    /// RFC 9438.
    #[default]
    Cubic,
    /// RFC 9002, section 7.
    NewReno,
    /// Cardwell et al. 2017.
    Bbr,
}

/// What the transfers cost.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct LinkFigures {
    /// What was exchanged.
    #[serde(flatten)]
    pub scenario: Scenario,
    /// Over which link.
    #[serde(flatten)]
    pub hardship: Hardship,
    /// From the first datagram to the final adapter, in seconds.
    pub seconds: f64,
    /// The bytes that had to be moved: adapters and updates.
    pub content_bytes: u64,
    /// The bytes of them that were moved, interrupted transfers included.
    pub bulk_bytes: u64,
    /// What both ends gave to the link: with headers, acknowledgements and what was lost.
    pub datagram_bytes: Traffic,
    /// Connections that the participant made.
    pub connections: u32,
    /// Relative L2 error of the final adapter against the closed form.
    pub relative_error: f64,
    /// Whether that is as small as the transfer's form allows.
    pub correct: bool,
}

impl LinkFigures {
    /// What was moved beyond the contents, as a share of them.
    pub fn extra_bulk(&self) -> f64 {
        self.bulk_bytes as f64 / self.content_bytes as f64 - 1.0
    }

    /// What both ends gave to the link beyond the contents, as a share of them.
    pub fn extra_datagrams(&self) -> f64 {
        self.datagram_bytes.total() as f64 / self.content_bytes as f64 - 1.0
    }

    /// The figures as a small table.
    #[must_use]
    pub fn in_words(&self) -> String {
        let megabytes = |bytes: u64| bytes as f64 / 1e6;
        format!(
            "seconds                     {:>10.1}\n\
             contents                    {:>10.2} MB\n\
             moved of them               {:>10.2} MB, {:+.2} %\n\
             datagrams up + down         {:>10.2} MB, {:+.2} %\n\
             connections                 {:>10}\n\
             error of the result         {:>10.1e}, {}\n",
            self.seconds,
            megabytes(self.content_bytes),
            megabytes(self.bulk_bytes),
            self.extra_bulk() * 100.0,
            megabytes(self.datagram_bytes.total()),
            self.extra_datagrams() * 100.0,
            self.connections,
            self.relative_error,
            if self.correct { "right" } else { "WRONG" },
        )
    }
}

/// Does the exchange of one participant over the link; everything it writes is in `folder`.
///
/// # Errors
/// If a party fails, or the scenario has more than one participant.
pub fn run_link(
    scenario: Scenario,
    hardship: Hardship,
    folder: &Path,
) -> anyhow::Result<LinkFigures> {
    ensure!(
        scenario.participants.get() == 1,
        "a link has one participant behind it"
    );
    scenario.write_start(&folder.join("start"))?;
    let federation = Federation::create("exchange", &scenario.names())
        .context("certificates of the throw-away federation cannot be made")?;
    let mut config = scenario.server(tls(federation.server())?, folder)?;
    config.transport = hardship.limits();
    let began = Instant::now();
    let exchanged = parties::runtime()?.block_on(async {
        let server = Server::bind(config)?;
        let relay = Relay::open(server.address(), hardship.weather(), hardship.link_seed)?;
        let material = federation.participants().next().context("one was made")?;
        let mut settings = Settings::new(relay.address().to_string(), tls(material)?);
        settings.limits = hardship.limits();
        settings.patience.longest_pause = Duration::from_secs(2);
        settings.state = Some(folder.join("site.state"));
        let serving = async {
            let observer = Arc::new(|_: &RunEvent| {});
            let served = server.run(observer, std::future::pending()).await;
            served.context("the server")
        };
        let connections = Arc::new(AtomicU32::new(0));
        let counted = Arc::clone(&connections);
        let observer = Arc::new(move |event: &Event| {
            if matches!(event, Event::Connected { .. }) {
                counted.fetch_add(1, Ordering::Relaxed);
            }
        });
        let answering = parties::answer(&scenario, settings, 0, observer);
        let troubles = hardship.befall(&relay, scenario.content_bytes()?);
        let (served, answered) = tokio::select! {
            both = async { tokio::try_join!(serving, answering) } => both?,
            broken = troubles => anyhow::bail!("the link's troubles ended early: {broken:?}"),
        };
        let bulk_bytes = served.bytes_up + answered.bytes_down;
        let connections = connections.load(Ordering::Relaxed);
        anyhow::Ok((bulk_bytes, relay.traffic(), connections))
    })?;
    let (bulk_bytes, datagram_bytes, connections) = exchanged;
    let relative_error = scenario.error(folder)?;
    Ok(LinkFigures {
        scenario,
        hardship,
        seconds: began.elapsed().as_secs_f64(),
        content_bytes: scenario.content_bytes()?,
        bulk_bytes,
        datagram_bytes,
        connections,
        relative_error,
        correct: relative_error < scenario.error_max(),
    })
}

impl Hardship {
    fn weather(&self) -> Weather {
        Weather {
            bytes_per_second: Some((self.megabits * 1e6 / 8.0) as u64),
            delay: Duration::from_millis(self.round_trip_ms) / 2,
            queue: Duration::from_millis(self.queue_ms),
            loss: self.loss,
        }
    }

    fn limits(&self) -> Limits {
        Limits {
            idle_timeout: Duration::from_secs_f64(self.idle_seconds),
            keep_alive: Duration::from_secs_f64(self.idle_seconds / 4.0),
            congestion: match self.congestion {
                CongestionControl::Cubic => Congestion::Cubic,
                CongestionControl::NewReno => Congestion::NewReno,
                CongestionControl::Bbr => Congestion::Bbr,
            },
            ..Limits::default()
        }
    }

    /// Lets the link go dark and change its address, evenly over the bytes to be moved. Ends only by an error.
    async fn befall(&self, relay: &Relay, content_bytes: u64) -> anyhow::Result<()> {
        let events = u64::from(self.outages + self.address_changes);
        let (mut outages, mut changes) = (self.outages, self.address_changes);
        for event in 1..=events {
            let due = content_bytes * event / (events + 1);
            while relay.traffic().total() < due {
                tokio::time::sleep(LOOK).await;
            }
            // Outages and changes take turns, an outage first.
            if outages == 0 || (0 < changes && event.is_multiple_of(2)) {
                changes = changes.saturating_sub(1);
                relay.change_address()?;
            } else {
                outages -= 1;
                relay.set_dark(true);
                tokio::time::sleep(Duration::from_secs_f64(self.outage_seconds)).await;
                relay.set_dark(false);
            }
        }
        std::future::pending().await
    }
}
