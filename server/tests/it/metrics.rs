//! What monitoring reads of a run, and that no client of that port disturbs one.

use std::net::SocketAddr;
use std::sync::Arc;

use protocol::Round;
use protocol::close::{CloseCode, RefusalReason};
use protocol::message::ToServer;
use protocol::quic::Closed;
use server::{RunEvent, Server, ServerError};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::scene::{Running, Scene, in_time, material};
use crate::scripted::{Scripted, constant};

const FIRST: Round = Round(1);

/// An answer: its status, its head, and its body.
struct Answer {
    status: u16,
    head: String,
    body: String,
}

impl Answer {
    /// The value of a sample.
    fn value(&self, sample: &str) -> f64 {
        let lines = self.body.lines();
        let found = lines.filter_map(|line| line.strip_prefix(sample)?.strip_prefix(' '));
        let values: Vec<&str> = found.collect();
        assert_eq!(values.len(), 1, "{sample} in\n{}", self.body);
        values[0].parse().unwrap()
    }
}

/// Sends these bytes and reads to the end. The server may have enough before it has read all of them.
async fn exchange(address: SocketAddr, request: &[u8]) -> String {
    let mut stream = in_time(TcpStream::connect(address)).await.unwrap();
    let _ = in_time(stream.write_all(request)).await;
    let mut text = Vec::new();
    let _ = in_time(stream.read_to_end(&mut text)).await;
    String::from_utf8(text).unwrap()
}

async fn ask(address: SocketAddr, method: &str, path: &str) -> Answer {
    let request = format!("{method} {path} HTTP/1.1\r\nHost: hub\r\n\r\n");
    let text = exchange(address, request.as_bytes()).await;
    let (head, body) = text.split_once("\r\n\r\n").unwrap();
    let status = head.split(' ').nth(1).unwrap();
    Answer {
        status: status.parse().unwrap(),
        head: head.to_lowercase(),
        body: body.to_owned(),
    }
}

async fn metrics(address: SocketAddr) -> Answer {
    let answer = ask(address, "GET", "/metrics").await;
    assert_eq!(answer.status, 200, "{}", answer.body);
    answer
}

/// A run of one round over `honest` and `mallory`, in which one update is enough, watched at the address.
async fn scene() -> (Scene, Running, SocketAddr, Scripted, Scripted) {
    let mut scene = Scene::new(&["honest", "mallory"]);
    scene.config.cohort.quorum = 1;
    scene.config.limits.update_norm_max = 20.0;
    scene.config.metrics_listen = Some(SocketAddr::from(([127, 0, 0, 1], 0)));
    let running = scene.serve();
    let address = running.metrics.unwrap();
    let mut honest = scene.join("honest", &running).await;
    let mut mallory = scene.join("mallory", &running).await;
    honest.asked().await;
    mallory.asked().await;
    (scene, running, address, honest, mallory)
}

#[tokio::test]
async fn a_run_with_a_refused_update_is_counted_by_reason_and_participant() {
    let (scene, mut running, address, mut honest, mut mallory) = scene().await;
    let update = constant(100.0);
    mallory.deliver(FIRST, &update, 1).await;
    mallory.is_refused(FIRST, RefusalReason::OverNorm).await;
    running.saw(&["Refused", "mallory"]).await;
    let page = metrics(address).await;
    assert!(
        page.head
            .contains("content-type: text/plain; version=0.0.4; charset=utf-8"),
        "{}",
        page.head
    );
    assert!(page.head.contains("connection: close"), "{}", page.head);
    let plan = honest.plan.as_ref().unwrap().digest();
    let info = format!(
        "foedus_run_info{{run=\"trial\",plan=\"{plan}\",version=\"{}\"}}",
        env!("CARGO_PKG_VERSION")
    );
    for (sample, value) in [
        (info.as_str(), 1.0),
        ("foedus_run_phase{phase=\"open\"}", 1.0),
        ("foedus_run_phase{phase=\"joining\"}", 0.0),
        ("foedus_round", 1.0),
        ("foedus_rounds_planned", 1.0),
        ("foedus_rounds_finished", 0.0),
        ("foedus_round_asked", 2.0),
        ("foedus_round_accepted", 0.0),
        ("foedus_participants_connected", 2.0),
        ("foedus_participants_joined", 2.0),
        ("foedus_participant_joined{participant=\"mallory\"}", 1.0),
        ("foedus_updates_refused_total{reason=\"over-norm\"}", 1.0),
        ("foedus_updates_refused_total{reason=\"not-finite\"}", 0.0),
        ("foedus_updates_accepted_total{participant=\"honest\"}", 0.0),
        ("foedus_transfers_received_bytes_total", update.len() as f64),
        (
            "foedus_transfers_sent_bytes_total",
            2.0 * update.len() as f64,
        ),
    ] {
        assert_eq!(page.value(sample), value, "{sample}");
    }
    assert!(0.0 < page.value("foedus_journal_commit_seconds_count"));
    let expires = scene.tls("mallory").expires();
    let expires = expires
        .duration_since(std::time::UNIX_EPOCH)
        .unwrap()
        .as_secs_f64();
    let shown = "foedus_participant_certificate_expiry_timestamp_seconds{participant=\"mallory\"}";
    assert_eq!(page.value(shown), expires);

    honest.deliver(FIRST, &constant(0.5), 5).await;
    honest.is_accepted(FIRST).await;
    running.saw(&["RoundFinished"]).await;
    // The run ends once both have the final adapter.
    let page = metrics(address).await;
    for (sample, value) in [
        ("foedus_updates_accepted_total{participant=\"honest\"}", 1.0),
        ("foedus_rounds_finished", 1.0),
        ("foedus_round_seconds_count", 1.0),
        ("foedus_run_phase{phase=\"finishing\"}", 1.0),
    ] {
        assert_eq!(page.value(sample), value, "{sample}");
    }
    honest.finished().await;
    mallory.finished().await;
    running.outcome().await.unwrap();
}

#[tokio::test]
async fn whoever_is_turned_away_or_cut_off_is_counted_by_reason() {
    let (scene, mut running, address, mut honest, mut mallory) = scene().await;
    let elsewhere = certs::throwaway::Federation::create("elsewhere", &["honest"]).unwrap();
    let stranger = material(elsewhere.participant("honest").unwrap());
    let refused = Scripted::connect(stranger, running.address, &scene.start).await;
    assert!(refused.is_err());
    running.saw(&["HandshakeRejected"]).await;
    let plan = protocol::Digest([3; 32]);
    let reason = "no".into();
    mallory.say(&ToServer::Decline { plan, reason }).await;
    let how = in_time(mallory.link.connection.closed()).await;
    assert_eq!(how, Closed::ByPeer(CloseCode::WrongPlan));
    running.saw(&["Disconnected", "mallory"]).await;
    let page = metrics(address).await;
    let of_strangers: f64 = page
        .body
        .lines()
        .filter(|line| line.starts_with("foedus_handshakes_rejected_total{"))
        .map(|line| line.rsplit(' ').next().unwrap().parse::<f64>().unwrap())
        .sum();
    assert_eq!(of_strangers, 1.0);
    assert_eq!(
        page.value("foedus_connections_closed_total{reason=\"wrong-plan\"}"),
        1.0
    );
    assert_eq!(
        page.value("foedus_participant_joined{participant=\"mallory\"}"),
        0.0
    );
    assert_eq!(page.value("foedus_participants_connected"), 1.0);
    honest.deliver(FIRST, &constant(0.5), 1).await;
    honest.is_accepted(FIRST).await;
    honest.finished().await;
    running.outcome().await.unwrap();
}

#[tokio::test]
async fn health_says_where_the_run_stands() {
    let (_scene, _running, address, _honest, _mallory) = scene().await;
    let health = ask(address, "GET", "/healthz").await;
    let expected = "ok: round 1 of 1, 0 updates, the quorum is 1\n";
    assert_eq!((health.status, health.body.as_str()), (200, expected));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn health_says_why_a_run_ended() {
    let mut scene = Scene::new(&["north"]);
    scene.config.metrics_listen = Some(SocketAddr::from(([127, 0, 0, 1], 0)));
    let server = Server::bind(scene.config.clone()).unwrap();
    let address = server.metrics_address().unwrap();
    let (told, mut failed) = tokio::sync::mpsc::unbounded_channel();
    let (seen, go_on) = std::sync::mpsc::channel();
    let go_on = std::sync::Mutex::new(go_on);
    // The run does not end before it was looked at.
    let observer = move |event: &RunEvent| {
        if matches!(event, RunEvent::Failed { .. }) {
            told.send(()).unwrap();
            tokio::task::block_in_place(|| go_on.lock().unwrap().recv().unwrap());
        }
    };
    let run = tokio::spawn(server.run(Arc::new(observer), std::future::ready(())));
    in_time(failed.recv()).await.unwrap();
    let health = ask(address, "GET", "/healthz").await;
    assert_eq!(health.status, 503);
    assert!(
        health.body.starts_with("failed: stopped: ") && health.body.ends_with('\n'),
        "{}",
        health.body
    );
    let page = metrics(address).await;
    assert_eq!(page.value("foedus_run_failed{reason=\"stopped\"}"), 1.0);
    seen.send(()).unwrap();
    in_time(run).await.unwrap().unwrap_err();
}

#[tokio::test]
async fn nothing_else_is_there_and_nothing_can_be_done_through_it() {
    let (_scene, _running, address, _honest, _mallory) = scene().await;
    for path in ["/", "/metrics/", "/healthz?x=/metrics/..", "/../etc/passwd"] {
        let found = ask(address, "GET", path).await.status;
        let expected = if path.starts_with("/healthz") {
            200
        } else {
            404
        };
        assert_eq!(found, expected, "{path}");
    }
    for method in ["POST", "PUT", "DELETE", "OPTIONS", "PATCH"] {
        let answer = ask(address, method, "/metrics").await;
        assert_eq!(answer.status, 405, "{method}");
        assert!(answer.head.contains("allow: get, head"), "{}", answer.head);
    }
    let head = ask(address, "HEAD", "/metrics").await;
    assert_eq!((head.status, head.body.as_str()), (200, ""));
    let twice = "GET /healthz HTTP/1.1\r\nHost: hub\r\n\r\n".repeat(2);
    let text = exchange(address, twice.as_bytes()).await;
    assert_eq!(text.matches("HTTP/1.1 200").count(), 1, "{text}");
}

#[tokio::test]
async fn clients_that_are_slow_or_long_or_speak_no_http_do_not_disturb_a_round() {
    let (scene, running, address, mut honest, mut mallory) = scene().await;
    // More than are served at a time, and none of them finishes its request.
    let mut idle = Vec::new();
    for number in 0..100 {
        let mut stream = in_time(TcpStream::connect(address)).await.unwrap();
        if number % 2 == 0 {
            // It may have been cut off already.
            let _ = stream.write_all(b"GET /metrics HTTP/1.1\r\nHost:").await;
        }
        idle.push(stream);
    }
    // At once, and not only when all of those were given up.
    let page = metrics(address).await;
    assert_eq!(page.value("foedus_participants_joined"), 2.0);
    honest.deliver(FIRST, &constant(0.5), 5).await;
    honest.is_accepted(FIRST).await;
    mallory.deliver(FIRST, &constant(0.5), 5).await;
    mallory.is_accepted(FIRST).await;
    honest.finished().await;
    mallory.finished().await;
    let outcome = running.outcome().await.unwrap();
    assert_eq!(outcome.records[0].participants.len(), 2);
    assert_eq!(scene.records().len(), 1);
    drop(idle);
}

#[tokio::test]
async fn garbage_and_heads_without_end_are_answered_with_an_error_and_closed() {
    let (_scene, _running, address, _honest, _mallory) = scene().await;
    let long = format!(
        "GET /metrics HTTP/1.1\r\nX: {}\r\n\r\n",
        "x".repeat(1 << 20)
    );
    let many = format!("GET /metrics HTTP/1.1\r\n{}\r\n", "X: y\r\n".repeat(1000));
    let path = format!("GET /{} HTTP/1.1\r\n\r\n", "x".repeat(1 << 20));
    let cases: [&[u8]; 6] = [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"\r\n\r\nno request at all\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        long.as_bytes(),
        many.as_bytes(),
        path.as_bytes(),
    ];
    for request in cases {
        let text = exchange(address, request).await;
        assert!(!text.contains(" 200 "), "{text}");
    }
    assert_eq!(ask(address, "GET", "/healthz").await.status, 200);
}

#[tokio::test]
async fn a_server_that_was_started_again_shows_the_round_that_it_goes_on_with() {
    let mut scene = Scene::new(&["honest", "late"]);
    scene.config.metrics_listen = Some(SocketAddr::from(([127, 0, 0, 1], 0)));
    let mut running = scene.serve();
    let mut honest = scene.join("honest", &running).await;
    let mut late = scene.join("late", &running).await;
    honest.asked().await;
    late.asked().await;
    honest.deliver(FIRST, &constant(0.5), 5).await;
    honest.is_accepted(FIRST).await;
    running.stop();
    running.outcome().await.unwrap_err();
    let mut running = scene.serve();
    running.saw(&["Resumed"]).await;
    let page = metrics(running.metrics.unwrap()).await;
    for (sample, value) in [
        ("foedus_run_phase{phase=\"open\"}", 1.0),
        ("foedus_round", 1.0),
        ("foedus_round_accepted", 1.0),
        // By an earlier process.
        ("foedus_updates_accepted_total{participant=\"honest\"}", 0.0),
        ("foedus_participants_connected", 0.0),
    ] {
        assert_eq!(page.value(sample), value, "{sample}");
    }
}

#[tokio::test]
async fn an_address_that_is_taken_keeps_the_server_from_starting_and_is_named() {
    let taken = std::net::TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let address = taken.local_addr().unwrap();
    let mut scene = Scene::new(&["north"]);
    scene.config.metrics_listen = Some(address);
    let error = Server::bind(scene.config).unwrap_err();
    assert!(matches!(error, ServerError::Metrics { .. }), "{error}");
    let said = error.to_string();
    assert!(
        said.contains(&address.to_string()) && said.contains("metrics.listen"),
        "{said}"
    );
}

#[tokio::test]
async fn without_an_address_there_is_no_port() {
    let scene = Scene::new(&["north"]);
    let server = Server::bind(scene.config).unwrap();
    assert_eq!(server.metrics_address(), None);
}
