//! What monitor sessions say of ERSPAN: how copies are sent through the network.
//!
//! Type II is the default, because Suricata reads no newer one. A session sends from every module that sees a frame of its
//! sources, each with its own address unless `origin ip-address` says another.

use super::monitor::WORDS;
use super::target::{edit_session, wanted};
use crate::cli::render::Output;
use crate::cli::session::Session;
use crate::cli::tree::{Args, Command, Error, Mode, Run};
use crate::config::model::{HeaderType, MonitorSession};
use crate::config::monitor::{ErspanSettings, length_warning};

const SOURCE: &[Mode] = &[Mode::ErspanSource];

fn of(syntax: &'static str, help: &'static str, no: &'static str, run: Run) -> Command {
    Command { modes: SOURCE, syntax, help, words: WORDS, no: Some(no), run }
}

/// The commands.
pub fn commands() -> Vec<Command> {
    let header = "header-type { <type=2> | <type=3> [ granularity <unit=100us|100ns|1588> | platform <form=n1kv> ] }";
    vec![
        of("erspan-id <id:num:1-1023>", "Number of the copies", "erspan-id [<id:num:1-1023>]", |session, args| {
            let id = args.number("id").filter(|_| !args.negated).and_then(|id| u16::try_from(id).ok());
            edit(session, move |erspan| erspan.id = id)
        }),
        of("destination ip <addr:ip>", "Where copies go", "destination ip [<addr:ip>]", |session, args| {
            address(session, args, |erspan| &mut erspan.destination)
        }),
        of(
            "origin ip-address <addr:ip>",
            "Address that copies come from",
            "origin ip-address [<addr:ip>]",
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
    ]
}

fn edit(session: &mut Session, change: impl FnOnce(&mut ErspanSettings) + Send + 'static) -> Result<Output, Error> {
    edit_session(session, move |session, model| {
        let warning = |session: &MonitorSession| {
            let sends = session.has_destination() && !session.shut;
            sends.then(|| length_warning(model, session)).flatten()
        };
        let before = warning(session);
        change(&mut session.erspan);
        Ok(warning(session).filter(|after| before.as_ref() != Some(after)).into_iter().collect())
    })
}

fn address(
    session: &mut Session,
    args: &Args,
    field: fn(&mut ErspanSettings) -> &mut Option<std::net::Ipv4Addr>,
) -> Result<Output, Error> {
    let addr = if args.negated { None } else { Some(wanted(args.ip("addr"))?) };
    if addr.is_some_and(|ip| ip.is_unspecified() || ip.is_multicast() || ip.is_broadcast() || ip.is_loopback()) {
        return Err(Error::Refused("Address is not that of a host".to_owned()));
    }
    edit(session, move |erspan| *field(erspan) = addr)
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
