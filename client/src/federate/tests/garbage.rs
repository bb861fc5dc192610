//! A member whose masked update is none, over real TLS: once, and again and again (S12).

use std::collections::BTreeSet;

use super::{
    adding::{layout, masked, moved, name},
    *,
};

const MEMBERS: u32 = 4;
/// The one that masks garbage.
const FAULTY: u32 = 2;

/// Takes part as `participate` does, but for so many masked updates that are garbage.
async fn take_part(
    settings: Settings,
    index: u32,
    mut spoiled: u32,
) -> Result<Outcome, ClientError> {
    let (sender, mut happenings) = unbounded_channel();
    let (turn, unobserved) = (DeviceTurn::new(), Arc::new(Unobserved));
    let mut driver = Driver::new(settings, adding::site(index), turn, unobserved, sender)?;
    let ended = loop {
        if let Some(outcome) = driver.act()? {
            break outcome;
        }
        tokio::select! {
            Some(mut happening) = happenings.recv() => {
                if let Happening::Masked(_, masked) = &mut happening
                    && let (Ok(masked), true) = (masked.as_mut(), 0 < spoiled)
                {
                    masked.spoil();
                    spoiled -= 1;
                }
                driver.handle(happening)?;
            }
            () = until(driver.timeout()) => driver.time_out(),
        }
    };
    driver.rest(CloseCode::Left).await;
    driver.end(ended)
}

/// What the server and the sites say of a run in which so many masked updates of one of them are garbage.
async fn run(spoiled: u32) -> (Ended, Vec<String>) {
    let all: Vec<_> = (0..MEMBERS).map(|index| name(index).to_string()).collect();
    let certificates = Federation::create("treaty", &all).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let server = Server::bind(masked(&certificates, folder.path(), (MEMBERS, 3))).unwrap();
    let address = server.address().to_string();
    let sites = (0..MEMBERS).map(|index| {
        let material = certificates.participant(name(index).as_str()).unwrap();
        let settings = Settings::new(&address, tls(material));
        let spoiled = if index == FAULTY { spoiled } else { 0 };
        tokio::spawn(take_part(settings, index, spoiled))
    });
    let sites: Vec<_> = sites.collect();
    let failures = Arc::new(Mutex::new(Vec::new()));
    let heard = Arc::clone(&failures);
    let observer = move |event: &server::RunEvent| {
        if let server::RunEvent::AttemptFailed { reason, .. } = event {
            heard.lock().unwrap().push(reason.clone());
        }
    };
    let served = server.run(Arc::new(observer), std::future::pending()).await;
    let mut ends = Vec::new();
    for site in sites {
        ends.push(site.await.unwrap());
    }
    let failures = failures.lock().unwrap().clone();
    ((served, ends), failures)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_masked_update_that_is_garbage_once_costs_an_attempt_and_nobody_its_place() {
    println!("seed {SEED}");
    let ((served, ends), failures) = run(1).await;
    let served = served.unwrap();
    let attempts: Vec<_> = served
        .records
        .iter()
        .map(|round| round.secure.as_ref().unwrap().attempt)
        .collect();
    assert_eq!(attempts, [2, 1]);
    assert!(
        failures.len() == 1 && failures[0].contains("its sum was not opened"),
        "{failures:?}"
    );
    let updates: Vec<_> = served
        .records
        .iter()
        .map(|round| round.participants.len())
        .collect();
    assert_eq!(updates, [4, 4]);
    // What was sent for the first attempt counts as bytes of the round, too.
    assert_eq!(served.records[0].bytes_up, 2 * served.records[1].bytes_up);
    let expected = 2.0 * moved(&BTreeSet::from_iter(0..MEMBERS));
    let start = Adapter::initial(layout(), SEED);
    for (found, start) in served.adapter.values().iter().zip(start.values()) {
        let found = f64::from(*found) - f64::from(*start);
        assert!((found - expected).abs() < 1e-6, "{found} is not {expected}");
    }
    for end in ends {
        assert_eq!(end.unwrap().adapter, served.adapter);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn masked_updates_that_are_garbage_again_end_the_run_in_words_and_nobody_is_accused() {
    println!("seed {SEED}");
    let ((served, ends), failures) = run(u32::MAX).await;
    assert_eq!(failures.len(), 1, "{failures:?}");
    let ends = ends.into_iter().map(|end| end.unwrap_err().to_string());
    for said in ends.chain([served.unwrap_err().to_string()]) {
        for word in ["2 attempts among the same", "nobody can tell who"] {
            assert!(said.contains(word), "{said}");
        }
    }
}
