//! Before a site helps to open a sum, the disk has which one (S7): if it cannot be written down, nothing is revealed.

use std::path::PathBuf;

use protocol::{message::ToClient, secagg::ForMember};
use tokio::task::JoinSet;

use super::{
    adding::{masked, name},
    *,
};

const MEMBERS: u32 = 3;
/// The one whose disk takes nothing any more.
const FULL: u32 = 1;

/// What a site comes to when it is asked to open the sum.
#[derive(Debug)]
struct Asked {
    /// Whether it still has its secrets of the attempt: they go with what it reveals.
    can_reveal: bool,
    /// What it could not do.
    error: Option<String>,
    /// The files beside its state that end as those of an opened sum do.
    opened: usize,
}

fn is_asked(happening: &Happening) -> bool {
    matches!(
        happening,
        Happening::Message(
            _,
            ToClient::Secure {
                message: ForMember::Confirmations(_),
                ..
            }
        )
    )
}

/// Takes part up to where the sum is opened; `takes_nothing` says that from there on nothing can be written beside its state.
async fn open(mut settings: Settings, index: u32, folder: PathBuf, takes_nothing: bool) -> Asked {
    settings.state = Some(folder.join("adapter.state"));
    let (sender, mut happenings) = unbounded_channel();
    let (turn, unobserved) = (DeviceTurn::new(), Arc::new(Unobserved));
    let site = adding::site(index);
    let mut driver = Driver::new(settings, site, turn, unobserved, sender).unwrap();
    loop {
        assert_eq!(driver.act().unwrap(), None, "the run ended before");
        let happening = tokio::select! {
            Some(happening) = happenings.recv() => happening,
            () = until(driver.timeout()) => {
                driver.time_out();
                continue;
            }
        };
        if !is_asked(&happening) {
            driver.handle(happening).unwrap();
            continue;
        }
        assert!(driver.can_reveal());
        if takes_nothing {
            std::fs::remove_dir_all(&folder).unwrap();
            std::fs::write(&folder, "in the way").unwrap();
        }
        driver.handle(happening).unwrap();
        let error = driver.act().err().map(|error| error.to_string());
        let is_opened =
            |file: &std::fs::DirEntry| file.path().extension() == Some("opened".as_ref());
        let files = std::fs::read_dir(&folder).into_iter().flatten();
        return Asked {
            can_reveal: driver.can_reveal(),
            error,
            opened: files.map(Result::unwrap).filter(is_opened).count(),
        };
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_revealed_of_a_sum_before_the_disk_has_which_one() {
    println!("seed {SEED}");
    let all: Vec<_> = (0..MEMBERS).map(|index| name(index).to_string()).collect();
    let certificates = Federation::create("treaty", &all).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let config = masked(&certificates, folder.path(), (MEMBERS, MEMBERS));
    let server = Server::bind(config).unwrap();
    let address = server.address().to_string();
    let mut sites = JoinSet::new();
    for index in 0..MEMBERS {
        let material = certificates.participant(name(index).as_str()).unwrap();
        let settings = Settings::new(&address, tls(material));
        let own = folder.path().join(name(index).as_str());
        std::fs::create_dir(&own).unwrap();
        sites.spawn(async move { (index, open(settings, index, own, index == FULL).await) });
    }
    let serving =
        tokio::spawn(server.run(Arc::new(|_: &server::RunEvent| {}), std::future::pending()));
    while let Some(ended) = sites.join_next().await {
        let (index, asked) = ended.unwrap();
        if index == FULL {
            assert!(asked.can_reveal && asked.opened == 0, "{asked:?}");
            let said = asked.error.unwrap();
            assert!(
                said.contains("cannot write") && said.contains(".opened"),
                "{said}"
            );
        } else {
            assert!(!asked.can_reveal && asked.opened == 1, "{asked:?}");
            assert_eq!(asked.error, None);
        }
    }
    serving.abort();
}
