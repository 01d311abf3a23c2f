//! `show interface`: a block per interface.

use proto::report::{Counters, PortRow};
use proto::vlan::PortMode;
use serde_json::Value;

use super::exec;
use super::gather::{Port, asked_ports, short_time};
use crate::cli::render::{Output, leaves, table_list};
use crate::cli::session::Session;
use crate::cli::tree::{Args, Command, Error};

/// The commands.
pub fn commands() -> Vec<Command> {
    vec![exec("show interface [<if:ifs>]", "Display interface status and counters", &[], show)]
}

fn show(session: &mut Session, args: &Args) -> Result<Output, Error> {
    let (ports, asked) = asked_ports(session, args)?;
    Ok(asked.warn(blocks(&ports)))
}

/// The blocks.
pub fn blocks(ports: &[Port]) -> Output {
    let text = ports.iter().map(block).collect::<Vec<_>>().join("\n");
    Output::with_json(text, table_list("interface", ports.iter().map(json).collect()))
}

/// The mode as `show interface` writes it.
pub fn mode_word(port: &Port) -> &'static str {
    match port.settings.mode {
        PortMode::Access(_) => "access",
        PortMode::Trunk { .. } => "trunk",
    }
}

fn flapped(port: &Port) -> String {
    port.row.as_ref().map_or_else(|| "never".to_owned(), |row| short_time(row.since_s))
}

fn block(port: &Port) -> String {
    let name = port.name;
    let mut text = match port.is_up() {
        true => format!("{name} is up\n"),
        false => format!("{name} is down ({})\n", port.reason()),
    };
    let admin = if port.settings.admin_up { "up" } else { "down" };
    text.push_str(&format!("admin state is {admin}, Dedicated Interface\n"));
    match (&port.profile, port.slot) {
        (Some(profile), Some(slot)) => {
            text.push_str(&format!("  Belongs to port-profile {profile} on module {slot}\n"))
        }
        (Some(profile), None) => text.push_str(&format!("  Belongs to port-profile {profile}\n")),
        _ => {}
    }
    let mac = port.mac();
    text.push_str(&format!("  Hardware: Virtual, address: {mac} (bia {mac})\n"));
    if !port.settings.description.is_empty() {
        text.push_str(&format!("  Description: {}\n", port.settings.description));
    }
    text.push_str(&format!(
        "  MTU {} bytes, BW 10000000 Kbit, DLY 10 usec\n  \
           reliability 255/255, txload 1/255, rxload 1/255\n  \
           Encapsulation ARPA, medium is broadcast\n  \
           Port mode is {}\n  \
           full-duplex, 10 Gb/s\n  \
           Last link flapped {}\n",
        port.mtu(),
        mode_word(port),
        flapped(port),
    ));
    if let Some(row) = &port.row {
        text.push_str(&counters(row));
    }
    text
}

fn counters(row: &PortRow) -> String {
    let PortRow { rx, tx, .. } = row;
    let kinds = |c: &Counters| {
        format!(
            "    {} unicast packets  {} multicast packets  {} broadcast packets\n",
            c.unicast, c.multicast, c.broadcast
        )
    };
    let mut text = format!(
        "  30 seconds input rate {} bits/sec, {} packets/sec\n  \
           30 seconds output rate {} bits/sec, {} packets/sec\n",
        row.rx_bps, row.rx_pps, row.tx_bps, row.tx_pps,
    );
    text.push_str("  RX\n");
    text.push_str(&kinds(rx));
    text.push_str(&format!("    {} input packets  {} bytes\n", rx.frames(), rx.octets));
    text.push_str(&format!("    0 input with dribble  {} input discard\n", rx.drops));
    text.push_str("  TX\n");
    text.push_str(&kinds(tx));
    text.push_str(&format!("    {} output packets  {} bytes\n", tx.frames(), tx.octets));
    text.push_str(&format!("    0 lost carrier  0 no carrier  0 babble  {} output discard\n", tx.drops));
    text
}

fn json(port: &Port) -> Value {
    let row = port.row.as_ref();
    let (rx, tx) = row.map(|row| (row.rx, row.tx)).unwrap_or_default();
    let rates = row.map(|row| [row.rx_bps, row.rx_pps, row.tx_bps, row.tx_pps]).unwrap_or_default();
    let [rx_bps, rx_pps, tx_bps, tx_pps] = rates.map(|rate| rate.to_string());
    leaves([
        ("interface", port.name.to_string()),
        ("state", if port.is_up() { "up" } else { "down" }.to_owned()),
        ("state_rsn_desc", port.reason()),
        ("admin_state", if port.settings.admin_up { "up" } else { "down" }.to_owned()),
        ("port_profile", port.profile.clone().unwrap_or_default()),
        ("module", port.slot.map(|slot| slot.to_string()).unwrap_or_default()),
        ("eth_hw_desc", "Virtual".to_owned()),
        ("eth_hw_addr", port.mac().to_string()),
        ("eth_bia_addr", port.mac().to_string()),
        ("desc", port.settings.description.clone()),
        ("eth_mtu", port.mtu().to_string()),
        ("eth_bw", "10000000".to_owned()),
        ("eth_dly", "10".to_owned()),
        ("medium", "broadcast".to_owned()),
        ("eth_mode", mode_word(port).to_owned()),
        ("eth_duplex", "full".to_owned()),
        ("eth_speed", "10 Gb/s".to_owned()),
        ("eth_link_flapped", flapped(port)),
        ("eth_inrate1_bits", rx_bps),
        ("eth_inrate1_pkts", rx_pps),
        ("eth_outrate1_bits", tx_bps),
        ("eth_outrate1_pkts", tx_pps),
        ("eth_inucast", rx.unicast.to_string()),
        ("eth_inmcast", rx.multicast.to_string()),
        ("eth_inbcast", rx.broadcast.to_string()),
        ("eth_inpkts", rx.frames().to_string()),
        ("eth_inbytes", rx.octets.to_string()),
        ("eth_indiscard", rx.drops.to_string()),
        ("eth_outucast", tx.unicast.to_string()),
        ("eth_outmcast", tx.multicast.to_string()),
        ("eth_outbcast", tx.broadcast.to_string()),
        ("eth_outpkts", tx.frames().to_string()),
        ("eth_outbytes", tx.octets.to_string()),
        ("eth_outdiscard", tx.drops.to_string()),
    ])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::cmd::show::sample;

    #[test]
    fn rendered() {
        sample::check("interface", &blocks(&sample::ports()));
        assert_eq!(blocks(&[]).text, "");
    }
}
