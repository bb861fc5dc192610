//! A federation on disk, made the way the README tells an operator to make one.

use std::{
    fs,
    net::{Ipv4Addr, UdpSocket},
    path::{Path, PathBuf},
    sync::atomic::{AtomicU32, Ordering},
    thread,
    time::{Duration, Instant},
};

use finetune::{config::LlamaConfig, tiny};
use tempfile::TempDir;

use crate::{
    death::Death,
    process::{Finished, PATIENCE, Program},
};

/// What the log says with the server's address.
const LISTENING: &str = "\"listening\"";

/// The programs under test, as Cargo built them for the calling test binary.
#[derive(Clone, Copy, Debug)]
pub struct Programs {
    /// foedus-certs.
    pub certs: &'static str,
    /// foedus-server.
    pub server: &'static str,
    /// foedus-client.
    pub client: &'static str,
}

/// A temporary folder with an authority, a base model, a start adapter, and what each party needs.
#[derive(Debug)]
pub struct Federation {
    folder: TempDir,
    programs: Programs,
}

impl Federation {
    /// Makes the federation `north-sea` with a server `hub` and `institutions`, each with its own text.
    ///
    /// # Panics
    /// Panics with a program's output if it does not do its part.
    pub fn create(programs: Programs, institutions: &[&str]) -> Self {
        Self::with_shape(programs, institutions, &tiny::shape(), 4)
    }

    /// Makes the same federation with an adapter of 3.7 MB in f32, so that its transfers take a while.
    ///
    /// # Panics
    /// As [`Federation::create`].
    pub fn create_wide(programs: Programs, institutions: &[&str]) -> Self {
        let shape = LlamaConfig {
            hidden_size: 512,
            num_attention_heads: 8,
            num_key_value_heads: 4,
            head_dim: 64,
            ..tiny::shape()
        };
        Self::with_shape(programs, institutions, &shape, 256)
    }

    fn with_shape(
        programs: Programs,
        institutions: &[&str],
        shape: &LlamaConfig,
        rank: usize,
    ) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder can be made");
        tiny::write(&folder.path().join("model"), shape, 7).expect("the tiny model can be written");
        let federation = Self { folder, programs };
        federation.certs(&["init", "--federation", "north-sea"]);
        federation.enrol("server", "hub");
        for (number, name) in institutions.iter().enumerate() {
            federation.enrol("participant", name);
            federation.write(&format!("{name}.jsonl"), &text(number));
            federation.write_client(name, name);
        }
        let rank = rank.to_string();
        let new = [
            "adapter", "new", "--model", "model", "--rank", &rank, "--alpha", "8", "--out", "start",
        ];
        assert_success(&federation.client(&new));
        federation
    }

    /// The folder that everything is in.
    pub fn path(&self) -> &Path {
        self.folder.path()
    }

    /// Joins `name` to the folder.
    pub fn file(&self, name: &str) -> PathBuf {
        self.path().join(name)
    }

    /// Writes a file of the federation.
    ///
    /// # Panics
    /// Panics if it cannot be written.
    pub fn write(&self, name: &str, content: &str) {
        fs::write(self.file(name), content).expect("the temporary folder can be written to");
    }

    /// Makes a key and a signed certificate for `name`.
    ///
    /// # Panics
    /// Panics with the program's output if that is refused.
    pub fn enrol(&self, role: &str, name: &str) {
        self.certs(&[
            "request",
            "--federation",
            "north-sea",
            "--role",
            role,
            "--name",
            name,
        ]);
        self.certs(&[
            "sign",
            &format!("{name}.csr"),
            "--role",
            role,
            "--name",
            name,
        ]);
    }

    /// Runs foedus-certs to its end, which must be a success.
    ///
    /// # Panics
    /// Panics with its output if it is not.
    pub fn certs(&self, arguments: &[&str]) {
        assert_success(&Program::run(self.programs.certs, self.path(), arguments));
    }

    /// Runs foedus-client to its end.
    pub fn client(&self, arguments: &[&str]) -> Finished {
        Program::run(self.programs.client, self.path(), arguments)
    }

    /// Runs foedus-server to its end.
    pub fn server(&self, arguments: &[&str]) -> Finished {
        Program::run(self.programs.server, self.path(), arguments)
    }

    /// Writes `CONFIG.toml` of a client that uses the certificate of `identity`; the server's address comes later.
    pub fn write_client(&self, config: &str, identity: &str) {
        let authority = "authority = \"authority/ca.crt\"\nrevocations = \"authority/crl.pem\"";
        let text = format!(
            "server = \"SERVER\"\nmodel = \"model\"\ndata = \"{config}.jsonl\"\nout = \"{config}-adapter\"\ndevice = \"cpu\"\n\
             [tls]\ncertificate = \"{identity}.crt\"\nkey = \"{identity}.key\"\n{authority}\n\
             [connection]\nfirst_pause = \"50ms\"\nlongest_pause = \"200ms\"\ngive_up_after = \"20s\"\n"
        );
        self.write(&format!("{config}.toml"), &text);
    }

    /// Waits until a file of the federation has something in it.
    ///
    /// # Panics
    /// Panics if that does not come about in time.
    pub fn wait_for_file(&self, name: &str) {
        let path = self.file(name);
        let limit = Instant::now() + PATIENCE;
        while !fs::metadata(&path).is_ok_and(|file| 0 < file.len()) {
            assert!(Instant::now() < limit, "{} stays empty", path.display());
            thread::park_timeout(Duration::from_millis(1));
        }
    }

    /// Sets one more key of a client's configuration, one that is in no section.
    ///
    /// # Panics
    /// Panics if there is no such configuration.
    pub fn set_client(&self, config: &str, line: &str) {
        let file = format!("{config}.toml");
        let text =
            fs::read_to_string(self.file(&file)).expect("the configuration was written before");
        self.write(&file, &format!("{line}\n{text}"));
    }

    /// Starts the server with `quorum` and more settings `key=value`, and returns it with its address.
    pub fn start_server(&self, quorum: u32, settings: &[&str]) -> (Program, String) {
        self.start_server_with(quorum, settings, &[])
    }

    /// Starts the server as [`Federation::start_server`] does, with more in its environment.
    pub fn start_server_with(
        &self,
        quorum: u32,
        settings: &[&str],
        environment: &[(&str, String)],
    ) -> (Program, String) {
        self.write_server(quorum);
        let server = self.serve(settings, environment);
        let address = address_in(&server.wait_for(LISTENING));
        (server, address)
    }

    /// Starts a server that dies at its `death`, and returns it with its address, if it comes so far as to have one.
    pub fn start_dying_server(
        &self,
        quorum: u32,
        settings: &[&str],
        death: &Death,
    ) -> (Program, Option<String>) {
        self.write_server(quorum);
        let environment = death.environment(self.path());
        let mut server = self.serve(settings, &environment);
        let address = server.wait_for_or_end(LISTENING).as_deref().map(address_in);
        (server, address)
    }

    fn write_server(&self, quorum: u32) {
        let port = port();
        let text = format!(
            "listen = \"127.0.0.1:{port}\"\n[identity]\ncertificate = \"hub.crt\"\nkey = \"hub.key\"\nauthority = \"authority/ca.crt\"\n\
             revocations = \"authority/crl.pem\"\n[run]\nname = \"trial\"\nstart = \"start\"\nrounds = 2\n\
             [training]\nlocal_steps = 4\nlearning_rate = 5e-3\n[cohort]\nquorum = {quorum}\njoin_deadline = \"1s\"\n"
        );
        self.write("server.toml", &text);
    }

    /// Starts the server with the configuration that it was started with before, and settings.
    pub fn restart_server(&self, settings: &[&str]) -> Program {
        self.serve(settings, &[])
    }

    fn serve(&self, settings: &[&str], environment: &[(&str, String)]) -> Program {
        let mut arguments = vec!["--config", "server.toml", "--log-format", "json"];
        arguments.extend(settings.iter().flat_map(|setting| ["--set", setting]));
        Program::start_with(self.programs.server, self.path(), &arguments, environment)
    }

    /// Starts the client with `CONFIG.toml` against the server at `address`.
    ///
    /// # Panics
    /// Panics if there is no such configuration.
    pub fn start_client(&self, config: &str, address: &str) -> Program {
        self.start_client_with(config, address, &[])
    }

    /// Starts the client as [`Federation::start_client`] does, and has it die at its `death`.
    pub fn start_dying_client(&self, config: &str, address: &str, death: &Death) -> Program {
        self.start_client_with(config, address, &death.environment(self.path()))
    }

    /// Starts the client as [`Federation::start_client`] does, with more in its environment.
    ///
    /// # Panics
    /// Panics if there is no such configuration.
    pub fn start_client_with(
        &self,
        config: &str,
        address: &str,
        environment: &[(&str, String)],
    ) -> Program {
        let file = format!("{config}.toml");
        let text =
            fs::read_to_string(self.file(&file)).expect("the configuration was written before");
        self.write(&file, &text.replace("SERVER", address));
        let arguments = ["run", "--config", &file];
        Program::start_with(self.programs.client, self.path(), &arguments, environment)
    }

    /// Reads a JSON-lines file of the federation.
    ///
    /// # Panics
    /// Panics if there is no such file or a line is not JSON.
    pub fn json_lines(&self, name: &str) -> Vec<serde_json::Value> {
        let text = fs::read_to_string(self.file(name)).expect("the file exists");
        text.lines()
            .map(|line| serde_json::from_str(line).expect("a line is JSON"))
            .collect()
    }
}

/// A UDP port for a server that is started again and finds it free: the system gives away none of those below 32,768 by itself, and every
/// test's process has a stretch of them to itself.
fn port() -> u16 {
    static TAKEN: AtomicU32 = AtomicU32::new(0);
    loop {
        let taken = TAKEN.fetch_add(1, Ordering::Relaxed);
        let port = 10_000 + (std::process::id() * 37 + taken) % 20_000;
        let port = u16::try_from(port).expect("it is below 30,000");
        if UdpSocket::bind((Ipv4Addr::LOCALHOST, port)).is_ok() {
            return port;
        }
    }
}

/// The server's address, in the log line that tells it.
fn address_in(line: &str) -> String {
    let entry: serde_json::Value = serde_json::from_str(line).expect("a log line is JSON");
    let address = entry["address"].as_str();
    address.expect("the address is logged").to_owned()
}

/// Asserts that a program succeeded, with its output as the message.
///
/// # Panics
/// Panics if it did not.
pub fn assert_success(finished: &Finished) {
    assert_eq!(finished.code, Some(0), "{}", finished.text);
}

/// A few records that differ from institution to institution.
fn text(number: usize) -> String {
    (0..12)
        .map(|record| {
            let (first, second) = (record + 3 * number, 2 * record + number);
            let sum = first + second;
            format!(
                "{{\"prompt\": \"{first} plus {second}?\", \"completion\": \"It is {sum}.\"}}\n"
            )
        })
        .collect()
}
