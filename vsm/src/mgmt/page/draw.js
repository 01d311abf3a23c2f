// Hosts as boxes: ports in a row, what they say to each other as arcs below, the uplinks at the bottom edge.

import { bits } from "./talk.js";

const WIDE = 640;
const HIGH = 330;
const PORTS_Y = 78;
/** More ports than this are too many to read: those that say least are only counted. */
const PORTS_MAX = 10;
/** Arcs that have their rate written on them. */
const RATES_MAX = 4;

function element(name, attributes, text) {
  const node = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
  if (text !== undefined) node.textContent = text;
  return node;
}

function titled(node, title) {
  node.append(element("title", {}, title));
  return node;
}

/** Thickness by the order of magnitude: 1 at some octets a second, 11 at 10 Gbit/s. */
function thick(rate) {
  return Math.max(1.5, Math.min(11, 1.2 * Math.log10(Math.max(rate, 1)) - 0.5));
}

function label(text, most) {
  return text.length > most ? text.slice(0, most - 1) + "…" : text;
}

/** The picture of a host; `talks` are all conversations, most octets a second first. */
export function host(host, talks) {
  const mine = talks.filter((talk) => talk.modules.includes(host.module));
  const weight = new Map();
  for (const talk of mine) for (const end of talk.ends) weight.set(end.port, (weight.get(end.port) ?? 0) + talk.rate + 1e-9);
  const byWeight = [...host.ports].sort((a, b) => (weight.get(b.name) ?? 0) - (weight.get(a.name) ?? 0));
  const shown = new Set(byWeight.slice(0, PORTS_MAX));
  const ports = host.ports.filter((port) => shown.has(port));

  const svg = element("svg", { viewBox: `0 0 ${WIDE} ${HIGH}`, role: "img", class: host.up ? "" : "absent" });
  svg.append(element("title", {}, `Module ${host.module}, ${host.name}`));
  svg.append(element("rect", { class: "host", x: 4, y: 4, width: WIDE - 8, height: HIGH - 54, rx: 10 }));
  svg.append(element("text", { class: "hostname", x: 18, y: 28 }, label(host.name || "module " + host.module, 40)));
  const quiet = host.ports.length - ports.length;
  const note = `module ${host.module}${host.up ? "" : ", absent"}${quiet ? `, ${quiet} more ports` : ""}`;
  svg.append(element("text", { class: "small", x: WIDE - 18, y: 28, "text-anchor": "end" }, note));

  const step = (WIDE - 40) / Math.max(ports.length, 1);
  const at = new Map(ports.map((port, n) => [port.name, 20 + step * (n + 0.5)]));
  const uplinkX = WIDE / 2;
  const wires = element("g", {});
  const rates = element("g", {});
  let written = 0;
  for (const talk of [...mine].reverse()) {
    const wire = route(talk, at, host, uplinkX);
    if (!wire) continue;
    const attributes = { class: `wire ${talk.place}${talk.quiet ? " quiet" : ""}`, d: wire.path, "stroke-width": thick(talk.rate) };
    wires.append(titled(element("path", attributes), sentence(talk)));
  }
  for (const talk of mine) {
    const wire = route(talk, at, host, uplinkX);
    if (!wire || talk.quiet || talk.place === "denied" || written >= RATES_MAX) continue;
    written += 1;
    rates.append(element("text", { class: `rate ${talk.place}`, x: wire.x, y: wire.y }, bits(talk.rate)));
  }
  svg.append(wires);
  for (const port of ports) svg.append(portBox(port, at.get(port.name), Math.min(step - 8, 120)));
  svg.append(...uplinks(host, uplinkX), rates);
  return svg;
}

/** The way of a conversation within a host, and where its rate is written. */
function route(talk, at, host, uplinkX) {
  const [a, b] = talk.ends.map((end) => at.get(end.port));
  const y = PORTS_Y + 40;
  if (a !== undefined && b !== undefined) {
    if (a === b) return null;
    const deep = 30 + (Math.abs(a - b) / WIDE) * 190;
    return { path: `M${a},${y} C${a},${y + deep} ${b},${y + deep} ${b},${y}`, x: (a + b) / 2, y: y + deep * 0.75 - 4 };
  }
  const one = a ?? b;
  const far = talk.ends[a === undefined ? 0 : 1];
  if (one === undefined || (far.port === undefined && far.outside === "everybody" && talk.place !== "denied")) return null;
  if (talk.place === "denied") return { path: `M${one},${y} V${y + 46}`, x: one, y: y + 60 };
  if (host.uplinks.length === 0) return null;
  const bottom = HIGH - 50;
  return { path: `M${one},${y} C${one},${y + 110} ${uplinkX},${bottom - 70} ${uplinkX},${bottom}`, x: (one + uplinkX) / 2, y: bottom - 50 };
}

function sentence(talk) {
  return `${who(talk.ends[0])} and ${who(talk.ends[1])}: ${bits(talk.rate)}, ${[...talk.services.keys()].slice(0, 3).join(", ")}`;
}

function who(end) {
  return end.port ?? end.outside;
}

function portBox(port, x, wide) {
  const group = element("g", {});
  group.append(element("rect", { class: "port" + (port.up ? "" : " down"), x: x - wide / 2, y: PORTS_Y - 28, width: wide, height: 66, rx: 8 }));
  const letters = Math.max(4, Math.floor(wide / 7.5));
  group.append(element("text", { class: "portname", x, y: PORTS_Y - 4 }, label(port.vm || port.name, letters)));
  group.append(element("text", { class: "portif", x, y: PORTS_Y + 12 }, port.name));
  group.append(element("text", { class: "portif", x, y: PORTS_Y + 27 }, label(port.up ? port.profile : "down", letters + 2)));
  return titled(group, `${port.vm} ${port.name}, profile ${port.profile}, VLAN ${port.vlan}, ${port.up ? "up" : "down"}`);
}

function uplinks(host, x) {
  if (host.uplinks.length === 0) return [element("text", { class: "small", x, y: HIGH - 20, "text-anchor": "middle" }, "no uplink")];
  const names = host.uplinks.map((uplink) => uplink.name + (uplink.up ? "" : " (down)")).join(", ");
  return [
    element("path", { class: "uplink", d: `M${x},${HIGH - 50} V${HIGH - 34}` }),
    element("text", { class: "small", x, y: HIGH - 18, "text-anchor": "middle" }, "physical network: " + label(names, 60)),
  ];
}
