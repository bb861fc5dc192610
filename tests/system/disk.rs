//! A disk that is really full: a small file system of its own, filled to the last byte.

use std::fs::{self, File};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use tests::{Federation, assert_success};

use crate::PROGRAMS;
use crate::crash::{NAMES, SETTINGS, adapter, whole};

/// A file system in memory that ends with this value.
struct SmallDisk(PathBuf);

impl SmallDisk {
    /// Mounts it, or says why that is not possible here.
    fn mount(path: &Path) -> Result<Self, String> {
        fs::create_dir_all(path).map_err(|error| error.to_string())?;
        let mut mount = Command::new("mount");
        mount
            .args(["-t", "tmpfs", "-o", "size=16m", "tmpfs"])
            .arg(path);
        let output = mount.output().map_err(|error| error.to_string())?;
        if output.status.success() {
            Ok(Self(path.to_owned()))
        } else {
            Err(String::from_utf8_lossy(&output.stderr).trim().to_owned())
        }
    }

    /// Fills what is left of it.
    fn fill(&self) -> PathBuf {
        let path = self.0.join("ballast");
        let mut ballast = File::create(&path).expect("a name takes no room");
        for size in [1 << 16, 1 << 12, 1] {
            while ballast.write_all(&vec![0; size]).is_ok() {}
        }
        path
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // A process that still has a file open there loses it with the process.
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

#[test]
fn a_full_disk_stops_the_server_by_name_and_the_run_goes_on_when_there_is_room() {
    let federation = Federation::create(PROGRAMS, &NAMES);
    let disk = match SmallDisk::mount(&federation.file("runs")) {
        Ok(disk) => disk,
        Err(why) => {
            println!("skipped: a small file system cannot be mounted here ({why})");
            return;
        }
    };
    let (server, address) = federation.start_server(2, &SETTINGS);
    let ballast = disk.fill();
    let clients = NAMES.map(|name| federation.start_client(name, &address));
    let stopped = server.finish();
    assert_eq!(stopped.code, Some(1), "{}", stopped.text);
    let last = stopped.text.lines().last().unwrap_or_default();
    assert!(
        last.contains("No space left on device") && last.contains("runs/trial/"),
        "the file is not named: {last}"
    );

    fs::remove_file(ballast).expect("it is there");
    let listen = format!("listen={address}");
    let settings: Vec<&str> = SETTINGS.into_iter().chain([listen.as_str()]).collect();
    let server = federation.restart_server(&settings);
    for client in clients {
        assert_success(&client.finish());
    }
    assert_success(&server.finish());
    assert!(adapter(&federation) == whole(), "another adapter");
}
