//! A site at which a thread panics: nobody waits for what it will never say.

use aggregation::AdapterLayout;
use protocol::plan::CheckedPlan;

use super::{
    adding::{layout, masked, name, site},
    untrained::Untrained,
    *,
};
use crate::site::{Agreement, Learner, Site};

/// Where the defect is.
#[derive(Clone, Copy)]
enum Defect {
    Agreeing,
    Training,
}

/// A site that agrees to everything but for its defect.
#[derive(Clone)]
struct Panicking(Defect);

impl Site for Panicking {
    fn agree(&self, _: &CheckedPlan) -> Result<Box<dyn Agreement>, ClientError> {
        match self.0 {
            Defect::Agreeing => panic!("a defect"),
            Defect::Training => Ok(Box::new(self.clone())),
        }
    }
}

impl Agreement for Panicking {
    fn layout(&self) -> &Arc<AdapterLayout> {
        static LAYOUT: OnceLock<Arc<AdapterLayout>> = OnceLock::new();
        LAYOUT.get_or_init(layout)
    }

    fn learner(&self, _: Option<&[u8]>, _: Option<&[u8]>) -> Result<Box<dyn Learner>, ClientError> {
        Ok(Box::new(Untrained {
            change: Arc::new(|_| panic!("a defect")),
            ..site(0).as_ref().clone()
        }))
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_thread_that_panics_ends_its_site_in_words_and_the_run_goes_on_without_it() {
    let names: Vec<_> = (0..3).map(|index| name(index).to_string()).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    for (defect, thread) in [
        (Defect::Agreeing, "comparing the plan"),
        (Defect::Training, "the training thread"),
    ] {
        let certificates = Federation::create("treaty", &names).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let mut config = masked(&certificates, folder.path(), (3, 2));
        (config.ring, config.secure_aggregation) = (None, None);
        let server = Server::bind(config).unwrap();
        let address = server.address().to_string();
        let start = |index: usize, site: Arc<dyn Site>| {
            let material = tls(certificates.participant(names[index]).unwrap());
            let settings = Settings::new(&address, material);
            let (turn, unobserved) = (DeviceTurn::new(), Arc::new(Unobserved));
            let never = Shutdown::never();
            tokio::spawn(participate(settings, site, turn, unobserved, never))
        };
        let faulty = start(2, Arc::new(Panicking(defect)));
        let honest = [0, 1].map(|index| start(index, site(index as u32)));
        let observer = Arc::new(|_: &server::RunEvent| {});
        let served = server.run(observer, std::future::pending()).await.unwrap();
        assert_eq!(served.records.len(), 2);
        for one in honest {
            one.await.unwrap().unwrap();
        }
        let error = faulty.await.unwrap().unwrap_err();
        let is_named = matches!(&error, ClientError::Internal { what } if what.contains(thread));
        assert!(is_named, "{error:?}");
    }
}
