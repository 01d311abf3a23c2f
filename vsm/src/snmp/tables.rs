//! What is in the tables: IF-MIB, BRIDGE-MIB, Q-BRIDGE-MIB, ENTITY-MIB.
//!
//! `ifTable`, `ifXTable` and the interfaces of the log and of `show interface snmp-ifindex` have the same numbers
//! ([`crate::config::ifindex`]). A 32-bit counter is the lower half of the one with 64. Octets are those of frames without
//! FCS. `ifIn...` is what comes from the VM or the wire into the switch.

use std::sync::Arc;

use proto::name::IfName;
use proto::report::Counters;

use super::oid::{Oid, Value};
use super::picture::Facts;
use super::tree::{Table, Tree};
use crate::cli::cmd::show::gather::Port;
use crate::config::ifindex;

/// `ifEntry`
pub const IF_ENTRY: [u32; 9] = [1, 3, 6, 1, 2, 1, 2, 2, 1];
/// `ifXEntry`
pub const IFX_ENTRY: [u32; 10] = [1, 3, 6, 1, 2, 1, 31, 1, 1, 1];
/// `dot1dBase`
const BRIDGE: [u32; 8] = [1, 3, 6, 1, 2, 1, 17, 1];
/// `qBridgeMIBObjects`
const Q_BRIDGE: [u32; 9] = [1, 3, 6, 1, 2, 1, 17, 7, 1];
/// `entPhysicalEntry`
const ENTITY: [u32; 11] = [1, 3, 6, 1, 2, 1, 47, 1, 1, 1, 1];

/// What is registered with snmpd.
pub const SUBTREES: [&[u32]; 6] = [
    &[1, 3, 6, 1, 2, 1, 2, 1],
    &[1, 3, 6, 1, 2, 1, 2, 2],
    &[1, 3, 6, 1, 2, 1, 31, 1, 1],
    &[1, 3, 6, 1, 2, 1, 17, 1],
    &[1, 3, 6, 1, 2, 1, 17, 7, 1],
    &[1, 3, 6, 1, 2, 1, 47, 1, 1, 1],
];

/// Megabits per second of a port, as `show interface` has it.
const PORT_MBPS: u32 = 10_000;

/// Everything that both interface tables say of one.
struct Interface {
    name: IfName,
    alias: String,
    mac: Vec<u8>,
    mtu: i32,
    mbps: u32,
    admin_up: bool,
    up: bool,
    last_change: u32,
    fell: u32,
    rx: Counters,
    tx: Counters,
    errors: [u64; 2],
}

impl Interface {
    fn of(port: &Port, facts: &Facts) -> Self {
        let row = port.row.as_ref();
        let (rx, tx) = row.map(|row| (row.rx, row.tx)).unwrap_or_default();
        let since = row.map_or(facts.uptime, |row| u32::try_from(row.since_s * 100).unwrap_or(u32::MAX));
        Interface {
            name: port.name,
            alias: port.settings.description.clone(),
            mac: port.mac().to_u64().to_be_bytes()[2..].to_vec(),
            mtu: port.mtu().into(),
            mbps: PORT_MBPS,
            admin_up: port.settings.admin_up,
            up: port.is_up(),
            last_change: facts.uptime.saturating_sub(since),
            fell: facts.fell.get(&port.name).copied().unwrap_or(0),
            rx,
            tx,
            errors: [0, 0],
        }
    }

    fn mgmt0(facts: &Facts) -> Self {
        let host = facts.mgmt.clone().unwrap_or_default();
        let count = |[octets, packets, groups, drops, _]: [u64; 5]| Counters {
            unicast: packets.saturating_sub(groups),
            multicast: groups,
            broadcast: 0,
            octets,
            drops,
        };
        Interface {
            name: IfName::Mgmt0,
            alias: String::new(),
            mac: host.mac,
            mtu: host.mtu,
            mbps: host.speed,
            admin_up: true,
            up: host.up,
            last_change: 0,
            fell: 0,
            rx: count(host.rx),
            tx: count(host.tx),
            errors: [host.rx[4], host.tx[4]],
        }
    }

    fn index(&self) -> u32 {
        ifindex::of(self.name)
    }

    fn if_cell(&self, column: u32) -> Value {
        let Interface { rx, tx, .. } = self;
        let state = |up: bool| Value::Integer(if up { 1 } else { 2 });
        match column {
            1 => Value::Integer(self.index().cast_signed()),
            2 => Value::from(self.name.to_string().as_str()),
            // ethernetCsmacd
            3 => Value::Integer(6),
            4 => Value::Integer(self.mtu),
            5 => Value::Gauge32(self.mbps.saturating_mul(1_000_000)),
            6 => Value::Octets(self.mac.clone()),
            7 => state(self.admin_up),
            8 => state(self.up),
            9 => Value::TimeTicks(self.last_change),
            10 => low(rx.octets),
            11 => low(rx.unicast),
            13 => low(rx.drops),
            14 => low(self.errors[0]),
            15 => Value::Counter32(0),
            16 => low(tx.octets),
            17 => low(tx.unicast),
            19 => low(tx.drops),
            20 => low(self.errors[1]),
            _ => Value::NoSuchInstance,
        }
    }

    fn ifx_cell(&self, column: u32) -> Value {
        let Interface { rx, tx, .. } = self;
        const NO: i32 = 2;
        match column {
            1 => Value::from(self.name.to_string().as_str()),
            2 => low(rx.multicast),
            3 => low(rx.broadcast),
            4 => low(tx.multicast),
            5 => low(tx.broadcast),
            6 => Value::Counter64(rx.octets),
            7 => Value::Counter64(rx.unicast),
            8 => Value::Counter64(rx.multicast),
            9 => Value::Counter64(rx.broadcast),
            10 => Value::Counter64(tx.octets),
            11 => Value::Counter64(tx.unicast),
            12 => Value::Counter64(tx.multicast),
            13 => Value::Counter64(tx.broadcast),
            // Notifications of links: all but those of mgmt0, which nobody watches.
            14 => Value::Integer(if self.name == IfName::Mgmt0 { NO } else { 1 }),
            15 => Value::Gauge32(self.mbps),
            16 => Value::Integer(NO),
            17 => Value::Integer(if self.name.is_ethernet() || self.name == IfName::Mgmt0 { 1 } else { NO }),
            18 => Value::from(self.alias.as_str()),
            19 => Value::TimeTicks(self.fell),
            _ => Value::NoSuchInstance,
        }
    }
}

fn low(count: u64) -> Value {
    Value::Counter32(count as u32)
}

/// The tables of a picture.
pub fn tree(facts: Facts) -> Tree {
    let mut interfaces: Vec<Interface> = facts.ports.iter().map(|port| Interface::of(port, &facts)).collect();
    interfaces.push(Interface::mgmt0(&facts));
    interfaces.sort_by_key(Interface::index);
    let mut tables = bridge(&facts);
    tables.extend([forwarding(&facts), vlans(&facts), entities(&facts)]);
    tables.extend(if_tables(interfaces));
    Tree::new(tables)
}

/// Scalars: a table of the one row `0`.
fn scalars(prefix: Oid, columns: &'static [u32], cell: impl Fn(u32) -> Value + Send + Sync + 'static) -> Table {
    Table::new(prefix, columns, vec![vec![0]], Box::new(move |column, _| cell(column)))
}

/// `at`: the cell of a row; rows are sorted by index here.
fn rows<T: Send + Sync + 'static>(
    prefix: Oid,
    columns: &'static [u32],
    mut rows: Vec<(Vec<u32>, T)>,
    at: fn(&T, u32) -> Value,
) -> Table {
    rows.sort_by(|a, b| a.0.cmp(&b.0));
    rows.dedup_by(|b, a| a.0 == b.0);
    let (indexes, rows): (Vec<_>, Vec<T>) = rows.into_iter().unzip();
    let cell = move |column, place: usize| rows.get(place).map_or(Value::NoSuchInstance, |row| at(row, column));
    Table::new(prefix, columns, indexes, Box::new(cell))
}

fn if_tables(interfaces: Vec<Interface>) -> [Table; 3] {
    let interfaces = Arc::new(interfaces);
    let indexes: Vec<Vec<u32>> = interfaces.iter().map(|interface| vec![interface.index()]).collect();
    let count = interfaces.len() as i32;
    let table = |prefix: Oid, columns, at: fn(&Interface, u32) -> Value| {
        let interfaces = interfaces.clone();
        let cell =
            move |column, place: usize| interfaces.get(place).map_or(Value::NoSuchInstance, |each| at(each, column));
        Table::new(prefix, columns, indexes.clone(), Box::new(cell))
    };
    [
        scalars([1, 3, 6, 1, 2, 1, 2].into(), &[1], move |_| Value::Integer(count)),
        table(IF_ENTRY.into(), &[1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 13, 14, 15, 16, 17, 19, 20], Interface::if_cell),
        table(
            IFX_ENTRY.into(),
            &[1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19],
            Interface::ifx_cell,
        ),
    ]
}

/// `dot1dBase...`, `dot1dBasePortTable`, and the access or native VLAN of each port (`dot1qPvid`).
fn bridge(facts: &Facts) -> Vec<Table> {
    let ports: Vec<_> =
        facts.ports.iter().filter_map(|port| Some((vec![ifindex::bridge_port(port.name)?], port))).collect();
    let count = ports.len() as i32;
    let base = ports.iter().map(|(index, port)| {
        let drops = port.row.as_ref().map_or(0, |row| row.rx.drops);
        (index.clone(), (index[0], ifindex::of(port.name), drops))
    });
    let pvid = ports.iter().map(|(index, port)| {
        let vlan = match &port.settings.mode {
            proto::vlan::PortMode::Access(vlan) => vlan.get(),
            proto::vlan::PortMode::Trunk { native, .. } => native.get(),
        };
        (index.clone(), u32::from(vlan))
    });
    let mac = facts.mgmt.as_ref().map(|mgmt| mgmt.mac.clone()).filter(|mac| mac.len() == 6).unwrap_or(vec![0; 6]);
    vec![
        scalars(BRIDGE.into(), &[1, 2, 3], move |column| match column {
            1 => Value::Octets(mac.clone()),
            2 => Value::Integer(count),
            // transparent-only
            _ => Value::Integer(2),
        }),
        rows(Oid::from(BRIDGE).with(&[4, 1]), &[1, 2, 3, 4, 5], base.collect(), |(port, index, drops), column| {
            match column {
                1 => Value::Integer(port.cast_signed()),
                2 => Value::Integer(index.cast_signed()),
                3 => Value::Oid([0, 0].into()),
                4 => low(*drops),
                _ => Value::Counter32(0),
            }
        }),
        rows(Oid::from(Q_BRIDGE).with(&[4, 5, 1]), &[1], pvid.collect(), |vlan, _| Value::Gauge32(*vlan)),
    ]
}

/// `dot1qTpFdbTable`: by VLAN and address.
fn forwarding(facts: &Facts) -> Table {
    let row = |((vlan, mac), (port, is_static)): (&(_, proto::addr::MacAddr), &(IfName, bool))| {
        let vlan: &proto::addr::VlanId = vlan;
        let octets = mac.to_u64().to_be_bytes();
        let index = std::iter::once(u32::from(vlan.get())).chain(octets[2..].iter().map(|o| u32::from(*o)));
        (index.collect(), (ifindex::bridge_port(*port).unwrap_or(0), *is_static))
    };
    let all = facts.macs.iter().map(row).collect();
    rows(Oid::from(Q_BRIDGE).with(&[2, 2, 1]), &[2, 3], all, |(port, is_static), column| match column {
        2 => Value::Integer(port.cast_signed()),
        // mgmt(5), learned(3)
        _ => Value::Integer(if *is_static { 5 } else { 3 }),
    })
}

/// `dot1qVlanStaticTable`, without its lists of ports.
fn vlans(facts: &Facts) -> Table {
    let row = |(id, vlan): (&proto::addr::VlanId, &crate::config::model::Vlan)| {
        (vec![u32::from(id.get())], (vlan.name(*id), vlan.is_active()))
    };
    let all = facts.model.vlans.iter().map(row).collect();
    rows(Oid::from(Q_BRIDGE).with(&[4, 3, 1]), &[1, 5], all, |(name, is_active), column| match column {
        1 => Value::from(name.as_str()),
        // active(1), notInService(2)
        _ => Value::Integer(if *is_active { 1 } else { 2 }),
    })
}

/// `entPhysicalTable`: the switch, and the modules in it.
fn entities(facts: &Facts) -> Table {
    struct Entity {
        description: &'static str,
        contained_in: i32,
        class: i32,
        position: i32,
        name: String,
        software: String,
        serial: String,
        model: &'static str,
    }
    const CHASSIS: i32 = 3;
    const MODULE: i32 = 9;
    let entity = |description, contained_in, class, position, name: String| Entity {
        description,
        contained_in,
        class,
        position,
        name,
        software: env!("CARGO_PKG_VERSION").to_owned(),
        serial: String::new(),
        model: "N1K-VSM",
    };
    let mut all = vec![
        (vec![1], entity("Distributed virtual switch", 0, CHASSIS, 0, "Chassis".to_owned())),
        (vec![2], entity("Virtual Supervisor Module", 1, MODULE, 1, "Slot 1".to_owned())),
    ];
    for (slot, module) in &facts.inventory.modules {
        let position = i32::from(*slot);
        let base = entity("Virtual Ethernet Module", 1, MODULE, position, format!("Slot {slot}"));
        let (software, serial) = (module.software.clone(), module.uuid.to_string());
        all.push((vec![u32::from(*slot) + 1], Entity { software, serial, model: "NA", ..base }));
    }
    rows(ENTITY.into(), &[2, 4, 5, 6, 7, 10, 11, 13], all, |entity, column| match column {
        2 => Value::from(entity.description),
        4 => Value::Integer(entity.contained_in),
        5 => Value::Integer(entity.class),
        6 => Value::Integer(entity.position),
        7 => Value::from(entity.name.as_str()),
        10 => Value::from(entity.software.as_str()),
        11 => Value::from(entity.serial.as_str()),
        _ => Value::from(entity.model),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::cmd::show::sample;
    use crate::snmp::pdu::Range;

    fn sampled() -> Tree {
        let macs = [((10, "0200.0000.0001"), IfName::Vethernet(1)), ((10, "0200.0000.0002"), IfName::Vethernet(2))];
        let key = |(vlan, mac): (u16, &str)| (proto::addr::VlanId::new(vlan).unwrap(), mac.parse().unwrap());
        tree(Facts {
            inventory: Arc::new(sample::inventory()),
            ports: sample::ports(),
            macs: macs.into_iter().map(|(at, port)| (key(at), (port, false))).collect(),
            uptime: 1_000_000,
            ..Facts::default()
        })
    }

    #[test]
    fn every_table_of_interfaces_has_the_same_rows() {
        let tree = sampled();
        let column = |prefix: Oid| {
            let mut at = Range { start: prefix.clone(), ..Range::default() };
            let mut found = Vec::new();
            loop {
                let (oid, _) = tree.next(&at);
                let Some(index) = oid.behind(&prefix).filter(|index| !index.is_empty()) else { return found };
                found.push(index.to_vec());
                at.start = oid.clone();
            }
        };
        let rows = column(Oid::from(IF_ENTRY).with(&[1]));
        assert!(rows.len() > 3 && rows.contains(&vec![ifindex::of(IfName::Mgmt0)]));
        for n in [2, 8, 16, 20] {
            assert_eq!(column(Oid::from(IF_ENTRY).with(&[n])), rows, "ifEntry {n}");
        }
        for n in [1, 6, 10, 18, 19] {
            assert_eq!(column(Oid::from(IFX_ENTRY).with(&[n])), rows, "ifXEntry {n}");
        }
        let number = tree.get(&[1, 3, 6, 1, 2, 1, 2, 1, 0].into());
        assert_eq!(number, Value::Integer(rows.len() as i32));
        let veth = ifindex::of(IfName::Vethernet(1));
        assert_eq!(tree.get(&Oid::from(IFX_ENTRY).with(&[1, veth])), Value::from("Vethernet1"));
        assert_eq!(tree.get(&Oid::from(Q_BRIDGE).with(&[2, 2, 1, 2, 10, 2, 0, 0, 0, 0, 2])), Value::Integer(2));
        assert_eq!(tree.get(&Oid::from(BRIDGE).with(&[4, 1, 2, 1])), Value::Integer(veth as i32));
    }
}
