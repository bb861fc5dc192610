//! What a crash may leave behind: nothing with keys in it.

#[cfg(target_os = "linux")]
#[test]
fn programs_leave_no_core_files() {
    use tests::Federation;

    let federation = Federation::create(crate::PROGRAMS, &["hospital-a", "bank-b"]);
    let (server, address) = federation.start_server(2, &["cohort.join_deadline=2min"]);
    let client = federation.start_client("hospital-a", &address);
    client.wait_for("connected");
    for program in [&server, &client] {
        let limits = std::fs::read_to_string(format!("/proc/{}/limits", program.id())).unwrap();
        let core = limits
            .lines()
            .find(|line| line.starts_with("Max core file size"))
            .unwrap();
        let values: Vec<_> = core.split_whitespace().skip(4).take(2).collect();
        assert_eq!(values, ["0", "0"], "{core}");
    }
}
