//! A run over a bad link between two hosts of their own: what its troubles cost in bytes. Printed and passed over where the kernel does
//! not let us make hosts; where it only has no netem, the link has neither delay nor losses, and that is printed.

use std::{
    thread,
    time::{Duration, Instant},
};

use tests::hosts::{Host, Hosts, SERVER_ADDRESS};
use tests::{Federation, Programs, assert_success};

use crate::PROGRAMS;

/// One millisecond is 1,250 bytes: the queue holds 250 ms of them, in packets of a common size.
const NETEM: [&str; 9] = [
    "netem", "rate", "10mbit", "delay", "100ms", "loss", "1%", "limit", "215",
];
const SLOW: [&str; 7] = ["tbf", "rate", "10mbit", "burst", "32kb", "latency", "250ms"];
const OUTAGES: u32 = 3;
const OUTAGE: Duration = Duration::from_secs(20);
const ROUNDS: u32 = 2;
/// Longer than the slowest link takes from one trouble to the next.
const PATIENCE: Duration = Duration::from_secs(240);

/// The programs on their hosts.
fn programs(hosts: &Hosts) -> Programs {
    // A test's process ends with its test.
    let path = |host, program| -> &'static str {
        let path = hosts.program_on(host, program);
        path.into_os_string().into_string().unwrap().leak()
    };
    Programs {
        certs: PROGRAMS.certs,
        server: path(Host::Server, PROGRAMS.server),
        client: path(Host::Client, PROGRAMS.client),
    }
}

/// Does a run between two hosts; `trouble` is made once both programs have started. Gives what the cable carried in all.
fn run(queue: &[&str], trouble: impl FnOnce(&Hosts)) -> Result<u64, String> {
    let hosts = Hosts::open()?;
    hosts.shape(queue)?;
    let federation = Federation::create_wide(programs(&hosts), &["hospital-a"]);
    let listen = format!("listen={SERVER_ADDRESS}:4433");
    let rounds = format!("run.rounds={ROUNDS}");
    let cohort = "cohort.participants=[\"hospital-a\"]";
    let settings = [cohort, "run.transfer=\"f32\"", &rounds, &listen];
    let (server, address) = federation.start_server(1, &settings);
    let client = federation.start_client("hospital-a", &address);
    trouble(&hosts);
    assert_success(&client.finish());
    assert_success(&server.finish());
    let done = federation.json_lines("runs/trial/rounds.jsonl");
    assert_eq!(done.len(), ROUNDS as usize);
    Ok(hosts.carried())
}

fn wait_until_carried(hosts: &Hosts, bytes: u64) {
    let limit = Instant::now() + PATIENCE;
    while hosts.carried() < bytes {
        assert!(Instant::now() < limit, "{} of {bytes}", hosts.carried());
        thread::sleep(Duration::from_millis(50));
    }
}

#[test]
fn a_run_over_a_bad_link_with_outages_and_another_address_costs_few_more_bytes() {
    let calm = match run(&SLOW, |_| ()) {
        Ok(bytes) => bytes,
        Err(why) => return println!("skipped: {why}"),
    };
    // Each in the midst of a transfer, of which there are five.
    let trouble = |hosts: &Hosts| {
        for outage in 0..OUTAGES {
            wait_until_carried(hosts, calm * u64::from(2 * outage + 1) / 8);
            hosts.plug(false);
            thread::sleep(OUTAGE);
            hosts.plug(true);
        }
        wait_until_carried(hosts, calm * 6 / 8);
        hosts.move_client("10.77.0.3");
    };
    let bad = run(&NETEM, trouble).unwrap_or_else(|why| {
        println!("without delay and losses: {why}");
        run(&SLOW, trouble).unwrap()
    });
    let extra = bad as f64 / calm as f64 - 1.0;
    println!(
        "{calm} bytes over a calm link, {bad} over a bad one: {:+.2} %",
        extra * 100.0
    );
    assert!(extra < 0.05, "{extra}");
}
