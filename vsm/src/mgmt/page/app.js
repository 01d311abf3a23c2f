// The page: asks the switch for what the command line shows, with the user's own rights, and draws it.
//
// User and password are kept in this script's memory and nowhere else: a reload asks for them again.

import { host as drawHost } from "./draw.js";
import { Rates, bits, conversations, hosts, rows, short, size } from "./talk.js";

/** Milliseconds between two looks. */
const PERIOD = 3000;
/** Flows that are asked for: those with most octets. */
const FLOWS = 1000;
/** Conversations in the table. */
const SHOWN = 15;

const COMMANDS = {
  hostname: "show hostname",
  module: "show module",
  virtual: "show interface virtual",
  brief: "show interface brief",
  flows: `show flow monitor cache top ${FLOWS}`,
  drops: "show drops",
  mirrors: "show monitor session all",
  exporters: "show flow exporter",
};

const at = (id) => document.getElementById(id);
let authorization = null;
let rates = new Rates();
let dropsBefore = new Map();
let looks = 0;
let timer = null;

/** Bodies of the commands by name. A command that failed has none. */
async function ask() {
  const names = Object.keys(COMMANDS);
  const calls = names.map((name, id) => ({ jsonrpc: "2.0", method: "cli_array", params: { cmd: COMMANDS[name], version: 1 }, id, rollback: "continue-on-error" }));
  const answer = await fetch("/ins", {
    method: "POST",
    credentials: "omit",
    cache: "no-store",
    headers: { Authorization: authorization, "Content-Type": "application/json-rpc" },
    body: JSON.stringify(calls),
  });
  if (answer.status === 401) throw new Refused();
  if (!answer.headers.get("Content-Type")?.includes("json")) throw new Error(`the switch answers ${answer.status}`);
  const found = {};
  for (const { id, result, error } of await answer.json()) {
    found[names[id]] = result?.body;
    if (error) console.warn(COMMANDS[names[id]], error.data?.msg ?? error.message);
  }
  return found;
}

class Refused extends Error {}

async function look() {
  clearTimeout(timer);
  try {
    const answers = await ask();
    if (authorization === null) return;
    draw(answers);
    looks += 1;
    at("age").className = "";
    at("age").textContent = "as of " + new Date().toLocaleTimeString();
    at("login").hidden = true;
    at("page").hidden = false;
    document.body.dataset.looks = looks;
  } catch (error) {
    if (error instanceof Refused) return logout("User or password is wrong.");
    if (at("page").hidden) return logout("The switch can't be asked: " + error.message);
    at("age").className = "old";
    at("age").textContent = "no answer since; the page shows what was";
  }
  if (authorization !== null) timer = setTimeout(() => (document.hidden ? null : look()), PERIOD);
}

function logout(why) {
  clearTimeout(timer);
  authorization = null;
  [rates, dropsBefore, looks] = [new Rates(), new Map(), 0];
  at("page").hidden = true;
  at("login").hidden = false;
  at("refused").textContent = why;
}

function node(name, text, kind) {
  const made = document.createElement(name);
  if (text !== undefined) made.textContent = text;
  if (kind) made.className = kind;
  return made;
}

/** A table's rows; a cell is a text, or [text, class], or a node. */
function fill(id, lines, none) {
  const made = lines.map((cells) => {
    const row = node("tr");
    for (const cell of cells) {
      const made = node("td");
      if (cell instanceof Node) made.append(cell);
      else if (Array.isArray(cell)) [made.textContent, made.className] = cell;
      else made.textContent = cell;
      row.append(made);
    }
    return row;
  });
  if (made.length === 0) {
    const cell = node("td", none, "none");
    cell.colSpan = 9;
    made.push(node("tr"));
    made[0].append(cell);
  }
  at(id).replaceChildren(...made);
}

function draw(answers) {
  const modules = hosts(answers);
  const flows = rows(answers.flows, "flow");
  rates.look(flows, performance.now() / 1000);
  const talks = conversations(flows, modules);
  const name = list(answers.hostname)[0]?.hostname ?? "";
  at("switch").textContent = name;
  document.title = `${name}: who talks to whom`;
  headline(talks);
  at("hosts").replaceChildren(...[...modules.values()].map((one) => drawHost(one, talks)));
  if (modules.size === 0) at("hosts").append(node("p", "No module has joined this switch yet.", "none"));
  table(talks, modules);
  const mirrors = drawMirrors(answers);
  const exporters = drawExporters(answers);
  const losing = drawDrops(answers);
  const up = [...modules.values()].filter((host) => host.up).length;
  health([
    [`${up} of ${modules.size} modules up`, up === modules.size],
    mirrors,
    exporters,
    [losing ? "dropping now" : "nothing is being dropped", !losing],
  ]);
}

const list = (value) => (value === undefined ? [] : Array.isArray(value) ? value : [value]);

function health(items) {
  at("health").replaceChildren(...items.filter(Boolean).map(([text, good]) => node("li", text, good ? "good" : "bad")));
}

function headline(talks) {
  const rate = (place) => talks.filter((talk) => talk.place === place).reduce((sum, talk) => sum + talk.rate, 0);
  const count = talks.filter((talk) => talk.place === "inside" && [...talk.services.keys()].some((what) => what !== "ARP")).length;
  const text = node("b", `${count} ${count === 1 ? "conversation stays" : "conversations stay"} inside a host, ${bits(rate("inside"))}`);
  const rest = node("span", `No physical switch, and nothing that is attached to one, sees them. ${bits(rate("leaves"))} cross an uplink.`);
  at("headline").replaceChildren(text, rest);
}

function table(talks, modules) {
  const ports = new Map([...modules.values()].flatMap((host) => host.ports.map((port) => [port.name, { ...port, host }])));
  const told = (end) => {
    const port = ports.get(end.port);
    return port ? `${port.vm || port.name}` : end.outside ?? end.port;
  };
  const where = (end) => {
    const port = ports.get(end.port);
    return port ? [port.name, end.address, port.host.name].filter(Boolean).join(", ") : end.port ?? "outside";
  };
  fill("conversations", talks.slice(0, SHOWN).map((talk) => {
    const between = node("div", talk.ends.map(told).join(" ↔ "));
    between.append(node("small", talk.ends.map(where).join("  ↔  ")));
    const services = [...talk.services].sort((a, b) => b[1] - a[1]).map(([what]) => what);
    const what = services.slice(0, 3).join(", ") + (services.length > 3 ? ` and ${services.length - 3} more` : "");
    const badges = { inside: ["no: it stays inside " + (modules.get(talk.modules[0])?.name || "its host"), "badge inside"], leaves: ["yes", "badge leaves"], denied: ["dropped: " + talk.why, "badge denied"] };
    const badge = node("span", ...badges[talk.place]);
    const seen = node("div");
    seen.append(badge, talk.dropped && talk.place !== "denied" ? node("small", "partly dropped: " + talk.why) : "");
    return [between, what, [bits(talk.rate), "number"], [size(talk.octets), "number"], seen];
  }), "Nobody says anything.");
  at("more").textContent = talks.length > SHOWN ? `${talks.length - SHOWN} more: show flow monitor cache` : "";
}

function drawMirrors(answers) {
  const sessions = rows(answers.mirrors, "session");
  let well = true;
  fill("mirrors", sessions.map((session) => {
    const copies = rows(session, "copies");
    const sum = (key) => copies.reduce((sum, row) => sum + (Number(row[key]) || 0), 0);
    const up = session.state.startsWith("up");
    well &&= up || /admin shut/i.test(session.state);
    const to = session.destination_ports || session.destination_port_profiles || session.destination_ip || session.type;
    return [session.session_number + (session.description ? " " + session.description : ""), to, [session.state, up ? "good" : "bad"], [String(sum("copied")), "number"], [String(sum("dropped")), "number"]];
  }), "No session is configured.");
  return sessions.length > 0 && [well ? "mirror up" : "a mirror session is down", well];
}

function drawExporters(answers) {
  const exporters = rows(answers.exporters, "flow_exporter");
  let failed = 0;
  const lines = exporters.flatMap((exporter) => rows(exporter, "exporter_statistics").map((row) => {
    failed += Number(row.failed_records) || 0;
    return [exporter.exporter_name, row.mod, row.destination, [row.records, "number"], [row.failed_records, Number(row.failed_records) ? "number bad" : "number"]];
  }));
  fill("exporters", lines, exporters.length ? "No module uses an exporter." : "No exporter is configured.");
  return exporters.length > 0 && [failed ? "export loses records" : "export up", failed === 0];
}

function drawDrops(answers) {
  const drops = rows(answers.drops, "drops").map((row) => ({ ...row, frames: Number(row.frames), key: row.interface + " " + row.reason }));
  const added = (row) => Math.max(0, row.frames - (dropsBefore.get(row.key) ?? row.frames));
  const lines = drops.sort((a, b) => added(b) - added(a) || b.frames - a.frames).slice(0, 12);
  const losing = drops.some((row) => added(row) > 0);
  fill("drops", lines.map((row) => {
    const reason = node("div", row.reason);
    reason.append(node("small", row.text));
    return [short(row.interface), reason, [String(row.frames), "number"], [added(row) ? "+" + added(row) : "", "number bad"]];
  }), "Nothing was dropped.");
  dropsBefore = new Map(drops.map((row) => [row.key, row.frames]));
  const last = rows(answers.drops, "last_drops").slice(0, 5);
  at("lastdrops").replaceChildren(...last.map((row) => node("li", `${row.ago_ms} ago  ${short(row.interface)}  ${row.reason}${row.rule ? " (" + row.rule + ")" : ""}  ${row.headers}`)));
  return losing;
}

at("login").addEventListener("submit", (event) => {
  event.preventDefault();
  const given = new FormData(event.target);
  const octets = new TextEncoder().encode(given.get("user") + ":" + given.get("password"));
  authorization = "Basic " + btoa(String.fromCharCode(...octets));
  event.target.reset();
  at("refused").textContent = "";
  look();
});
at("logout").addEventListener("click", () => logout(""));
document.addEventListener("visibilitychange", () => {
  if (!document.hidden && authorization !== null) look();
});
logout("");
