//! An update that nobody waits for any more: what has not left of it does not leave.

use protocol::{
    Digest,
    message::{Content, TransferHeader},
    quic::TransferFault,
};

use super::{adding::name, arrivals::Arrivals, happening::Attempt, session::Session, *};
use crate::federate::egress::Recorded;

#[tokio::test]
async fn an_update_that_is_withdrawn_is_broken_off_and_the_next_one_is_delivered() {
    let (link, server, _listener) = linked().await;
    let server = server.connection;
    let (happenings, mut told) = unbounded_channel();
    let arrivals = Arc::new(Arrivals::new(None));
    let mut session = Session::start(link, Attempt(1), 0, &arrivals, &happenings);
    let headers = [1, 2].map(|number: u8| {
        let bytes = vec![number; 1 << 20];
        let plan = Digest::of(b"plan");
        let header = TransferHeader::update(&name(0), Round::FIRST, plan, Content::of(&bytes));
        (header, bytes)
    });
    let [(first, bytes), (second, last)] = headers;
    // Its last bytes never leave, so that it is on its way for as long as nobody withdraws it.
    let held = (bytes.into(), std::future::pending());
    session.deliver(Recorded::nowhere(first), held, |_| {}, happenings.clone());
    let mut incoming = server.accept_transfer().await.unwrap();
    incoming.next().await.unwrap();
    // Of another one, which is not on its way.
    session.withdraw(second.id);
    session.withdraw(first.id);
    let fault = loop {
        match incoming.next().await {
            Ok(pieces) => assert!(pieces.is_some(), "the update is whole"),
            Err(error) => break error.fault,
        }
    };
    assert_eq!(fault, TransferFault::Abandoned);

    let at_once = (last.clone().into(), std::future::ready(()));
    session.deliver(Recorded::nowhere(second), at_once, |_| {}, happenings);
    let next = server.accept_transfer().await.unwrap();
    assert!(next.receive(1 << 20, |_| {}).await.unwrap() == last);
    let delivered = told.recv().await;
    assert!(matches!(delivered, Some(Happening::Delivered(bytes)) if bytes == 1 << 20));
    // Too late to be withdrawn: it has arrived.
    session.withdraw(second.id);
    session.close(CloseCode::Left);
}
