//! Two hosts and the cable between them, as network namespaces of this machine's kernel.
//!
//! For what no relay in user space can show: a rate, a delay and losses by the kernel's own queue (netem), a cable that is pulled out, an
//! address that goes away under a running program. Needs user namespaces, `ip`, `tc`, `unshare` and `nsenter`; where one of them is
//! missing, [`Hosts::open`] says which.

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::PathBuf,
    process::{Child, Command},
    thread,
    time::{Duration, Instant},
};

use tempfile::TempDir;

/// How long the kernel may take to make a namespace.
const PATIENCE: Duration = Duration::from_secs(10);
const CABLE: [&str; 2] = ["cable-s", "cable-c"];

/// The two of them, until this value is dropped.
#[derive(Debug)]
pub struct Hosts {
    server: Child,
    client: Child,
    scripts: TempDir,
}

/// One of the two.
#[derive(Clone, Copy, Debug)]
pub enum Host {
    /// Where the server runs, at [`SERVER_ADDRESS`].
    Server,
    /// Where the client runs.
    Client,
}

/// The server's address.
pub const SERVER_ADDRESS: &str = "10.77.0.1";
/// The address that the client has at first.
pub const CLIENT_ADDRESS: &str = "10.77.0.2";

impl Hosts {
    /// Makes both, and connects them.
    ///
    /// # Errors
    /// Why this machine does not let us.
    pub fn open() -> Result<Self, String> {
        let own = namespace(std::process::id());
        let mut server = Command::new("unshare");
        let server = held(
            server.args(["-r", "-n", "sleep", "infinity"]),
            std::slice::from_ref(&own),
        )?;
        let mut client = Command::new("nsenter");
        client.args(enter(server.id()));
        client.args(["unshare", "-n", "sleep", "infinity"]);
        let of_server = namespace(server.id());
        let client = held(&mut client, &[own, of_server])?;
        let scripts = tempfile::tempdir().map_err(|error| error.to_string())?;
        let hosts = Self {
            server,
            client,
            scripts,
        };
        let pid = hosts.client.id().to_string();
        let [here, there] = CABLE;
        let pair = ["link", "add", here, "type", "veth", "peer", "name", there];
        hosts.run(Host::Server, "ip", &[&pair[..], &["netns", &pid]].concat())?;
        for (host, end, address) in [
            (Host::Server, here, SERVER_ADDRESS),
            (Host::Client, there, CLIENT_ADDRESS),
        ] {
            let address = format!("{address}/24");
            hosts.run(host, "ip", &["address", "add", &address, "dev", end])?;
            hosts.run(host, "ip", &["link", "set", end, "up"])?;
        }
        Ok(hosts)
    }

    /// Has both ends of the cable send through a queue of the kernel, told as `tc qdisc add` is.
    ///
    /// # Errors
    /// What `tc` says, for example that the kernel has no such queue.
    pub fn shape(&self, queue: &[&str]) -> Result<(), String> {
        for (host, end) in [Host::Server, Host::Client].into_iter().zip(CABLE) {
            let add = ["qdisc", "add", "dev", end, "root"];
            self.run(host, "tc", &[&add[..], queue].concat())?;
        }
        Ok(())
    }

    /// Pulls the cable out at the server's end, or puts it in again.
    ///
    /// # Panics
    /// Panics if the system does not let us.
    pub fn plug(&self, is_in: bool) {
        let state = if is_in { "up" } else { "down" };
        let set = ["link", "set", CABLE[0], state];
        self.run(Host::Server, "ip", &set)
            .expect("the cable was there before");
    }

    /// Takes the client's address away and gives it another one.
    ///
    /// # Panics
    /// Panics if the system does not let us.
    pub fn move_client(&self, address: &str) {
        let (before, after) = (format!("{CLIENT_ADDRESS}/24"), format!("{address}/24"));
        for (verb, address) in [("del", before), ("add", after)] {
            self.run(
                Host::Client,
                "ip",
                &["address", verb, &address, "dev", CABLE[1]],
            )
            .expect("the client has its first address");
        }
    }

    /// Bytes that came through the cable so far, in both directions together.
    ///
    /// # Panics
    /// Panics if the kernel does not say.
    pub fn carried(&self) -> u64 {
        let table = self
            .run(Host::Server, "cat", &["/proc/net/dev"])
            .expect("the kernel has the table of its devices");
        let row = table
            .lines()
            .find_map(|line| line.trim().strip_prefix(CABLE[0]));
        let row = row.expect("the cable is in the table");
        let numbers = row.trim_start_matches(':').split_whitespace();
        let numbers: Vec<u64> = numbers.map_while(|number| number.parse().ok()).collect();
        // Bytes received and bytes sent, each followed by seven numbers of other things.
        numbers[0] + numbers[8]
    }

    /// A program that runs `program` on a host.
    ///
    /// # Panics
    /// Panics if it cannot be written.
    pub fn program_on(&self, host: Host, program: &str) -> PathBuf {
        let path = self.scripts.path().join(format!("{host:?}"));
        let enter = enter(self.pid(host)).join(" ");
        let script = format!("#!/bin/sh\nexec nsenter {enter} '{program}' \"$@\"\n");
        fs::write(&path, script).expect("the temporary folder can be written to");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("the script is ours");
        path
    }

    fn pid(&self, host: Host) -> u32 {
        match host {
            Host::Server => self.server.id(),
            Host::Client => self.client.id(),
        }
    }

    fn run(&self, host: Host, program: &str, arguments: &[&str]) -> Result<String, String> {
        let mut command = Command::new("nsenter");
        command
            .args(enter(self.pid(host)))
            .arg(program)
            .args(arguments);
        let output = command
            .output()
            .map_err(|error| format!("nsenter: {error}"))?;
        let said = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim().to_owned();
        if output.status.success() {
            Ok(said(&output.stdout))
        } else {
            Err(format!(
                "{program} {}: {}",
                arguments.join(" "),
                said(&output.stderr)
            ))
        }
    }
}

impl Drop for Hosts {
    fn drop(&mut self) {
        for child in [&mut self.client, &mut self.server] {
            // Already ended is fine here.
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// `nsenter`'s arguments for the namespaces of a process.
fn enter(pid: u32) -> [String; 5] {
    let pid = pid.to_string();
    ["-t", &pid, "-U", "-n", "--preserve-credentials"].map(str::to_owned)
}

/// The network namespace of a process.
fn namespace(pid: u32) -> Option<PathBuf> {
    fs::read_link(format!("/proc/{pid}/ns/net")).ok()
}

/// A process that sleeps in a namespace of its own: none of these.
fn held(command: &mut Command, others: &[Option<PathBuf>]) -> Result<Child, String> {
    let mut child = command
        .spawn()
        .map_err(|error| format!("{}: {error}", command.get_program().display()))?;
    let limit = Instant::now() + PATIENCE;
    loop {
        let is_asleep = fs::read_to_string(format!("/proc/{}/comm", child.id()))
            .is_ok_and(|name| name.trim() == "sleep");
        if is_asleep && !others.contains(&namespace(child.id())) {
            return Ok(child);
        }
        let ended = child.try_wait().map_err(|error| error.to_string())?;
        if ended.is_some() || limit < Instant::now() {
            // Already ended is fine here.
            let _ = child.kill();
            let _ = child.wait();
            return Err(format!("no network namespace can be made here ({ended:?})"));
        }
        thread::park_timeout(Duration::from_millis(5));
    }
}
