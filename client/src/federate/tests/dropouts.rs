//! Thirty-two institutions under masks over real TLS, three of which drop out of one attempt, each at another point of it: the round
//! is the sum of exactly those whose updates are in it, and the server's record says who they are.
//!
//! How many may drop out where is checked in memory (`protocol/tests/it/secagg.rs`); members that lie, there too.

use std::collections::BTreeSet;

use protocol::{
    message::ToClient,
    secagg::ForMember,
    transcript::{Verdict, participant_digest},
};
use server::{
    RoundRecord,
    transcript::{AuditedRound, audit},
};

use super::{
    adding::{layout, masked, moved, name, names},
    *,
};

const MEMBERS: u32 = 32;
const QUORUM: u32 = 29;

/// What a participant drops out before.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Before {
    /// The keys of all are here: it sends no shares. The program dies.
    Shares,
    /// Its shares are with the others: it sends no masked update. The site stops its program, which says goodbye: one that died
    /// would be waited for.
    Update,
    /// Its masked update is in the sum, and it signed who is: it reveals nothing. The program dies.
    Opening,
}

/// Who drops out where.
const DROPOUTS: [(u32, Before); 3] = [
    (5, Before::Shares),
    (17, Before::Update),
    (30, Before::Opening),
];

impl Before {
    /// Whether this is the first word of the server after which the participant says nothing more.
    fn is_reached(self, happening: &Happening) -> bool {
        let Happening::Message(_, ToClient::Secure { message, .. }) = happening else {
            return false;
        };
        match self {
            Self::Shares => matches!(message, ForMember::Keys(_)),
            Self::Update => matches!(message, ForMember::Mask { .. }),
            Self::Opening => matches!(message, ForMember::Confirmations(_)),
        }
    }
}

/// All but these.
fn without(gone: &[u32]) -> BTreeSet<u32> {
    (0..MEMBERS).filter(|index| !gone.contains(index)).collect()
}

/// Takes part as `participate` does, up to the point at which it drops out.
async fn drop_out(settings: Settings, site: Arc<dyn Site>, point: Before) {
    let (sender, mut happenings) = unbounded_channel();
    let unobserved = Arc::new(Unobserved);
    let mut driver = Driver::new(settings, site, DeviceTurn::new(), unobserved, sender).unwrap();
    let mut is_leaving = false;
    loop {
        if let Some(end) = driver.act().unwrap() {
            assert!(is_leaving, "{point:?}: the run ended before, {end:?}");
            assert_eq!(end, participant::Outcome::Left);
            return driver.rest(CloseCode::Left).await;
        }
        tokio::select! {
            Some(happening) = happenings.recv() => {
                if is_leaving || !point.is_reached(&happening) {
                    driver.handle(happening).unwrap();
                } else if point == Before::Update {
                    is_leaving = true;
                    driver.stop();
                } else {
                    // Its connection is gone with it, as it is with a process.
                    return;
                }
            }
            () = until(driver.timeout()) => driver.time_out(),
        }
    }
}

/// The records of the server, and the transcript in its folder as an auditor reads it.
async fn run(certificates: &Federation, folder: &Path) -> (RunOutcome, Vec<AuditedRound>) {
    let config = masked(certificates, folder, (MEMBERS, QUORUM));
    let server = Server::bind(config).unwrap();
    let address = server.address().to_string();
    let (mut staying, mut dropping) = (Vec::new(), Vec::new());
    for index in 0..MEMBERS {
        let material = certificates.participant(name(index).as_str()).unwrap();
        let settings = Settings::new(&address, tls(material));
        let site = adding::site(index);
        match DROPOUTS.iter().find(|(one, _)| *one == index) {
            Some(&(_, point)) => dropping.push(tokio::spawn(drop_out(settings, site, point))),
            None => {
                let (turn, unobserved) = (DeviceTurn::new(), Arc::new(Unobserved));
                let never = Shutdown::never();
                staying.push(tokio::spawn(participate(
                    settings, site, turn, unobserved, never,
                )));
            }
        }
    }
    let unobserved = Arc::new(|_: &server::RunEvent| {});
    let served = server.run(unobserved, std::future::pending()).await;
    for one in dropping {
        one.await.unwrap();
    }
    let served = served.unwrap();
    for one in staying {
        assert_eq!(one.await.unwrap().unwrap().adapter, served.adapter);
    }
    let authority = folder.join("ca.crt");
    std::fs::write(&authority, &certificates.server().authority).unwrap();
    let audited = audit(&folder.join("runs/masked"), &authority).unwrap();
    (served, audited.rounds)
}

/// Who is in the sum by the record, and by the transcript that the server signed.
fn assert_counted(round: &RoundRecord, audited: &AuditedRound, members: &BTreeSet<u32>) {
    let counted: Vec<_> = round
        .participants
        .iter()
        .map(|one| one.name.clone())
        .collect();
    assert_eq!(counted, names(members));
    let gone = (0..MEMBERS)
        .filter(|index| !members.contains(index))
        .collect();
    assert_eq!(round.missing, names(&gone), "{round:?}");
    assert!(round.refused.is_empty(), "{round:?}");
    let plan = audited.record.heading.plan;
    let signed = |verdict: fn(&Verdict) -> bool| -> BTreeSet<_> {
        let lines = audited
            .record
            .lines
            .iter()
            .filter(|line| verdict(&line.verdict));
        lines.map(|line| line.participant).collect()
    };
    let digests = |of: &BTreeSet<u32>| -> BTreeSet<_> {
        of.iter()
            .map(|&index| participant_digest(plan, &name(index)))
            .collect()
    };
    assert_eq!(
        signed(|verdict| matches!(verdict, Verdict::Accepted { .. })),
        digests(members)
    );
    assert_eq!(
        signed(|verdict| matches!(verdict, Verdict::Missing)),
        digests(&gone)
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn three_of_32_drop_out_of_one_attempt_over_tls_and_each_round_is_the_sum_of_those_in_it() {
    println!("seed {SEED}");
    let all: Vec<_> = (0..MEMBERS).map(|index| name(index).to_string()).collect();
    let certificates = Federation::create("treaty", &all).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let (served, audited) = run(&certificates, folder.path()).await;

    let [(shares, _), (update, _), (opening, _)] = DROPOUTS;
    // Who delivered is in the sum, though others had to take its mask off.
    let members = [
        without(&[shares, update]),
        without(&[shares, update, opening]),
    ];
    let [first, second] = &served.records[..] else {
        panic!("two rounds: {:?}", served.records)
    };
    for ((round, audited), members) in [first, second].into_iter().zip(&audited).zip(&members) {
        assert_counted(round, audited, members);
    }
    let secure = [first, second].map(|round| round.secure.clone().unwrap());
    assert_eq!(secure.each_ref().map(|one| one.attempt), [1, 1]);
    // Two thirds and one of 32, and of 29.
    assert_eq!(secure.each_ref().map(|one| one.threshold), [22, 20]);
    let dropped = secure.map(|one| one.dropped);
    assert_eq!(dropped, [vec![name(update).to_string()], Vec::new()]);

    let start = Adapter::initial(layout(), SEED);
    let values = (start.values().len() as f64).sqrt();
    for (round, members) in [first, second].into_iter().zip(&members) {
        let (found, expected) = (round.update_norm / values, moved(members));
        assert!((found - expected).abs() < 1e-6, "{found} is not {expected}");
        for index in 0..MEMBERS {
            // One more or one less would have been seen.
            let mut other = members.clone();
            if !other.remove(&index) {
                other.insert(index);
            }
            assert!(1e-5 < (moved(&other) - expected).abs(), "{index}");
        }
    }
    let expected: f64 = members.iter().map(moved).sum();
    for (found, start) in served.adapter.values().iter().zip(start.values()) {
        let found = f64::from(*found) - f64::from(*start);
        assert!((found - expected).abs() < 1e-6, "{found} is not {expected}");
    }
}
