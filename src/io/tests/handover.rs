//! A connection that goes from one back end to another.

use super::*;

on_both![
    a_connection_goes_to_another_back_end_without_losing_a_byte,
    a_connection_that_is_not_up_is_not_handed_out,
    what_is_sent_until_a_handover_is_told_of_goes_along,
    a_connection_closed_on_its_way_out_is_silent,
    a_peer_that_does_not_read_holds_no_handover,
    an_end_of_the_peer_on_the_way_out_is_told_here_or_there,
];

fn a_connection_goes_to_another_back_end_without_losing_a_byte(kind: BackendKind) {
    let (mut here, mut token, mut peer) =
        connected(kind, Config { buffers: 8, buffer_len: 4096, sockets_max: 2 });
    let mut there = Net::new(kind, Config { buffers: 8, buffer_len: 4096, sockets_max: 2 });
    let writer = thread::spawn(move || {
        peer.write_all(&pattern(1, 4 * MIB)).unwrap();
        let mut requests = Vec::new();
        peer.set_read_timeout(Some(PATIENCE)).unwrap();
        peer.read_to_end(&mut requests).unwrap();
        requests
    });
    let (mut received, mut sent, mut moves) = (Vec::new(), Vec::new(), 0_u32);
    while received.len() < 4 * MIB {
        // Some of it leaves here, some comes along.
        let request = moves.to_be_bytes();
        here.io.send(token, &request).unwrap();
        if moves.is_multiple_of(2) {
            here.io.wait(Some(Duration::ZERO), Duration::ZERO).unwrap();
        }
        here.io.hand_out(token).unwrap();
        here.io.send(token, b"late").unwrap();
        sent.extend([&request[..], b"late"].concat());
        let handover = loop {
            match here.io.next_completion() {
                Some(Completion::HandedOut(from, handover)) if from == token => break handover,
                Some(Completion::Received(_, bytes)) => received.extend_from_slice(&bytes),
                Some(other) => panic!("{other:?}"),
                None => here.io.wait(Some(PATIENCE), Duration::ZERO).unwrap(),
            }
        };
        assert_eq!(here.io.send(token, b"x"), Err(SendError::NotOpen));
        assert_eq!(here.io.inspect().free_slots, 2);
        token = there.io.take_over(handover).unwrap();
        std::mem::swap(&mut here, &mut there);
        moves += 1;
        here.io.wait(Some(PATIENCE), Duration::ZERO).unwrap();
        if let Some(completion) = here.io.next_completion() {
            let Completion::Received(_, bytes) = completion else { panic!("{completion:?}") };
            received.extend_from_slice(&bytes);
        }
    }
    assert!(received == pattern(1, 4 * MIB) && moves > 10, "{moves} moves");
    here.io.wait(Some(Duration::ZERO), Duration::ZERO).unwrap();
    here.io.close(token);
    while here.io.inspect().free_slots < 2 {
        here.turn();
    }
    assert!(writer.join().unwrap() == sent, "what was sent arrives once and in order");
}

fn a_connection_that_is_not_up_is_not_handed_out(kind: BackendKind) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut net = Net::new(kind, Config::default());
    let token = net.io.connect(listener.local_addr().unwrap()).unwrap();
    assert_eq!(net.io.hand_out(token), Err(SendError::NotOpen));
    net.until(|c| matches!(c, Completion::Connected(_)));
    net.io.hand_out(token).unwrap();
    assert_eq!(net.io.hand_out(token), Err(SendError::NotOpen));
    net.until(|c| matches!(c, Completion::HandedOut(..)));
    assert_eq!(net.io.hand_out(token), Err(SendError::NotOpen));
}

fn what_is_sent_until_a_handover_is_told_of_goes_along(kind: BackendKind) {
    for is_paused in [true, false] {
        let (mut here, token, mut peer) = connected(kind, Config::default());
        let mut there = Net::new(kind, Config::default());
        if is_paused {
            here.io.pause(token);
        }
        // With a pause there is nothing to wait for after this.
        here.io.wait(Some(Duration::ZERO), Duration::ZERO).unwrap();
        while here.io.next_completion().is_some() {}
        here.io.hand_out(token).unwrap();
        let mut sent = 0;
        let handover = loop {
            here.io.send(token, b"x").unwrap();
            sent += 1;
            match here.io.next_completion() {
                Some(Completion::HandedOut(_, handover)) => break handover,
                Some(other) => panic!("{other:?}"),
                None => here.wait(),
            }
        };
        assert_eq!(here.io.send(token, b"x"), Err(SendError::NotOpen));
        let token = there.io.take_over(handover).unwrap();
        there.io.wait(Some(Duration::ZERO), Duration::ZERO).unwrap();
        there.io.close(token);
        while there.io.inspect().free_slots < there.sockets() {
            there.turn();
        }
        let mut all = String::new();
        peer.set_read_timeout(Some(PATIENCE)).unwrap();
        peer.read_to_string(&mut all).unwrap();
        assert_eq!(all, "x".repeat(sent));
    }
}

fn a_connection_closed_on_its_way_out_is_silent(kind: BackendKind) {
    for is_paused in [true, false] {
        let (mut net, token, mut peer) = connected(kind, Config::default());
        if is_paused {
            net.io.pause(token);
        }
        net.io.wait(Some(Duration::ZERO), Duration::ZERO).unwrap();
        while net.io.next_completion().is_some() {}
        net.io.hand_out(token).unwrap();
        net.io.send(token, b"TEARDOWN").unwrap();
        net.io.close(token);
        while net.io.inspect().free_slots < net.sockets() {
            assert!(net.turn().is_empty(), "a closed token is heard of");
        }
        net.io.wait(Some(Duration::ZERO), Duration::ZERO).unwrap();
        assert!(net.io.next_completion().is_none(), "a closed token is heard of");
        let mut rest = String::new();
        peer.set_read_timeout(Some(PATIENCE)).unwrap();
        peer.read_to_string(&mut rest).unwrap();
        assert_eq!(rest, "TEARDOWN");
    }
}

fn a_peer_that_does_not_read_holds_no_handover(kind: BackendKind) {
    let (mut here, token, mut peer) = connected(kind, Config::default());
    let mut there = Net::new(kind, Config::default());
    let chunk = pattern(5, OUTBOX_LEN_MAX / 2);
    let mut taken = 0;
    while here.io.send(token, &chunk).is_ok() {
        taken += chunk.len();
        here.io.wait(Some(Duration::ZERO), Duration::ZERO).unwrap();
        while here.io.next_completion().is_some() {}
    }
    here.io.hand_out(token).unwrap();
    let told = here.until(|c| matches!(c, Completion::HandedOut(..)));
    let Completion::HandedOut(_, handover) = told else { unreachable!() };
    there.io.take_over(handover).unwrap();
    let reader = thread::spawn(move || {
        let mut all = vec![0; taken];
        peer.read_exact(&mut all).unwrap();
        all
    });
    while there.io.inspect().unsent_len > 0 {
        there.turn();
    }
    assert!(reader.join().unwrap().chunks(chunk.len()).all(|c| c == chunk));
}

fn an_end_of_the_peer_on_the_way_out_is_told_here_or_there(kind: BackendKind) {
    for is_first in [true, false] {
        let (mut here, token, mut peer) = connected(kind, Config { buffer_len: 4096, ..Config::default() });
        let mut there = Net::new(kind, Config::default());
        peer.write_all(&pattern(2, 20_000)).unwrap();
        if is_first {
            here.io.hand_out(token).unwrap();
        }
        peer.shutdown(Shutdown::Write).unwrap();
        if !is_first {
            here.io.hand_out(token).unwrap();
        }
        let (mut received, mut handed_out, mut is_over) = (Vec::new(), None, false);
        while !is_over {
            let told = if handed_out.is_some() { there.turn() } else { here.turn() };
            for completion in told {
                match completion {
                    Completion::Received(_, bytes) => received.extend_from_slice(&bytes),
                    Completion::HandedOut(_, handover) => {
                        handed_out = Some(there.io.take_over(handover).unwrap());
                    }
                    Completion::Closed(of, CloseReason::Ended) => {
                        is_over = of == handed_out.unwrap_or(token);
                    }
                    other @ (Completion::Connected(_)
                    | Completion::ConnectFailed(..)
                    | Completion::Closed(..)
                    | Completion::Woken) => panic!("{other:?}"),
                }
            }
        }
        assert!(received == pattern(2, 20_000), "{} bytes", received.len());
    }
}
