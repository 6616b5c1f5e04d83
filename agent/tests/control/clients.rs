//! Other clients: correct, faulty and malicious ones.

use std::io::{BufRead as _, BufReader, ErrorKind, Read as _, Write as _};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;

use serde_json::Value;

use crate::machine::{ENERGY, MAX_CLIENTS, Machine, exchange};

#[test]
fn a_connection_carries_several_requests_and_bad_ones_get_replies_too() {
    let machine = Machine::new();
    let agent = machine.start("rapl,jsonl", &[]);
    let stream = machine.connect();
    for (request, kind) in [
        ("", "bad-request"),
        ("\u{1}\u{2}", "bad-request"),
        ("[[[[", "bad-request"),
        (r#"{"schema":"wattrace.control/2","command":"status"}"#, "unknown-schema"),
        (r#"{"schema":"wattrace.control/1","command":"pause","element":"*","why":1}"#, "bad-request"),
    ] {
        assert_eq!(exchange(&stream, &format!("{request}\n"))["error"]["kind"], kind, "{request}");
    }
    let good = "{\"schema\":\"wattrace.control/1\",\"command\":\"list\"}\n";
    assert_eq!(exchange(&stream, good)["names"][1], ENERGY);
    // A client that has shut down writing still gets its reply.
    (&stream).write_all(good.as_bytes()).unwrap();
    stream.shutdown(Shutdown::Write).unwrap();
    let mut rest = String::new();
    (&stream).read_to_string(&mut rest).unwrap();
    assert_eq!(serde_json::from_str::<Value>(&rest).unwrap()["ok"], true);

    // A request that is too long is refused, whether it ends or not.
    for end in ["", "\n"] {
        let stream = machine.connect();
        let long = exchange(&stream, &("x".repeat(17_000) + end));
        assert_eq!(long["error"]["kind"], "bad-request");
        assert!(long["error"]["message"].as_str().unwrap().contains("16384"), "{long}");
    }
    // A client that disconnects within a request.
    (&machine.connect()).write_all(b"{\"schema\":").unwrap();
    assert_eq!(machine.json(&["list"])["ok"], true);
    agent.stop();
}

/// As many clients as the agent takes. The command before may still count as one when they connect, so those
/// that are refused are replaced until only one more is.
fn occupy(machine: &Machine) -> Vec<UnixStream> {
    let mut clients = Vec::new();
    loop {
        clients.extend((clients.len()..MAX_CLIENTS).map(|_| machine.connect()));
        let more = machine.connect();
        // It may be refused, and closed, before it asks or reads.
        _ = (&more).write_all(b"{\"schema\":\"wattrace.control/1\",\"command\":\"list\"}\n");
        let mut line = String::new();
        _ = BufReader::new(&more).read_line(&mut line);
        let is_busy = !line.contains("\"ok\":true");
        // Clients are accepted in turn: what was refused before that one has its answer.
        clients.retain(is_accepted);
        if is_busy && clients.len() == MAX_CLIENTS {
            return clients;
        }
    }
}

/// Whether the agent has not refused the client.
fn is_accepted(client: &UnixStream) -> bool {
    client.set_nonblocking(true).unwrap();
    let answer = (&*client).read(&mut [0; 1]);
    client.set_nonblocking(false).unwrap();
    answer.is_err_and(|e| e.kind() == ErrorKind::WouldBlock)
}

#[test]
fn idle_clients_do_not_delay_tracing_and_are_disconnected() {
    let machine = Machine::new();
    let agent = machine.start("rapl,jsonl", &[]);
    machine.json(&["set-interval", ENERGY, "5ms"]);
    let silent = occupy(&machine);
    for (nth, stream) in silent.iter().enumerate() {
        if nth % 2 == 0 {
            (&*stream).write_all(b"{\"schema\"").unwrap();
        }
    }
    machine.control(&["status"]).is(1, &["clients are connected already; try again"]);
    // The agent closes all of the connections.
    for mut stream in &silent {
        match stream.read(&mut [0; 64]) {
            Ok(read) => assert_eq!(read, 0),
            // Data that the client had sent was not read.
            Err(e) => assert_eq!(e.kind(), ErrorKind::ConnectionReset, "{e}"),
        }
    }
    let source = machine.element(ENERGY);
    assert!(source["ticks"]["count"].as_u64() > Some(500), "5 s of ticks every 5 ms: {source}");
    // A client that sends requests and never reads delays no other.
    let unread = machine.connect();
    unread.set_nonblocking(true).unwrap();
    let ask = b"{\"schema\":\"wattrace.control/1\",\"command\":\"status\"}\n".repeat(10_000);
    _ = (&unread).write(&ask);
    assert_eq!(machine.json(&["list"])["ok"], true);
    // The agent stops in spite of the client.
    agent.stop();
    assert!(!machine.socket().exists());
}
