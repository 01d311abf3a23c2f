use super::*;

const TEMPLATE: [u8; 16] = [0, 2, 0, 16, 1, 0, 0, 2, 0, 8, 0, 4, 0, 1, 0, 8];
const OPTIONS: [u8; 18] = [0, 3, 0, 18, 2, 0, 0, 2, 0, 1, 0, 10, 0, 4, 0, 82, 0xFF, 0xFF];

fn message(sets: &[&[u8]], time: u8) -> Vec<u8> {
    let length = HEADER + sets.iter().map(|set| set.len()).sum::<usize>();
    let mut octets = vec![0, 10, (length >> 8) as u8, length as u8, 0, 0, 0, time, 9, 9, 9, 9, 0, 0, 0, 3];
    sets.iter().for_each(|set| octets.extend_from_slice(set));
    octets
}

fn data(records: u8) -> Vec<u8> {
    let mut set = vec![1, 0, 0, 4 + records * 12];
    set.extend((0..records * 12).map(|n| n + 1));
    set
}

/// Two interfaces, of names of different lengths.
fn options() -> Vec<u8> {
    vec![2, 0, 0, 20, 0, 0, 0, 1, 3, b'o', b'n', b'e', 0, 0, 0, 2, 2, b'i', b'i', 0]
}

fn weight(flows: u32) -> Weight {
    Weight { flows, ..Weight::default() }
}

/// Messages: sequence, and ids of the sets.
fn read(mut octets: &[u8]) -> Vec<(u32, Vec<u16>)> {
    let mut out = Vec::new();
    while let Some(head) = octets.first_chunk::<HEADER>() {
        let length = usize::from(u16::from_be_bytes([head[2], head[3]]));
        let sequence = u32::from_be_bytes([head[8], head[9], head[10], head[11]]);
        out.push((sequence, sets(&octets[HEADER..length]).map(|(id, _)| id).collect()));
        octets = &octets[length..];
    }
    out
}

fn drain(session: &mut Session) -> (Vec<(u32, Vec<u16>)>, Progress) {
    let (mut progress, mut octets) = (Progress::default(), Vec::new());
    while let Some(more) = session.next(&mut progress) {
        octets.extend(more);
    }
    (read(&octets), progress)
}

#[test]
fn templates_come_once_and_first_and_the_sequence_counts_records() {
    let mut session = Session::default();
    session.begin();
    session.offer(&message(&[&TEMPLATE, &OPTIONS, &options(), &data(3)], 1), weight(3));
    session.offer(&message(&[&TEMPLATE, &data(2)], 2), weight(2));
    session.offer(&message(&[&TEMPLATE], 3), Weight::default());
    let (messages, progress) = drain(&mut session);
    assert_eq!(messages, [(0, vec![2, 3]), (0, vec![512, 256]), (5, vec![256])]);
    assert_eq!((progress.sent.0, progress.sent.1.flows), (2, 5));
    session.offer(&message(&[&data(1)], 4), weight(1));
    assert_eq!(drain(&mut session).0, [(7, vec![256])]);
}

#[test]
fn the_next_session_begins_anew_with_what_was_not_acknowledged() {
    let mut session = Session::default();
    session.begin();
    session.offer(&message(&[&TEMPLATE, &OPTIONS, &options()], 1), Weight::default());
    session.offer(&message(&[&data(3)], 2), weight(3));
    session.offer(&message(&[&data(2)], 3), weight(2));
    drain(&mut session);
    assert_eq!(session.unacknowledged(), 3);
    let last = (HEADER + data(2).len()) as u64;
    session.acknowledged(last + 1);
    assert_eq!(session.unacknowledged(), 2, "one octet of it is not");
    session.acknowledged(last);
    assert_eq!(session.unacknowledged(), 1);
    session.end();
    session.offer(&message(&[&data(1)], 4), weight(1));
    session.begin();
    let (messages, progress) = drain(&mut session);
    assert_eq!(messages, [(0, vec![2, 3]), (0, vec![512]), (2, vec![256]), (4, vec![256])]);
    assert_eq!((progress.sent.1.flows, session.replayed()), (1, 1), "what is sent again is not counted again");
    session.acknowledged(0);
    assert_eq!(session.unacknowledged(), 0);
}

#[test]
fn a_buffer_that_is_full_gives_up_the_oldest_counts_it_and_shows_it_in_the_sequence() {
    let mut session = Session::default();
    session.offer(&message(&[&TEMPLATE, &data(4)], 1), weight(4));
    session.begin();
    drain(&mut session);
    session.acknowledged(0);
    let offered = KEPT_MAX / data(20).len() + 10;
    let mut lost = 0;
    for _ in 0..offered {
        lost += session.offer(&message(&[&data(20)], 2), weight(20)).lost.1.flows;
    }
    assert_eq!(lost, 200);
    let (messages, progress) = drain(&mut session);
    assert_eq!(messages[0].0, 4 + lost);
    assert_eq!(progress.sent.1.flows as usize, offered * 20 - 200);
}

#[test]
fn what_is_no_message_is_not_taken() {
    let mut session = Session::default();
    session.begin();
    session.offer(&[0, 10, 0], Weight::default());
    session.offer(&message(&[&[1, 0, 0, 200, 1]], 1), weight(1));
    session.offer(&message(&[&[0, 2, 0, 8, 1, 0, 0, 9]], 1), Weight::default());
    assert_eq!(drain(&mut session).0, []);
}
