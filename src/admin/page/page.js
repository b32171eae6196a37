// Shows /status, asked every 2 s. Text of the gate goes in as text only, never as markup.
"use strict";

const PAUSE_MS = 2000;
const POINTS = 60;
const SERIES = ["broker", "inbox", "refused"];
const MAX_TOPICS = 200;

const at = (id) => document.getElementById(id);
const write = (id, text, state) => {
  const element = at(id);
  // Writing the same again would make a screen reader speak again.
  if (element.textContent !== text) element.textContent = text;
  if (state !== undefined) element.dataset.state = state;
};

const count = (n) => n.toLocaleString("en");
const many = (n, one) => `${count(n)} ${one}${n === 1 ? "" : "s"}`;

function bytes(n) {
  const units = ["B", "KiB", "MiB", "GiB", "TiB"];
  let unit = 0;
  while (n >= 1024 && unit < units.length - 1) { n /= 1024; unit += 1; }
  return `${unit === 0 || n >= 100 ? Math.round(n) : n.toFixed(1)} ${units[unit]}`;
}

function span(s) {
  if (s < 60) return `${Math.floor(s)} s`;
  if (s < 3600) return `${Math.floor(s / 60)} min ${Math.floor(s % 60)} s`;
  if (s < 86400) return `${Math.floor(s / 3600)} h ${Math.floor((s % 3600) / 60)} min`;
  return `${Math.floor(s / 86400)} d ${Math.floor((s % 86400) / 3600)} h`;
}

function meter(id, used, limit) {
  const share = limit > 0 ? Math.min(100, (100 * used) / limit) : 0;
  const element = at(id);
  element.firstElementChild.style.width = `${share}%`;
  element.setAttribute("aria-valuenow", Math.round(share));
  element.dataset.state = share >= 95 ? "bad" : share >= 80 ? "warn" : "good";
}

function table(id, rows, empty) {
  const body = at(id);
  body.replaceChildren(...(rows.length ? rows : [[{ text: empty, span: 9, kind: "empty" }]]).map((cells) => {
    const row = document.createElement("tr");
    for (const cell of cells) {
      const td = document.createElement("td");
      td.textContent = cell.text ?? cell;
      if (cell.kind) td.className = cell.kind;
      if (cell.span) td.colSpan = cell.span;
      if (cell.fault) {
        const fault = document.createElement("span");
        fault.className = "fault";
        fault.textContent = cell.fault;
        td.append(fault);
      }
      row.append(td);
    }
    return row;
  }));
}

function firestore(f) {
  if (!f) return ["not in use"];
  if (f.audit_missing > 0) return [`${many(f.audit_missing, "document")} missing that it had said were stored`, "bad"];
  if (f.denied) return [`does not let us write: ${f.trouble ?? "credentials refused"}`, "bad"];
  if (f.away) return [`does not answer: ${f.trouble ?? "nothing was heard"}`, "bad"];
  if (f.trouble) return [f.trouble, "warn"];
  return [`${count(f.writes_today)} writes today of ${count(f.writes_per_day)}, at most ${count(f.writes_per_second)} a second now`, "good"];
}

function sharing(q) {
  if (q.state === "off") return ["by each gate for itself", "good"];
  if (q.state === "shared") return ["by all gates together", "good"];
  return [`by this gate alone: ${q.last_error ?? "Redis has not answered yet"}`, "warn"];
}

function verdict(s) {
  if (s.phase !== "serving") return ["The gate drains: it finishes what it has and takes nothing new.", "warn"];
  if (!s.ready) return ["The gate is not ready.", "bad"];
  if (s.inbox.firestore?.denied) return ["Firestore does not let the gate write: look at its credentials.", "bad"];
  if (s.inbox.latched) return ["The inbox is latched by an I/O error; it takes nothing until a restart.", "bad"];
  if (s.sink.breaker === "closed" && s.inbox.rows > 0) return ["Events go to the broker; the inbox is being replayed.", "good"];
  if (s.sink.breaker === "closed") return ["Events go to the broker.", "good"];
  if (s.sink.brokers.length === 0) return ["No broker is configured; events are kept in the inbox.", "warn"];
  if (s.sink.breaker === "half_open") return ["The broker is being tried; events are kept in the inbox.", "warn"];
  return ["The broker is not available; events are kept in the inbox.", "warn"];
}

function show(s) {
  write("version", `version ${s.version}`);
  write("uptime", span(s.uptime_s));
  write("phase", s.phase, s.phase === "serving" ? "good" : "warn");
  write("verdict", ...verdict(s));
  const reasons = at("reasons");
  reasons.hidden = s.not_ready.length === 0;
  reasons.replaceChildren(...s.not_ready.map((reason) => Object.assign(document.createElement("li"), { textContent: reason })));

  const breaker = { closed: ["closed", "good"], half_open: ["half-open", "warn"], open: ["open", "bad"] }[s.sink.breaker];
  write("breaker", ...(s.sink.brokers.length === 0 ? ["no broker", "warn"] : breaker));
  write("since", span(s.sink.since_s));
  write("rows", many(s.inbox.rows, "row"), s.inbox.rows > 0 ? "warn" : "good");
  write("oldest", s.inbox.oldest_age_s == null ? "nothing awaits delivery" : `oldest ${span(s.inbox.oldest_age_s)}`);
  write("in-flight", bytes(s.limits.in_flight));
  meter("in-flight-meter", s.limits.in_flight, s.limits.in_flight_limit);
  write("connections", count(s.limits.connections));
  meter("connections-meter", s.limits.connections, s.limits.connections_limit);

  write("brokers", s.sink.brokers.join("\n") || "none configured");
  write("queue", `${many(s.sink.queue_messages, "event")}, ${bytes(s.sink.queue_bytes)}`);
  write("catalog", s.sink.catalog.age_s == null ? "never fetched" : `${span(s.sink.catalog.age_s)} old`);
  write("last-error", s.sink.last_error ?? "none");
  const trust = { closed: ["trusted", "good"], half_open: ["being tried", "warn"], open: ["not trusted", "bad"] };
  write("raw-breaker", ...(s.sink.raw ? trust[s.sink.raw.breaker] : ["no broker", "warn"]));
  write("raw-waiting", s.sink.raw ? `${bytes(s.sink.raw.waiting_bytes)}, ${many(s.sink.raw.lanes, "lane")}` : "nothing");
  table("raw-brokers", (s.sink.raw?.brokers ?? []).map((b) => [
    { text: b.address, fault: b.fault ?? undefined }, { text: count(b.connections), kind: "number" }, { text: count(b.in_flight), kind: "number" },
  ]), "none met yet");
  write("tier", s.inbox.tier);
  write("held", many(s.inbox.held, "row"));
  write("poison", many(s.inbox.poison, "row"));
  write("space", s.inbox.firestore ? "not bounded here" : `${bytes(s.inbox.bytes)} of ${bytes(s.inbox.budget_bytes)}`);
  meter("space-meter", s.inbox.bytes, s.inbox.budget_bytes);
  write("latched", s.inbox.latched ?? "no");
  write("firestore", ...firestore(s.inbox.firestore));

  write("sharing", ...sharing(s.limits.shared));
  write("sharing-turn", s.limits.shared.state === "off" ? "none" : `${many(s.limits.shared.accounts, "account")}, ${s.limits.shared.last_turn_ms.toFixed(1)} ms; heard ${span(s.limits.shared.behind_s)} ago`);
  table("listeners", s.listeners.map((l) => [l.name, l.address, l.tls]), "none bound");
  const fetched = (i) => (i.age_s == null ? (i.usable ? "configured" : "never") : `${span(i.age_s)} ago${i.stale ? ", stale" : ""}`);
  table("issuers", s.auth.issuers.map((i) => [
    { text: i.name, fault: i.last_error ?? (i.usable ? undefined : "cannot be verified now") }, { text: count(i.keys), kind: "number" }, fetched(i),
  ]), "none configured");
  const topics = s.sink.catalog.topics.slice(0, MAX_TOPICS).map((t) => [
    t.name, { text: t.partitions === 0 ? "missing" : count(t.partitions), kind: t.partitions === 0 ? "number fault" : "number" },
  ]);
  if (s.sink.catalog.topics.length > MAX_TOPICS) topics.push([{ text: `and ${count(s.sink.catalog.topics.length - MAX_TOPICS)} more`, span: 2, kind: "empty" }]);
  table("topics", topics, "none known");
}

const history = { broker: [], inbox: [], refused: [] };
let before = null;

function chart(events) {
  const now = performance.now();
  if (before) {
    const seconds = (now - before.now) / 1000;
    for (const name of SERIES) {
      // A restarted gate counts from zero again.
      const rate = Math.max(0, events[name] - before.events[name]) / seconds;
      history[name].push(rate);
      if (history[name].length > POINTS) history[name].shift();
      write(`rate-${name}`, rate >= 100 ? count(Math.round(rate)) : rate.toFixed(1));
    }
  }
  before = { now, events };
  const top = Math.max(1, ...SERIES.flatMap((name) => history[name]));
  write("chart-top", `${count(Math.ceil(top))}/s`);
  for (const name of SERIES) {
    const points = history[name].map((rate, i) => {
      const x = 600 - (history[name].length - 1 - i) * (600 / (POINTS - 1));
      return `${x.toFixed(1)},${(117 - (112 * rate) / top).toFixed(1)}`;
    });
    document.querySelector(`.line[data-series=${name}]`).setAttribute("d", points.length ? `M${points.join("L")}` : "");
  }
}

async function ask() {
  try {
    const answer = await fetch("/status", { signal: AbortSignal.timeout(PAUSE_MS * 2) });
    if (!answer.ok) throw new Error(`the gate answers ${answer.status}`);
    const status = await answer.json();
    show(status);
    chart(status.events);
    write("asked", new Date().toLocaleTimeString());
  } catch (fault) {
    write("verdict", "The gate does not answer.", "bad");
    write("phase", "unreachable", "bad");
    before = null;
  }
  setTimeout(ask, PAUSE_MS);
}

ask();
