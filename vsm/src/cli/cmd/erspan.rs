//! What monitor sessions say of ERSPAN: how copies are sent through the network.
//!
//! Type II is the default, because Suricata reads no newer one. A session sends from every module that sees a frame of its
//! sources, each with its own address unless `origin ip-address` says another. A session of type erspan-destination takes copies that
//! others have sent to a host of the switch, with `erspan-id`, and gives them to its destinations on that host.

use std::net::IpAddr;

use super::monitor::WORDS;
use super::target::{edit_session, is_no_host, wanted};
use crate::cli::render::Output;
use crate::cli::session::Session;
use crate::cli::tree::{Args, Command, Error, Mode, Run};
use crate::config::model::{HeaderType, Model, MonitorSession, SessionType};
use crate::config::monitor::{ErspanSettings, length_warning};

const SOURCE: &[Mode] = &[Mode::ErspanSource];
const DESTINATION: &[Mode] = &[Mode::ErspanDestination];
const BOTH: &[Mode] = &[Mode::ErspanSource, Mode::ErspanDestination];

/// Most hosts that `filter origin` names.
const ORIGINS_MAX: usize = 16;

fn of(syntax: &'static str, help: &'static str, no: &'static str, run: Run) -> Command {
    Command { modes: SOURCE, syntax, help, words: WORDS, no: Some(no), run }
}

/// The commands.
pub fn commands() -> Vec<Command> {
    let header = "header-type { <type=2> | <type=3> [ granularity <unit=100us|100ns|1588> | platform <form=n1kv> ] }";
    let receiving =
        |syntax, help, no, run| Command { modes: DESTINATION, syntax, help, words: WORDS, no: Some(no), run };
    vec![
        Command {
            modes: BOTH,
            syntax: "erspan-id <id:num:1-1023>",
            help: "Number of the copies",
            words: WORDS,
            no: Some("erspan-id [<id:num:1-1023>]"),
            run: |session, args| {
                let id = args.number("id").filter(|_| !args.negated).and_then(|id| u16::try_from(id).ok());
                edit(session, move |erspan| erspan.id = id)
            },
        },
        receiving(
            "source ip { <addr:ip> | <addr6:ip6> }",
            "Address of a host that copies are sent to",
            "source ip [ <addr:ip> | <addr6:ip6> ]",
            |session, args| {
                let at = if args.negated { None } else { Some(host(args)?) };
                edit_session(session, move |session, model| {
                    session.receive_at = at;
                    Ok(shared_id(model, session))
                })
            },
        ),
        receiving(
            "filter origin { <addr:ip> | <addr6:ip6> }",
            "Take copies of this host",
            "filter origin [ <addr:ip> | <addr6:ip6> ]",
            origin,
        ),
        of(
            "destination ip { <addr:ip> | <addr6:ip6> }",
            "Where copies go",
            "destination ip [ <addr:ip> | <addr6:ip6> ]",
            |session, args| address(session, args, |erspan| &mut erspan.destination),
        ),
        of(
            "origin ip-address { <addr:ip> | <addr6:ip6> }",
            "Address that copies come from",
            "origin ip-address [ <addr:ip> | <addr6:ip6> ]",
            |session, args| address(session, args, |erspan| &mut erspan.origin),
        ),
        of("ip ttl <ttl:num:1-255>", "Time to live of copies", "ip ttl [<ttl:num:1-255>]", |session, args| {
            let ttl = args.number("ttl").filter(|_| !args.negated).and_then(|ttl| u8::try_from(ttl).ok());
            edit(session, move |erspan| erspan.ttl = ttl)
        }),
        of("ip dscp <dscp:num:0-63>", "DSCP of copies", "ip dscp [<dscp:num:0-63>]", |session, args| {
            let dscp = args.number("dscp").filter(|_| !args.negated).and_then(|dscp| u8::try_from(dscp).ok());
            edit(session, move |erspan| erspan.dscp = dscp)
        }),
        of("ip prec <prec:num:0-7>", "Precedence of copies", "ip prec [<prec:num:0-7>]", |session, args| {
            let prec = args.number("prec").filter(|_| !args.negated).and_then(|prec| u8::try_from(prec).ok());
            edit(session, move |erspan| erspan.dscp = prec.map(|prec| prec << 3))
        }),
        of(header, "Header of copies", "header-type", header_type),
        of("keep-tag", "Leave VLAN tags in the frames", "keep-tag", |session, args| {
            let keep = !args.negated;
            edit(session, move |erspan| erspan.keep_tag = keep)
        }),
        of("fragment", "Let long copies be cut on their way over IPv4", "fragment", |session, args| {
            let fragment = !args.negated;
            edit(session, move |erspan| erspan.fragment = fragment)
        }),
    ]
}

fn edit(session: &mut Session, change: impl FnOnce(&mut ErspanSettings) + Send + 'static) -> Result<Output, Error> {
    edit_session(session, move |session, model| {
        let warning = |session: &MonitorSession| {
            let sends = session.kind == SessionType::ErspanSource && session.has_destination() && !session.shut;
            sends.then(|| length_warning(model, session)).flatten()
        };
        let before = warning(session);
        change(&mut session.erspan);
        let shared = shared_id(model, session);
        Ok(warning(session).filter(|after| before.as_ref() != Some(after)).into_iter().chain(shared).collect())
    })
}

fn address(
    session: &mut Session,
    args: &Args,
    field: fn(&mut ErspanSettings) -> &mut Option<IpAddr>,
) -> Result<Output, Error> {
    let addr = if args.negated { None } else { Some(host(args)?) };
    edit(session, move |erspan| *field(erspan) = addr)
}

/// The address that was typed.
fn typed(args: &Args) -> Option<IpAddr> {
    args.address("addr", "addr6")
}

/// The address of a host, which others can send to.
fn host(args: &Args) -> Result<IpAddr, Error> {
    let address = wanted(typed(args))?;
    match is_no_host(address) || address.is_loopback() {
        true => Err(Error::Refused("Address is not that of a host".to_owned())),
        false => Ok(address),
    }
}

/// Of two sessions that take the same copies, the first gets them.
fn shared_id(model: &Model, session: &MonitorSession) -> Vec<String> {
    let same = |other: &MonitorSession| {
        let at = [other.receive_at, session.receive_at];
        let meet = at.contains(&None) || at[0] == at[1];
        other.kind == session.kind && other.erspan.id == session.erspan.id && meet
    };
    if session.kind != SessionType::ErspanDestination {
        return Vec::new();
    }
    let Some(id) = session.erspan.id else { return Vec::new() };
    let others = model.sessions.iter().filter(|(_, other)| same(other)).map(|(number, _)| number.to_string());
    let others: Vec<String> = others.collect();
    match others.is_empty() {
        true => Vec::new(),
        false => vec![format!(
            "Copies with ERSPAN id {id} go to session {} as well; of these, the first that runs on a module gets them",
            others.join(", ")
        )],
    }
}

fn origin(session: &mut Session, args: &Args) -> Result<Output, Error> {
    let negated = args.negated;
    let addr = if negated { typed(args) } else { Some(host(args)?) };
    edit_session(session, move |session, _| {
        let origins = &mut session.origins;
        match addr {
            Some(addr) if !negated && !origins.contains(&addr) => origins.push(addr),
            Some(addr) if negated && !origins.contains(&addr) => {
                return Err(format!("{addr} is not an origin of the session"));
            }
            addr if negated => origins.retain(|origin| addr.is_some_and(|addr| addr != *origin)),
            _ => {}
        }
        match origins.len() > ORIGINS_MAX {
            true => Err(format!("A session has at most {ORIGINS_MAX} origins")),
            false => Ok(Vec::new()),
        }
    })
}

fn header_type(session: &mut Session, args: &Args) -> Result<Output, Error> {
    let header = match (args.text("type"), args.text("unit"), args.text("form")) {
        _ if args.negated => None,
        (Some("2"), ..) => Some(HeaderType::Two),
        (_, Some("100us"), _) => Some(HeaderType::Micros100),
        (_, Some("1588"), _) => Some(HeaderType::Ieee1588),
        (_, _, Some(_)) => Some(HeaderType::Nexus1000v),
        _ => Some(HeaderType::Nanos100),
    };
    edit(session, move |erspan| erspan.header = header)
}
