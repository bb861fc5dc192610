//! A participant whose training diverges: an error for its own people, a reason for the server, and no harm to the others.

use super::{untrained::Untrained, *};

#[tokio::test(flavor = "multi_thread")]
async fn training_that_diverges_is_an_error_that_says_what_to_do_and_the_run_goes_on_without_it() {
    for ring in [None, Some(Masks::Off)] {
        let mut world = World::new();
        (world.participants, world.ring) = (3, ring);
        let mut config = world.server();
        config.cohort.quorum = 2;
        let left = Arc::new(Mutex::new(String::new()));
        let heard = Arc::clone(&left);
        let observer = move |event: &server::RunEvent| {
            if let server::RunEvent::Left {
                participant,
                reason,
            } = event
            {
                *heard.lock().unwrap() = format!("{participant}: {reason}");
            }
        };
        let server = Server::bind(config).unwrap();
        let address = server.address().to_string();
        let (turn, base) = (DeviceTurn::new(), base());
        let honest = NAMES[..2].iter().map(|name| {
            let settings =
                Settings::new(&address, tls(world.certificates.participant(name).unwrap()));
            let (text, observer) = (TrainingText::Ready(text(&WORDS)), Arc::new(Unobserved));
            let (base, turn) = (Arc::clone(&base), turn.clone());
            tokio::spawn(federate(
                settings,
                base,
                text,
                turn,
                observer,
                Shutdown::never(),
            ))
        });
        let honest: Vec<_> = honest.collect();
        let settings = Settings::new(
            &address,
            tls(world.certificates.participant("east").unwrap()),
        );
        let site = Arc::new(Untrained {
            layout: Arc::clone(start_adapter().layout()),
            weight: 1,
            // What an optimizer that lost its way leaves.
            change: Arc::new(|values| values[17] = f32::NAN),
        });
        let (own, unobserved) = (DeviceTurn::new(), Arc::new(Unobserved));
        let lost = tokio::spawn(participate(
            settings,
            site,
            own,
            unobserved,
            Shutdown::never(),
        ));
        let served = server
            .run(Arc::new(observer), std::future::pending())
            .await
            .unwrap();
        assert_eq!(served.records.len(), 2);
        for one in honest {
            one.await.unwrap().unwrap();
        }
        let error = lost.await.unwrap().unwrap_err();
        assert_says_what_to_do(&error);
        assert_eq!(
            *left.lock().unwrap(),
            "east: training diverged at this site"
        );
    }
}

fn assert_says_what_to_do(error: &ClientError) {
    assert!(
        matches!(
            error,
            ClientError::Diverged {
                round: Round(1),
                last_step: 2,
                ..
            }
        ),
        "{error:?}"
    );
    let said = error.to_string();
    assert!(
        said.contains("lora_A of") && said.contains("lower learning rate"),
        "{said}"
    );
}
