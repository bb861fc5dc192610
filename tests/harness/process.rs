//! A program under test as a child process whose output can be waited for.

use std::{
    io::{BufRead, BufReader, Read},
    path::Path,
    process::{Child, Command, Stdio},
    sync::{Arc, Condvar, Mutex},
    thread,
    time::{Duration, Instant},
};

/// The longest any condition of a test is waited for.
pub(crate) const PATIENCE: Duration = Duration::from_secs(120);

/// One running program; killed when dropped.
#[derive(Debug)]
pub struct Program {
    name: String,
    child: Child,
    output: Arc<Output>,
}

/// What a program that ended left behind.
#[derive(Debug)]
pub struct Finished {
    /// The exit code; `None` if a signal ended it.
    pub code: Option<i32>,
    /// Standard output and standard error, in the order they arrived.
    pub text: String,
}

#[derive(Debug, Default)]
struct Output {
    text: Mutex<String>,
    grown: Condvar,
}

impl Program {
    /// Starts `binary` with `arguments` in `folder`.
    ///
    /// # Panics
    /// Panics if the program cannot be started.
    pub fn start(binary: &str, folder: &Path, arguments: &[&str]) -> Self {
        Self::start_with(binary, folder, arguments, &[])
    }

    /// Starts `binary` as [`Program::start`] does, with more in its environment.
    ///
    /// # Panics
    /// Panics if the program cannot be started.
    pub fn start_with(
        binary: &str,
        folder: &Path,
        arguments: &[&str],
        environment: &[(&str, String)],
    ) -> Self {
        let mut child = Command::new(binary)
            .args(arguments)
            .current_dir(folder)
            .env("RAYON_NUM_THREADS", "1")
            .env_remove("RUST_LOG")
            .envs(environment.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| panic!("{binary} does not start: {error}"));
        let output = Arc::new(Output::default());
        follow(
            child.stdout.take().expect("stdout is piped"),
            Arc::clone(&output),
        );
        follow(
            child.stderr.take().expect("stderr is piped"),
            Arc::clone(&output),
        );
        let name = Path::new(binary).file_name().expect("a binary has a name");
        Self {
            name: name.to_string_lossy().into_owned(),
            child,
            output,
        }
    }

    /// Runs `binary` to its end.
    ///
    /// # Panics
    /// Panics if it does not end in time.
    pub fn run(binary: &str, folder: &Path, arguments: &[&str]) -> Finished {
        Self::start(binary, folder, arguments).finish()
    }

    /// Waits until the output contains `text` and returns the line it stands in.
    ///
    /// # Panics
    /// Panics with the whole output if it does not come in time.
    pub fn wait_for(&self, text: &str) -> String {
        self.wait_for_any(&[text])
    }

    /// Waits until the output contains one of `texts` and returns the line it stands in.
    ///
    /// # Panics
    /// Panics with the whole output if none comes in time.
    pub fn wait_for_any(&self, texts: &[&str]) -> String {
        let is_one = |line: &str| texts.iter().any(|text| line.contains(text));
        self.wait_for_line(is_one, &format!("any of {texts:?}"))
    }

    /// Waits until the output contains a line with all of `texts` and returns it.
    ///
    /// # Panics
    /// Panics with the whole output if none comes in time.
    pub fn wait_for_all(&self, texts: &[&str]) -> String {
        let is_one = |line: &str| texts.iter().all(|text| line.contains(text));
        self.wait_for_line(is_one, &format!("all of {texts:?}"))
    }

    fn wait_for_line(&self, is_one: impl Fn(&str) -> bool, sought: &str) -> String {
        let found = |output: &str| output.lines().find(|line| is_one(line)).map(str::to_owned);
        let seen = self.output.text.lock().expect("no reader panics");
        let (seen, _) = self
            .output
            .grown
            .wait_timeout_while(seen, PATIENCE, |seen| found(seen).is_none())
            .expect("no reader panics");
        found(&seen).unwrap_or_else(|| panic!("{}: no line with {sought} in:\n{seen}", self.name))
    }

    /// Waits until the output contains `text` and returns the line it stands in; none if the program ends without it.
    ///
    /// # Panics
    /// Panics with the whole output if neither comes in time.
    pub fn wait_for_or_end(&mut self, text: &str) -> Option<String> {
        let limit = Instant::now() + PATIENCE;
        loop {
            let has_ended = self.has_ended();
            let output = if has_ended {
                self.rest()
            } else {
                self.so_far()
            };
            let line = output.lines().find(|line| line.contains(text));
            if line.is_some() || has_ended {
                return line.map(str::to_owned);
            }
            assert!(
                Instant::now() < limit,
                "{}: no {text:?} in:\n{output}",
                self.name
            );
            thread::park_timeout(Duration::from_millis(5));
        }
    }

    /// The process's number.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Everything it has written so far.
    ///
    /// # Panics
    /// Never, unless a thread that reads its output did.
    pub fn said(&self) -> String {
        self.output.text.lock().expect("no reader panics").clone()
    }

    /// Whether the program has ended by itself.
    ///
    /// # Panics
    /// Panics if the system does not say.
    pub fn has_ended(&mut self) -> bool {
        let status = self.child.try_wait().expect("a child can be waited for");
        status.is_some()
    }

    /// Waits for the end of the program.
    ///
    /// # Panics
    /// Panics with the whole output if it does not come in time.
    pub fn finish(mut self) -> Finished {
        let limit = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = self.child.try_wait().expect("a child can be waited for") {
                return Finished {
                    code: status.code(),
                    text: self.rest(),
                };
            }
            assert!(
                Instant::now() < limit,
                "{} does not end:\n{}",
                self.name,
                self.rest()
            );
            thread::park_timeout(Duration::from_millis(5));
        }
    }

    /// Sends it a signal by its name, such as `INT`.
    ///
    /// # Panics
    /// Panics if it cannot be sent.
    pub fn signal(&self, name: &str) {
        let sent = Command::new("kill")
            .args(["-s", name, &self.id().to_string()])
            .status();
        assert!(sent.expect("`kill` starts").success(), "SIG{name}");
    }

    /// Ends the program as `kill -9` does.
    ///
    /// # Panics
    /// Panics if it cannot be killed.
    pub fn kill(mut self) {
        self.child.kill().expect("a running child can be killed");
        self.child.wait().expect("a killed child can be waited for");
    }

    /// The output so far; after the program's end, all of it.
    fn rest(&self) -> String {
        // The readers hold the only other handles; they let go at the end of the streams.
        let limit = Instant::now() + Duration::from_secs(5);
        while Arc::strong_count(&self.output) > 1 && Instant::now() < limit {
            thread::yield_now();
        }
        self.so_far()
    }

    fn so_far(&self) -> String {
        self.output.text.lock().expect("no reader panics").clone()
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        // Already ended is fine here.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Collects a stream line by line in a thread of its own.
fn follow(stream: impl Read + Send + 'static, output: Arc<Output>) {
    thread::spawn(move || {
        for line in BufReader::new(stream).split(b'\n') {
            let Ok(line) = line else { break };
            let mut text = output.text.lock().expect("no reader panics");
            text.push_str(&String::from_utf8_lossy(&line));
            text.push('\n');
            output.grown.notify_all();
        }
    });
}
