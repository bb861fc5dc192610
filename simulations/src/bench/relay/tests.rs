//! A link with plain datagrams: who gets what, and from where.

use super::*;

/// A server that answers every datagram with its bytes, until it hears an empty one.
fn echo() -> (SocketAddr, JoinHandle<Vec<SocketAddr>>) {
    let server = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let address = server.local_addr().unwrap();
    let serve = move || {
        let (mut buffer, mut heard) = ([0; 64], Vec::new());
        loop {
            let (length, from) = server.recv_from(&mut buffer).unwrap();
            if length == 0 {
                return heard;
            }
            heard.push(from);
            server.send_to(&buffer[..length], from).unwrap();
        }
    };
    (address, thread::spawn(serve))
}

fn participant() -> UdpSocket {
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    socket
        .set_read_timeout(Some(Duration::from_millis(300)))
        .unwrap();
    socket
}

/// Sends and waits for the answer.
fn ask(participant: &UdpSocket, relay: &Relay, word: &[u8]) -> Option<Vec<u8>> {
    participant.send_to(word, relay.address()).unwrap();
    let mut buffer = [0; 64];
    let length = participant.recv(&mut buffer).ok()?;
    Some(buffer[..length].to_vec())
}

#[test]
fn the_link_passes_datagrams_counts_them_and_goes_dark() {
    let (server, _) = echo();
    let relay = Relay::open(server, Weather::FAIR, 1).unwrap();
    let participant = participant();
    assert_eq!(ask(&participant, &relay, b"one").unwrap(), b"one");
    relay.set_dark(true);
    assert_eq!(ask(&participant, &relay, b"lost"), None);
    relay.set_dark(false);
    assert_eq!(ask(&participant, &relay, b"two").unwrap(), b"two");
    assert_eq!(relay.traffic(), Traffic { up: 10, down: 6 });
}

#[test]
fn the_server_sees_another_address_after_a_change_and_the_same_participant_hears_it() {
    let (server, serving) = echo();
    let relay = Relay::open(server, Weather::FAIR, 1).unwrap();
    let participant = participant();
    ask(&participant, &relay, b"before").unwrap();
    relay.change_address().unwrap();
    assert_eq!(ask(&participant, &relay, b"after").unwrap(), b"after");
    participant.send_to(b"", server).unwrap();
    let heard = serving.join().unwrap();
    assert_ne!(heard[0], heard[1]);
}

#[test]
fn which_datagrams_are_lost_follows_from_the_seed() {
    let lost = |seed: u64| -> Vec<bool> {
        let weather = Weather {
            loss: 0.5,
            ..Weather::FAIR
        };
        let (lane, end) = Lane::new(weather, seed);
        for number in 0..64_u8 {
            lane.enter(&[number]);
        }
        lane.end();
        let mut passed = vec![true; 64];
        end.run(|datagram| passed[usize::from(datagram[0])] = false);
        passed
    };
    assert_eq!(lost(1), lost(1));
    assert_ne!(lost(1), lost(2));
    let count = lost(1).into_iter().filter(|&lost| lost).count();
    assert!((16..48).contains(&count), "{count}");
}

#[test]
fn a_rate_spaces_datagrams_and_what_the_queue_does_not_hold_is_dropped() {
    let weather = Weather {
        bytes_per_second: Some(1000),
        delay: Duration::from_millis(5),
        queue: Duration::from_millis(45),
        loss: 0.0,
    };
    let (lane, end) = Lane::new(weather, 1);
    let began = std::time::Instant::now();
    for _ in 0..10 {
        lane.enter(&[0; 20]);
    }
    lane.end();
    let mut passed = 0;
    end.run(|_| passed += 1);
    // 20 ms each: those that have waited 0, 20 and 40 ms, and no more.
    assert_eq!(passed, 3);
    assert!(Duration::from_millis(65) <= began.elapsed());
}
