//! `show vhost`: a block for each vhost-user port.

use vswitch::port::vhost::{VhostCounters, VhostState};

use crate::attach::Attachment;
use crate::request::vhost::{Role, VhostUser};
use crate::switch::{Live, Switch};

/// Names of the features that decide what a port can do, as the virtio specification has them (1.2, 5.1.3 and 6).
const FEATURES: [(u32, &str); 18] = [
    (0, "CSUM"),
    (1, "GUEST_CSUM"),
    (7, "GUEST_TSO4"),
    (8, "GUEST_TSO6"),
    (9, "GUEST_ECN"),
    (11, "HOST_TSO4"),
    (12, "HOST_TSO6"),
    (13, "HOST_ECN"),
    (15, "MRG_RXBUF"),
    (17, "CTRL_VQ"),
    (22, "MQ"),
    (27, "ANY_LAYOUT"),
    (28, "INDIRECT_DESC"),
    (29, "EVENT_IDX"),
    (32, "VERSION_1"),
    (54, "GUEST_USO4"),
    (55, "GUEST_USO6"),
    (56, "HOST_USO"),
];

/// What is known of a guest.
struct Guest {
    connected: bool,
    pairs: u16,
    features: u64,
    error: Option<String>,
    counters: VhostCounters,
}

impl Guest {
    fn of(state: &VhostState) -> Guest {
        Guest {
            connected: state.connected(),
            pairs: state.queue_pairs(),
            features: state.features(),
            error: state.error(),
            counters: state.counters(),
        }
    }
}

/// The blocks, with an empty line between two.
pub fn blocks(switch: &Switch) -> String {
    let block = |(attachment, live): (&Attachment, &Live)| {
        let socket = attachment.vhost.as_ref()?;
        let name = switch.plan().name(attachment.port());
        let name = name.map_or_else(|| "no interface yet".to_owned(), |name| name.to_string());
        let title = format!("{} ({name}, device {})", attachment.nic, attachment.device);
        Some(match live.guest() {
            Some(state) => block(&title, socket, &Guest::of(state)),
            None => {
                let problem = live.problem.as_deref().unwrap_or("not opened");
                format!("{title}\n  Socket     : {}\n  Not opened : {problem}\n", place(socket))
            }
        })
    };
    let blocks: Vec<String> = switch.ports().filter_map(block).collect();
    if blocks.is_empty() { "no vhost-user ports\n".to_owned() } else { blocks.join("\n") }
}

fn place(socket: &VhostUser) -> String {
    match socket.role {
        Role::Server => format!("{} (server: the agent listens)", socket.path),
        Role::Client => format!("{} (client: QEMU listens)", socket.path),
    }
}

fn block(title: &str, socket: &VhostUser, guest: &Guest) -> String {
    let there = match (guest.connected, guest.pairs) {
        (false, _) => "not connected".to_owned(),
        (true, 0) => "connected, its driver is not ready".to_owned(),
        (true, pairs) => format!("connected, {pairs} of {} queue pairs run", socket.queues),
    };
    let count = &guest.counters;
    format!(
        "{title}\n  Socket     : {}\n  Guest      : {there}\n  Features   : {}\n  \
         Connection : {} reconnects, {} resets\n  Rings      : {} kicks, {} calls\n  \
         Errors     : {} bad descriptors, {} rings stopped\n  Last error : {}\n",
        place(socket),
        features(guest.features),
        count.reconnects,
        count.resets,
        count.kicks,
        count.calls,
        count.bad_descriptors,
        count.ring_errors,
        guest.error.as_deref().unwrap_or("none"),
    )
}

fn features(bits: u64) -> String {
    if bits == 0 {
        return "none".to_owned();
    }
    let named = FEATURES.iter().filter(|(bit, _)| bits >> bit & 1 == 1);
    let names: String = named.flat_map(|(_, name)| [name, " "]).collect();
    format!("{names}(0x{bits:x})")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::request::vhost::MODE;

    fn guest() -> Guest {
        Guest { connected: false, pairs: 0, features: 0, error: None, counters: VhostCounters::default() }
    }

    #[test]
    fn a_block_says_who_is_there_and_what_went_wrong() {
        let socket = VhostUser { path: "/run/s".into(), role: Role::Client, queues: 2, mode: MODE, owner: None };
        let nobody = block("web1/0", &socket, &guest());
        assert!(nobody.contains("/run/s (client: QEMU listens)") && nobody.contains(": not connected"), "{nobody}");
        assert!(nobody.contains("Features   : none") && nobody.contains("Last error : none"), "{nobody}");
        let early = block("web1/0", &socket, &Guest { connected: true, ..guest() });
        assert!(early.contains("driver is not ready"), "{early}");
        let counters = VhostCounters { reconnects: 3, ring_errors: 1, ..VhostCounters::default() };
        let error = Some("queue 1 stopped: why".to_owned());
        let busy = Guest { connected: true, pairs: 1, features: 1 << 32 | 1 << 15, error, counters };
        let busy = block("web1/0", &socket, &busy);
        assert!(busy.contains("1 of 2 queue pairs run") && busy.contains("3 reconnects"), "{busy}");
        assert!(busy.contains("Features   : MRG_RXBUF VERSION_1 (0x100008000)"), "{busy}");
        assert!(busy.contains("1 rings stopped") && busy.contains("Last error : queue 1 stopped: why"), "{busy}");
    }

    #[test]
    fn every_feature_that_is_offered_has_a_name() {
        // Bit 30 is the protocol's own.
        let named = FEATURES.iter().fold(1 << 30, |all: u64, (bit, _)| all | 1 << bit);
        assert_eq!(vswitch::port::vhost::offered(8) & !named, 0);
    }
}
