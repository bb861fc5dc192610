//! Keys on disk.

use protocol::quic::{MaterialError, TlsFiles};

use crate::party::federation;

#[cfg(unix)]
#[test]
fn key_that_others_may_use_is_refused_with_the_command_to_run() {
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    let folder = tempfile::tempdir().unwrap();
    federation().write(folder.path()).unwrap();
    let files = TlsFiles {
        certificate: folder.path().join("hospital-a.crt"),
        key: folder.path().join("hospital-a.key"),
        authority: folder.path().join("ca.crt"),
        revocations: None,
    };
    let of_mode = |mode| {
        fs::set_permissions(&files.key, fs::Permissions::from_mode(mode)).unwrap();
        files.load()
    };
    for mode in [0o644, 0o640, 0o660, 0o604] {
        let refused = of_mode(mode).unwrap_err();
        assert!(
            matches!(refused, MaterialError::SharedKey { .. }),
            "{refused}"
        );
        let command = format!("chmod 600 {}", files.key.display());
        assert!(refused.to_string().contains(&command), "{refused}");
        assert!(
            refused.to_string().contains(&format!("{mode:o}")),
            "{refused}"
        );
    }
    assert!(of_mode(0o600).is_ok() && of_mode(0o400).is_ok());
}
