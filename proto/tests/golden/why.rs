//! Samples of what is said about the way of a frame.

use proto::acl::Action;
use proto::capture::Insn;
use proto::name::IfName;
use proto::passage::{Imagined, Passage, Said, Step, Told, WatchRow, Watched};
use proto::query::{FlowQuery, Query};
use proto::report::{Answer, DropRow, RuleRef};

const VETH: IfName = IfName::Vethernet(12);

fn step(said: Said) -> Step {
    Step {
        stage: "acl-in".to_owned(),
        said,
        text: "denied".to_owned(),
        port: Some(VETH),
        rule: Some(RuleRef { acl: "thin".to_owned(), sequence: Some(40), action: Action::Deny }),
    }
}

fn passage() -> Passage {
    Passage {
        at_ns: Some(1_795_222_923_000_000_001),
        port: Some(VETH),
        length: 60,
        headers: "...".to_owned(),
        steps: vec![step(Said::Pass), step(Said::Drop), step(Said::Note)],
        dropped: Some("acl-deny".to_owned()),
        out: vec![IfName::Ethernet { slot: 3, port: 1 }],
    }
}

pub fn answers() -> Vec<Answer> {
    vec![
        Answer::Traced(passage()),
        Answer::Told(Told {
            id: 6,
            passages: vec![passage()],
            matched: 9,
            untold: 1,
            ended: Some("10 frames were told of".to_owned()),
        }),
        Answer::Watches(vec![WatchRow { what: "admin: icmp".to_owned(), matched: 9, seconds_left: 51 }]),
    ]
}

/// As agents tell it that know the rule.
pub fn drops_by_rule() -> Answer {
    let row = DropRow {
        port: Some(VETH),
        reason: "acl-deny".to_owned(),
        text: "denied by an access list".to_owned(),
        frames: 9,
        rule: Some(RuleRef { acl: "thin".to_owned(), sequence: None, action: Action::Deny }),
    };
    Answer::Drops(vec![row], Vec::new())
}

pub fn queries() -> Vec<Query> {
    vec![
        Query::Stored { flows: FlowQuery::default(), minutes: 10 },
        Query::StoreState,
        Query::Trace(Imagined { port: VETH, octets: vec![1, 2, 3] }),
        Query::WatchBegin(Watched {
            port: Some(VETH),
            filter: vec![Insn { code: 6, jt: 0, jf: 0, k: 65_535 }],
            count: 10,
            seconds: 60,
            what: "admin: icmp".to_owned(),
        }),
        Query::WatchRead(6),
        Query::WatchEnd(Some(6)),
        Query::Watches,
    ]
}
