//! A server that says more than is listened to.

use protocol::message::ToClient;

use super::{arrivals::Arrivals, happening::Attempt, session::Session, *};
use crate::federate::session::MESSAGES_MAX;

/// Far more than there are places for.
const MESSAGES: usize = 10_000;

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_says_more_than_is_heard_has_to_wait() {
    let (link, mut server, _listener) = linked().await;
    let (happenings, mut told) = unbounded_channel();
    let arrivals = Arc::new(Arrivals::new(None));
    let session = Session::start(link, Attempt(1), 0, &arrivals, &happenings);
    let server = tokio::spawn(async move {
        let round = Round::FIRST;
        for _ in 0..MESSAGES {
            let sent = server.sender.send(&ToClient::Accepted { round }).await;
            sent.unwrap();
        }
        // The connection ends with it.
        server.connection.closed().await
    });
    while told.len() < MESSAGES_MAX {
        assert!(!server.is_finished(), "the connection is gone");
        tokio::task::yield_now().await;
    }
    for _ in 0..MESSAGES {
        assert!(told.len() <= MESSAGES_MAX, "{} wait", told.len());
        let happening = told.recv().await;
        assert!(matches!(happening, Some(Happening::Message(..))));
    }
    session.close(CloseCode::Left);
}
