//! Who is let in, who is not, and what both sides are told.

use std::time::{Duration, SystemTime};

use certs::throwaway::{Federation, Material};
use jiff::Timestamp;
use protocol::close::CloseCode;
use protocol::identity::Role;
use protocol::quic::{
    ALPN, Closed, HandshakeError, Limits, ListenError, PeerRefusal, Rejection, TlsMaterial,
    connect, listen, verify_signature,
};

use crate::hostile::{Hesitant, Returning};
use crate::party::{federation, linked, loopback, meet, mixed, participant, server, start, tls};
use crate::tap::Tap;

const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// Asserts that the server refused `name` for `reason`, and the client read `told`.
async fn refused(server: TlsMaterial, client: TlsMaterial, reason: Rejection, told: PeerRefusal) {
    let own = client.identity().clone();
    let mut listener = start(&server);
    let (at_client, at_server) = meet(&mut listener, &client).await;
    let at_server = at_server.unwrap_err();
    let peer = at_server.refused().expect("the server refuses");
    assert_eq!(peer.claimed.as_ref(), Some(&own));
    assert_eq!(peer.reason, reason);
    assert!(
        at_server.to_string().contains(&own.to_string()),
        "{at_server}"
    );
    assert!(!at_server.is_temporary());
    match at_client.unwrap_err() {
        HandshakeError::RefusedByPeer {
            own: named, reason, ..
        } => {
            assert_eq!((*named, reason), (own, told));
        }
        other => panic!("the client was told: {other}"),
    }
}

#[tokio::test]
async fn both_sides_know_each_other_by_identity_and_key() {
    let federation = federation();
    let (_listener, client, server) = linked(&federation).await;
    let (ours, theirs) = (participant(&federation), tls(federation.server()));
    assert_eq!(client.connection.peer(), theirs.identity());
    assert_eq!(server.connection.peer(), ours.identity());
    assert_eq!(server.connection.peer_public_key(), ours.public_key());
    let signature = theirs.sign(b"a plan");
    let key = client.connection.peer_public_key();
    assert!(verify_signature(&key, b"a plan", &signature));
    assert!(!verify_signature(&key, b"another plan", &signature));
    let expires = server.connection.peer_certificate().expires;
    let left = expires.duration_since(SystemTime::now()).unwrap();
    assert!(left > 6 * DAY && left <= 7 * DAY);
}

#[tokio::test]
async fn a_certificate_of_another_authority_is_refused_and_named() {
    let (ours, stranger) = (federation(), federation());
    let server = tls(ours.server());
    let client = mixed(stranger.participant("hospital-a").unwrap(), ours.server());
    refused(
        server,
        client,
        Rejection::WrongAuthority,
        PeerRefusal::WrongAuthority,
    )
    .await;
}

#[tokio::test]
async fn a_revoked_certificate_is_refused_and_named() {
    let mut federation = federation();
    let list = federation.revoke("hospital-a").unwrap();
    let mut material = federation.server().clone();
    material.revocations = list;
    let client = participant(&federation);
    refused(
        tls(&material),
        client,
        Rejection::Revoked,
        PeerRefusal::Revoked,
    )
    .await;
}

#[tokio::test]
async fn an_expired_certificate_is_refused_and_named() {
    let mut federation = federation();
    let starts = Timestamp::now() - 2 * DAY;
    let old = federation
        .issue(Role::Participant, "hospital-a", starts, DAY)
        .unwrap();
    let client = tls(&old);
    let since = client.expires();
    let server = tls(federation.server());
    refused(
        server,
        client,
        Rejection::Expired { since },
        PeerRefusal::Expired,
    )
    .await;
}

#[tokio::test]
async fn a_certificate_that_is_not_valid_yet_is_refused_and_named() {
    let mut federation = federation();
    let starts = Timestamp::from_second(Timestamp::now().as_second()).unwrap() + DAY;
    let early = federation
        .issue(Role::Participant, "hospital-a", starts, DAY)
        .unwrap();
    let since_epoch = Duration::from_secs(starts.as_second().try_into().unwrap());
    let until = SystemTime::UNIX_EPOCH + since_epoch;
    let server = tls(federation.server());
    refused(
        server,
        tls(&early),
        Rejection::NotYetValid { until },
        PeerRefusal::Expired,
    )
    .await;
}

#[tokio::test]
async fn a_certificate_of_another_federation_is_refused_and_named() {
    let ours = federation();
    let other = Federation::create("south-sea", &["hospital-a"]).unwrap();
    let stranger = other.participant("hospital-a").unwrap();
    let wrong = |expected: &str, found: &str| Rejection::WrongFederation {
        expected: expected.to_owned(),
        found: found.to_owned(),
    };
    // A rogue that does not look at the server's certificate is refused by the server.
    let mut listener = server(&ours);
    let rogue = crate::hostile::dial(stranger, listener.local_address());
    let (_, at_server) = tokio::join!(rogue, listener.accept());
    let error = at_server.unwrap().unwrap_err();
    let peer = error.refused().unwrap();
    assert_eq!(peer.claimed.as_ref(), Some(&stranger.identity));
    assert_eq!(peer.reason, wrong("north-sea", "south-sea"));
    // Our own client refuses the server first.
    let client = mixed(stranger, ours.server());
    let (at_client, at_server) = meet(&mut listener, &client).await;
    let error = at_client.unwrap_err();
    assert_eq!(
        error.refused().unwrap().reason,
        wrong("south-sea", "north-sea")
    );
    let error = at_server.unwrap_err();
    assert_eq!(error.label(), PeerRefusal::WrongFederation.label());
}

#[tokio::test]
async fn a_participant_posing_as_the_server_is_refused_and_named() {
    let federation = federation();
    let spy = tls(federation.participant("hospital-b").unwrap());
    // Our own `listen` refuses to do it, so the spy's listener is made without it.
    assert!(matches!(
        listen(loopback(), &spy, &Limits::default()),
        Err(ListenError::Role { .. })
    ));
    let posing = crate::hostile::listener_of(federation.participant("hospital-b").unwrap());
    let address = posing.local_addr().unwrap();
    let accepting = tokio::spawn(async move {
        let incoming = posing.accept().await.unwrap();
        incoming.await.map(|_| ()).unwrap_err().to_string()
    });
    let client = participant(&federation);
    let error = connect(address, &client, &Limits::default())
        .await
        .unwrap_err();
    let peer = error.refused().unwrap();
    assert_eq!(peer.claimed.as_ref(), Some(spy.identity()));
    assert_eq!(
        peer.reason,
        Rejection::WrongRole {
            expected: Role::Server,
            found: Role::Participant,
        }
    );
    assert!(error.to_string().contains("hospital-b"), "{error}");
    accepting.await.unwrap();
}

#[tokio::test]
async fn a_certificate_without_its_key_is_refused_by_both_sides() {
    let federation = federation();
    let a = federation.participant("hospital-a").unwrap();
    let b = federation.participant("hospital-b").unwrap();
    // Whoever was ever connected to a party has its certificate.
    let mut listener = server(&federation);
    let posing = crate::hostile::ask_with_key_of((a, b), listener.local_address());
    let (told, at_server) = tokio::join!(posing, listener.accept());
    let error = at_server.unwrap().unwrap_err();
    assert!(error.to_string().contains("BadSignature"), "{error}");
    assert!(told.is_some(), "it was let in");

    let posing = crate::hostile::listener_with_key_of(federation.server(), b);
    let address = posing.local_addr().unwrap();
    let accepting = tokio::spawn(async move {
        let Ok(connection) = posing.accept().await.unwrap().await else {
            return;
        };
        if let Ok((mut send, _receive)) = connection.accept_bi().await {
            send.write_all(ALPN).await.unwrap();
            connection.closed().await;
        }
    });
    let error = connect(address, &participant(&federation), &Limits::default())
        .await
        .unwrap_err();
    assert!(error.to_string().contains("BadSignature"), "{error}");
    accepting.await.unwrap();

    // With its own key the same client is let in.
    let honest = crate::hostile::ask_with_key_of((a, a), listener.local_address());
    let (told, at_server) = tokio::join!(honest, listener.accept());
    assert_eq!(told, None);
    assert_eq!(at_server.unwrap().unwrap().connection.peer(), &a.identity);
}

#[tokio::test]
async fn nobody_gets_a_ticket_and_a_second_handshake_shows_its_certificate_again() {
    let mut federation = federation();
    let mut listener = server(&federation);
    let address = listener.local_address();
    let guest = Returning::new(federation.participant("hospital-a").unwrap());
    let (first, at_server) = tokio::join!(guest.ask(address), listener.accept());
    assert!(first, "it is let in");
    drop(at_server);
    assert_eq!(guest.tickets(), 0);

    // It has nothing to resume: what has become of its certificate counts.
    let mut material = federation.server().clone();
    material.revocations = federation.revoke("hospital-a").unwrap();
    listener.reload(&tls(&material)).unwrap();
    let (again, at_server) = tokio::join!(guest.ask(address), listener.accept());
    assert!(!again, "it is let in again");
    let error = at_server.unwrap().unwrap_err();
    assert_eq!(error.refused().unwrap().reason, Rejection::Revoked);
}

#[tokio::test]
async fn a_server_certificate_used_by_a_client_is_refused_and_named() {
    let federation = federation();
    let material = tls(federation.server());
    let error = connect(loopback(), &material, &Limits::default())
        .await
        .unwrap_err();
    assert!(matches!(error, HandshakeError::Role { .. }), "{error}");

    let mut listener = server(&federation);
    let posing = crate::hostile::dial(federation.server(), listener.local_address());
    let (_, at_server) = tokio::join!(posing, listener.accept());
    let error = at_server.unwrap().unwrap_err();
    let peer = error.refused().unwrap();
    assert_eq!(peer.claimed.as_ref(), Some(material.identity()));
    assert_eq!(
        peer.reason,
        Rejection::WrongRole {
            expected: Role::Participant,
            found: Role::Server,
        }
    );
}

#[tokio::test]
async fn a_client_without_a_certificate_is_refused() {
    let federation = federation();
    let mut listener = server(&federation);
    let anonymous = crate::hostile::dial_without_certificate(listener.local_address());
    let (_, at_server) = tokio::join!(anonymous, listener.accept());
    let error = at_server.unwrap().unwrap_err();
    assert_eq!(error.refused().unwrap().reason, Rejection::NoCertificate);
}

#[tokio::test]
async fn a_list_of_another_authority_lets_nobody_in() {
    let (ours, other) = (federation(), federation());
    let mut material = ours.server().clone();
    material.revocations.clone_from(&other.server().revocations);
    let client = participant(&ours);
    refused(
        tls(&material),
        client,
        Rejection::RevocationUnknown,
        PeerRefusal::Unchecked,
    )
    .await;
}

#[tokio::test]
async fn a_reloaded_list_ends_old_connections_and_refuses_new_ones() {
    let mut federation = federation();
    let (mut listener, client, server) = linked(&federation).await;
    let mut material = federation.server().clone();
    let old = tls(&material);
    material.revocations = federation.revoke("hospital-a").unwrap();
    let new = tls(&material);
    listener.reload(&new).unwrap();

    let now = SystemTime::now();
    assert_eq!(server.connection.recheck(&old, now), Ok(()));
    assert_eq!(
        server.connection.recheck(&new, now),
        Err(Rejection::Revoked)
    );
    server.connection.close(CloseCode::Revoked);
    assert_eq!(
        client.connection.closed().await,
        Closed::ByPeer(CloseCode::Revoked)
    );
    let (_, again) = meet(&mut listener, &participant(&federation)).await;
    assert_eq!(
        again.unwrap_err().refused().unwrap().reason,
        Rejection::Revoked
    );
}

#[tokio::test]
async fn a_revocation_shows_though_the_certificate_or_the_authority_is_over() {
    let mut federation = federation();
    let starts = Timestamp::now() - Duration::from_secs(60);
    let role = Role::Participant;
    let short = federation.issue(role, "hospital-a", starts, DAY).unwrap();
    let mut listener = server(&federation);
    let (_client, server) = meet(&mut listener, &tls(&short)).await;
    let connection = server.unwrap().connection;
    let mut material = federation.server().clone();
    let old = tls(&material);
    material.revocations = federation.revoke("hospital-a").unwrap();
    let new = tls(&material);
    let now = SystemTime::now();
    let over = connection.recheck(&old, now + 2 * DAY);
    assert!(matches!(over, Err(Rejection::Expired { .. })), "{over:?}");
    let over = connection.recheck(&old, now + 8 * DAY);
    assert_eq!(over, Err(Rejection::AuthorityExpired));
    for later in [2 * DAY, 8 * DAY] {
        let found = connection.recheck(&new, now + later);
        assert_eq!(found, Err(Rejection::Revoked));
    }
}

#[tokio::test]
async fn of_lists_that_follow_each_other_in_one_file_the_newest_counts() {
    let mut federation = federation();
    let (_listener, _client, server) = linked(&federation).await;
    let mut material = federation.server().clone();
    let old = material.revocations.clone();
    federation.revoke("hospital-a").unwrap();
    let new = federation.revocations(Timestamp::now() + DAY).unwrap();
    for lists in [[&*old, &*new], [&*new, &*old]] {
        material.revocations = lists.concat();
        let found = server
            .connection
            .recheck(&tls(&material), SystemTime::now());
        assert_eq!(found, Err(Rejection::Revoked));
    }
}

#[tokio::test]
async fn each_of_two_authorities_with_one_name_has_its_own_list() {
    let (first, mut second) = (federation(), federation());
    let authorities = [&*first.server().authority, &*second.server().authority].concat();
    let both = |own: &Material, second_list: &str| {
        TlsMaterial::from_pem(
            &own.certificate,
            &own.key,
            &authorities,
            Some(&[&*first.server().revocations, second_list].concat()),
        )
        .unwrap()
    };
    let list = second.server().revocations.clone();
    let mut listener = start(&both(first.server(), &list));
    let mut servers = Vec::new();
    for federation in [&first, &second] {
        let own = both(federation.participant("hospital-a").unwrap(), &list);
        let (at_client, at_server) = meet(&mut listener, &own).await;
        servers.push((at_client.unwrap(), at_server.unwrap().connection));
    }
    let list = second.revoke("hospital-a").unwrap();
    let new = both(first.server(), &list);
    let now = SystemTime::now();
    let found: Vec<_> = servers
        .iter()
        .map(|(_, one)| one.recheck(&new, now))
        .collect();
    assert_eq!(found, [Ok(()), Err(Rejection::Revoked)]);
}

#[tokio::test]
async fn a_full_server_says_that_it_is_busy() {
    let federation = federation();
    let limits = Limits {
        connections: 1,
        ..Limits::default()
    };
    let mut listener = listen(loopback(), &tls(federation.server()), &limits).unwrap();
    let client = participant(&federation);
    let (first, kept) = meet(&mut listener, &client).await;
    let error = connect(listener.local_address(), &client, &limits)
        .await
        .unwrap_err();
    assert!(matches!(error, HandshakeError::Busy { .. }), "{error}");
    assert!(error.is_temporary());
    let told = listener.accept().await.unwrap().unwrap_err();
    assert!(
        told.to_string().starts_with("turned 1 away unseen"),
        "{told}"
    );
    assert_eq!(told.label(), "turned-away");

    // The place is free again once the connection is gone.
    drop((first, kept));
    let address = listener.local_address();
    let accepting = tokio::spawn(async move {
        // It may be told of more that were turned away meanwhile.
        while let Some(outcome) = listener.accept().await {
            if outcome.is_ok() {
                return (outcome, listener);
            }
        }
        panic!("the listener ended");
    });
    let again = loop {
        match connect(address, &client, &limits).await {
            Err(HandshakeError::Busy { .. }) => tokio::task::yield_now().await,
            outcome => break outcome,
        }
    };
    again.unwrap();
    let (admitted, _listener) = accepting.await.unwrap();
    admitted.unwrap();
}

#[tokio::test]
async fn a_crowd_of_handshakes_is_made_to_prove_its_addresses_and_let_in() {
    let federation = federation();
    let limits = Limits {
        handshakes: 2,
        // Longer than the test takes.
        handshake_timeout: Duration::from_secs(600),
        ..Limits::default()
    };
    let mut listener = listen(loopback(), &tls(federation.server()), &limits).unwrap();
    let address = listener.local_address();
    let client = participant(&federation);
    // An empty listener takes an address at its word.
    let tap = Tap::before(address).await;
    let (first, kept) = tokio::join!(connect(tap.address, &client, &limits), listener.accept());
    assert!(!tap.saw_retry(), "the first of two places is free");
    drop((first.unwrap(), kept));

    let neighbour = federation.participant("hospital-b").unwrap();
    let slow = Hesitant::dial(neighbour, address).await;
    let tap = Tap::before(address).await;
    let (second, kept) = tokio::join!(connect(tap.address, &client, &limits), listener.accept());
    assert!(tap.saw_retry(), "half of the places is taken");
    second.unwrap();
    let kept = kept.unwrap().unwrap();
    assert_eq!(kept.connection.peer().name(), "hospital-a");

    // Both places are taken by those who have proven their addresses.
    let slower = Hesitant::dial(neighbour, address).await;
    let error = connect(address, &client, &limits).await.unwrap_err();
    assert!(matches!(error, HandshakeError::Busy { .. }), "{error}");
    drop((slow, slower));
    let told = listener.accept().await.unwrap().unwrap_err();
    assert!(
        told.to_string().starts_with("turned 1 away unseen"),
        "{told}"
    );
    assert!(
        matches!(
            told,
            HandshakeError::TurnedAway {
                limit: "handshakes",
                ..
            }
        ),
        "{told:?}"
    );
}

#[tokio::test]
async fn nobody_at_the_address_is_told_within_the_time_limit() {
    let silent = std::net::UdpSocket::bind(loopback()).unwrap();
    let limits = Limits {
        handshake_timeout: Duration::from_millis(200),
        ..Limits::default()
    };
    let client = participant(&federation());
    let address = silent.local_addr().unwrap();
    let error = connect(address, &client, &limits).await.unwrap_err();
    assert!(matches!(error, HandshakeError::TimedOut { .. }), "{error}");
    assert!(error.is_temporary());
}

#[tokio::test]
async fn a_dropped_connection_is_an_internal_error_and_not_the_end_of_the_run() {
    let (_listener, client, server) = linked(&federation()).await;
    drop(server);
    assert_eq!(
        client.connection.closed().await,
        Closed::ByPeer(CloseCode::Internal)
    );
}

#[tokio::test]
async fn closing_the_listener_tells_every_peer() {
    let (listener, client, server) = linked(&federation()).await;
    let (closed, ()) = tokio::join!(
        client.connection.closed(),
        listener.close(CloseCode::ServerStopping)
    );
    assert_eq!(closed, Closed::ByPeer(CloseCode::ServerStopping));
    assert!(closed.is_temporary());
    drop(server);
    client.connection.drained().await;
}

#[test]
fn the_key_is_in_no_debug_output() {
    let federation = federation();
    let material = federation.server();
    let tls = tls(material);
    let secret = material.key.lines().nth(1).unwrap();
    for text in [
        format!("{material:?}"),
        format!("{tls:?}"),
        format!("{federation:?}"),
    ] {
        assert!(!text.contains(secret), "{text}");
    }
    assert_eq!(tls.check(tls.identity().role(), SystemTime::now()), Ok(()));
}

#[test]
fn a_key_of_another_party_is_told_from_the_certificate() {
    let federation = federation();
    let (a, b) = (
        federation.participant("hospital-a").unwrap(),
        federation.participant("hospital-b").unwrap(),
    );
    let error = TlsMaterial::from_pem(&a.certificate, &b.key, &a.authority, None).unwrap_err();
    assert!(error.to_string().contains("hospital-a"), "{error}");
    let error = TlsMaterial::from_pem(&a.key, &a.key, &a.authority, None).unwrap_err();
    assert!(error.to_string().contains("certificate"), "{error}");
    let error = TlsMaterial::from_pem(&a.certificate, &a.key, &b.certificate, None).unwrap_err();
    assert!(error.to_string().contains("authority"), "{error}");
}
