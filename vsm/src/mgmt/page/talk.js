// From rows of commands to what is drawn: ports, conversations, their rates. Pure functions, no page in sight.

/** The short form of an interface's name, by which all commands agree: Veth1, Eth3/1. */
export function short(name) {
  return name.replace(/^Vethernet/, "Veth").replace(/^Ethernet/, "Eth");
}

/** Rows of a table, however few they are. */
export function rows(body, table) {
  const found = list(body).flatMap((part) => list(part["TABLE_" + table]));
  return found.flatMap((part) => list(part["ROW_" + table]));
}

function list(value) {
  return value === undefined || value === null || value === "" ? [] : Array.isArray(value) ? value : [value];
}

/** Modules with their hosts and ports. `answers` holds the bodies of the commands by name. */
export function hosts(answers) {
  const hosts = new Map();
  const names = new Map(rows(answers.module, "modserverinfo").map((row) => [row.mod, row.servername]));
  for (const row of rows(answers.module, "modinfo")) {
    if (row.modtype.includes("Ethernet")) {
      const up = row.status === "ok";
      hosts.set(row.modinf, { module: row.modinf, name: names.get(row.modinf) ?? "", up, ports: [], uplinks: [] });
    }
  }
  const states = new Map(rows(answers.brief, "interface").map((row) => [short(row.interface), row]));
  for (const row of rows(answers.virtual, "virtual")) {
    const name = short(row.interface);
    const state = states.get(name);
    const port = { name, vm: row.owner === "--" ? "" : row.owner, profile: row.port_profile, up: state?.state === "up" };
    hosts.get(row.module)?.ports.push({ ...port, module: row.module, vlan: state?.vlan ?? "" });
  }
  for (const [name, row] of states) {
    const uplink = /^Eth(\d+)\//.exec(name);
    if (uplink) hosts.get(uplink[1])?.uplinks.push({ name, up: row.state === "up" });
  }
  return hosts;
}

/** Octets a second below which a conversation is no more than a sign of life. */
export const QUIET = 125;

const PROTOCOLS = { 1: "ICMP", 2: "IGMP", 6: "TCP", 17: "UDP", 47: "GRE", 50: "ESP", 58: "ICMPv6", 132: "SCTP" };
const ETHERTYPES = { "0x0806": "ARP", "0x88cc": "LLDP", "0x0000": "802.3" };

/** What a flow carries, in a few letters: TCP 443, ARP. The service is the smaller of two ports. */
export function service(flow) {
  const ports = [flow.src_port, flow.dst_port].map(Number).filter((port) => port > 0);
  const ip = flow.ethertype === "0x0800" || flow.ethertype === "0x86dd";
  if (!ip) return ETHERTYPES[flow.ethertype] ?? flow.ethertype;
  const name = PROTOCOLS[flow.protocol] ?? "IP " + flow.protocol;
  return (name === "TCP" || name === "UDP") && ports.length ? name + " " + Math.min(...ports) : name;
}

/** Which port holds an address, by the flows that came in from it. */
function holders(flows) {
  const held = new Map();
  for (const flow of flows) {
    if (flow.input.startsWith("Veth")) held.set(flow.vlan + "/" + flow.src_mac, short(flow.input));
  }
  return held;
}

/** An end of a flow: a port of this switch, or somebody outside. */
function end(itf, vlan, mac, address, held) {
  const port = itf.startsWith("Veth") ? short(itf) : held.get(vlan + "/" + mac);
  if (port) return { port, address };
  const group = parseInt(mac.slice(0, 2), 16) & 1;
  return { outside: group ? "everybody" : address || mac, address };
}

/** Octets a second of each flow: what was added since the last look, or since it began. */
export class Rates {
  #last = new Map();
  #at = null;

  /** To be called once for each look; `at` in seconds. */
  look(flows, at) {
    const now = new Map();
    const since = this.#at === null ? null : Math.max(at - this.#at, 0.1);
    for (const flow of flows) {
      const key = flowKey(flow) + "@" + flow.mod;
      const octets = Number(flow.octets);
      const before = this.#last.get(key);
      const age = Math.max(Number(flow.first_ms_ago) / 1000, 1);
      const silent = Number(flow.last_ms_ago) / 1000;
      if (before === undefined || since === null) flow.rate = silent > 10 ? 0 : octets / age;
      // A flow that was reported meanwhile begins anew at 0.
      else flow.rate = (octets >= before ? octets - before : octets) / since;
      now.set(key, octets);
    }
    [this.#last, this.#at] = [now, at];
  }
}

function flowKey(flow) {
  const { src_mac, dst_mac, src_addr, dst_addr, ethertype, protocol, src_port, dst_port, vlan, tos, input } = flow;
  const side = input.startsWith("Veth") ? "" : "up";
  return [src_mac, dst_mac, src_addr, dst_addr, ethertype, protocol, src_port, dst_port, vlan, tos, side].join("|");
}

/**
 * Who talks to whom: flows of both directions, put together by their two ends, most octets a second first.
 *
 * A flow between two hosts is in the caches of both; it counts where it came in from a port. `place` is `inside` (both ends are
 * ports of one module, so no physical switch sees it), `leaves`, or `denied` when more of it was dropped than forwarded.
 */
export function conversations(flows, modules) {
  const held = holders(flows);
  const moduleOf = new Map([...modules.values()].flatMap((host) => host.ports.map((port) => [port.name, host.module])));
  const talks = new Map();
  for (const flow of flows) {
    const from = end(flow.input, flow.vlan, flow.src_mac, flow.src_addr, held);
    const to = end(flow.output, flow.vlan, flow.dst_mac, flow.dst_addr, held);
    // The far module's sight of a flow that another module has told of.
    if (!flow.input.startsWith("Veth") && from.port) continue;
    const ends = [from, to].sort((a, b) => ((a.port ?? "~" + a.outside) < (b.port ?? "~" + b.outside) ? -1 : 1));
    const key = ends.map((e) => e.port ?? "~" + e.outside).join(" ");
    const talk = talks.get(key) ?? { ends, octets: 0, packets: 0, rate: 0, services: new Map(), dropped: 0, forwarded: 0, why: "" };
    talks.set(key, talk);
    const octets = Number(flow.octets);
    talk.packets += Number(flow.packets);
    talk.octets += octets;
    talk.rate += flow.rate ?? 0;
    const what = service(flow);
    talk.services.set(what, (talk.services.get(what) ?? 0) + octets);
    if (flow.status.startsWith("dropped")) {
      talk.dropped += octets;
      talk.why = flow.status.replace(/^dropped: /, "");
    } else talk.forwarded += octets;
    const [a, b] = ends.map((e) => moduleOf.get(e.port));
    talk.modules = [a, b];
    talk.place = talk.dropped > talk.forwarded ? "denied" : a !== undefined && a === b ? "inside" : "leaves";
  }
  for (const talk of talks.values()) talk.quiet = talk.rate < QUIET;
  return [...talks.values()].sort((a, b) => b.rate - a.rate || b.octets - a.octets);
}

/** Octets a second as bits. */
export function bits(octets) {
  return scaled(octets * 8, 1000, ["bit/s", "kbit/s", "Mbit/s", "Gbit/s", "Tbit/s"]);
}

/** Octets. */
export function size(octets) {
  return scaled(octets, 1024, ["B", "KiB", "MiB", "GiB", "TiB"]);
}

function scaled(value, step, units) {
  let at = 0;
  for (; value >= step && at < units.length - 1; at++) value /= step;
  return (at === 0 || value >= 100 ? Math.round(value) : value.toPrecision(3)) + " " + units[at];
}
