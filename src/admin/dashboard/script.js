// The dashboard. It hears from the process over one stream of events and keeps the page as the last word said.
// Whatever comes from there is text: nothing of it is ever taken for markup.
"use strict";

/** After this many milliseconds without a word the connection counts as lost: a status comes each second. */
const SILENCE = 4000;
/** Milliseconds between two tries to reach the process. */
const RETRY = 1000;
/** Events that are kept on the page. */
const EVENTS = 100;

/** How a host's state looks: its tone and its shape. */
const STATES = {
  up: ["good", "good"],
  starting: ["good", "rising"],
  draining: ["warn", "leaving"],
  probing: ["warn", "warning"],
  ejected: ["bad", "bad"],
  down: ["bad", "bad"],
  unchecked: ["", "unknown"],
  removed: ["", "leaving"],
};
/** How a kind of event looks. */
const KINDS = {
  up: ["good", "good"],
  returned: ["good", "good"],
  undrained: ["good", "rising"],
  thawed: ["good", "good"],
  drained: ["warn", "leaving"],
  removed: ["warn", "leaving"],
  frozen: ["warn", "warning"],
  down: ["bad", "bad"],
  ejected: ["bad", "bad"],
  reload_failed: ["bad", "warning"],
  handover_failed: ["bad", "warning"],
};

/* Theme: set before the body is there, so that nothing flashes. */

const root = document.documentElement;
const dark = matchMedia("(prefers-color-scheme: dark)");
if (localStorage.theme) root.dataset.theme = localStorage.theme;
const isDark = () => (root.dataset.theme ? root.dataset.theme === "dark" : dark.matches);

/* Small helpers */

const find = (id) => document.getElementById(id);
const part = (node, name) => node.querySelector(`[data-is="${name}"]`);
const pause = (time) => new Promise((done) => setTimeout(done, time));

/** Changes a text only if it is another, so that a selection stays and a screen reader is left in peace. */
function say(node, text) {
  if (node.textContent !== text) node.textContent = text;
}

function tell(node, text) {
  say(node, text);
  node.hidden = !text;
}

function shape(node, [tone, symbol]) {
  node.classList.remove("good", "warn", "bad");
  if (tone) node.classList.add(tone);
  node.querySelector("use").setAttribute("href", `#${symbol}`);
}

const copy = (template) => find(template).content.firstElementChild.cloneNode(true);

function number(value) {
  if (value === null || value === undefined) return "–";
  if (value >= 1e6) return `${(value / 1e6).toFixed(value < 1e7 ? 2 : 1)}M`;
  if (value >= 1e4) return `${(value / 1e3).toFixed(value < 1e5 ? 1 : 0)}k`;
  return value < 10 && value % 1 ? value.toFixed(1) : Math.round(value).toLocaleString("en");
}

function percent(share) {
  if (share === null || share === undefined) return "–";
  const value = share * 100;
  return `${value === 0 || value >= 10 ? value.toFixed(0) : value < 0.01 ? "<0.01" : value.toFixed(value < 1 ? 2 : 1)} %`;
}

function millis(value) {
  if (value === null || value === undefined) return "–";
  if (value >= 1000) return `${(value / 1000).toFixed(value < 10000 ? 2 : 1)} s`;
  return `${value.toFixed(value < 10 ? 1 : 0)} ms`;
}

function span(seconds) {
  const units = [["d", 86400], ["h", 3600], ["min", 60], ["s", 1]];
  const left = Math.max(0, Math.floor(seconds));
  const first = units.findIndex(([, size]) => left >= size);
  if (first < 0) return "0 s";
  const [name, size] = units[first];
  const text = `${Math.floor(left / size)} ${name}`;
  const rest = units[first + 1] && Math.floor((left % size) / units[first + 1][1]);
  return rest && left / size < 10 ? `${text} ${rest} ${units[first + 1][0]}` : text;
}

const clock = (at) => new Date(at).toLocaleTimeString([], { hour12: false });
const plural = (count, one, many = `${one}s`) => `${number(count)} ${count === 1 ? one : many}`;

/** Numbers with their units in smaller type. */
function figure(node, text) {
  if (node.dataset.text === text) return;
  node.dataset.text = text;
  const parts = text.match(/[\d.,<–]+[kM]?|[^\d.,<–]+/g).map((piece) => {
    if (/[\d–]/.test(piece)) return piece;
    const unit = document.createElement("span");
    unit.className = "unit";
    unit.textContent = piece.trim();
    return unit;
  });
  node.replaceChildren(...parts);
}

/* History: samples by pool, the newest last */

const past = new Map();

/** Adds samples to those that are known of a pool. */
function recall(pool, samples) {
  const known = new Map((past.get(pool) ?? []).map((sample) => [sample.t, sample]));
  for (const sample of samples) {
    const t = Date.parse(sample.t);
    known.set(t, { ...sample, t });
  }
  const sorted = [...known.values()].sort((one, other) => one.t - other.t);
  const newest = sorted.at(-1)?.t;
  past.set(pool, sorted.filter((sample) => newest - sample.t <= WINDOW * 1000));
}

function drawPool(section, pool) {
  const samples = past.get(pool) ?? [];
  const curve = (key) => samples.map((sample) => [sample.t, sample[key]]);
  chart(part(section, "rate"), "Requests per second", [curve("requests_per_second")], number);
  chart(part(section, "errors"), "Share of errors", [curve("error_share")], percent);
  chart(part(section, "latency"), "Latency, median and 99th percentile", [curve("p50_ms"), curve("p99_ms")], millis);
  chart(part(section, "in-flight"), "Requests in flight", [curve("in_flight")], number);
}

function takeSample(samples) {
  for (const [pool, sample] of Object.entries(samples)) recall(pool, [sample]);
  for (const pool of past.keys()) if (!Object.hasOwn(samples, pool)) past.delete(pool);
  for (const [name, { node }] of pools) drawPool(node, name);
  const all = Object.values(samples);
  const rate = all.reduce((sum, sample) => sum + sample.requests_per_second, 0);
  const errors = all.reduce((sum, sample) => sum + sample.requests_per_second * (sample.error_share ?? 0), 0);
  figure(part(find("process"), "rate"), number(rate));
  figure(part(find("process"), "errors"), percent(rate ? errors / rate : null));
}

/* Pools and hosts */

/** Name → {node, hosts: id → {node, before}}. */
const pools = new Map();
/** The status that was told last. */
let latest;

/** Makes the children of `parent` those of `wanted`, in order; one that is new is made. */
function arrange(parent, known, wanted, make) {
  for (const [key, entry] of known) {
    if (wanted.includes(key)) continue;
    entry.node.remove();
    known.delete(key);
  }
  wanted.forEach((key, nth) => {
    if (!known.has(key)) known.set(key, make(key));
    const { node } = known.get(key);
    if (parent.children[nth] !== node) parent.insertBefore(node, parent.children[nth] ?? null);
  });
}

function showPools(list, now) {
  arrange(find("pools"), pools, list.map((pool) => pool.name), () => {
    return { node: copy("pool"), hosts: new Map() };
  });
  for (const pool of list) showPool(pools.get(pool.name), pool, now);
}

function showPool({ node: section, hosts }, pool, now) {
  const about = [pool.algorithm];
  if (pool.key) about.push(`key ${pool.key}`);
  if (pool.sticky) about.push(`sticky by cookie ${pool.sticky}`);
  if (pool.waiting) about.push(`${number(pool.waiting)} of ${number(pool.queue_limit)} places in line taken`);
  if (pool.retries?.running) about.push(`${plural(pool.retries.running, "retry", "retries")} beyond the budget`);
  say(part(section, "name"), pool.name);
  say(part(section, "about"), about.join(" · "));
  const usable = part(section, "usable");
  usable.className = `usable ${health(pool)[0]}`;
  say(usable, `${pool.usable} of ${plural(members(pool).length, "host")} usable`);
  tell(part(section, "alarm"), pool.usable ? "" : `No host is usable: ${
    pool.hosts.some((host) => host.serving)
      ? "the last ones that are left are tried all the same."
      : "requests are answered with 503."
  }`);
  arrange(section.querySelector("tbody"), hosts, pool.hosts.map((host) => host.id), (id) => {
    const row = copy("host");
    part(row, "drain").addEventListener("click", (click) => toggleDrain(click.target, pool.name, id));
    return { node: row };
  });
  for (const host of pool.hosts) showHost(hosts.get(host.id), pool, host, now);
}

function showHost(entry, pool, host, now) {
  const { node: row } = entry;
  shape(row, STATES[host.state] ?? STATES.unchecked);
  const about = [];
  if (host.address !== host.id) about.push(host.address);
  if (host.backup) about.push("backup");
  about.push(...host.operator);
  say(part(row, "id"), host.id);
  say(part(row, "about"), about.join(" · "));
  say(part(row, "state"), host.state);
  say(part(row, "reason"), host.reason);
  const since = part(row, "since");
  say(since, `for ${span((now - Date.parse(host.since)) / 1000)}`);
  since.dateTime = host.since;
  since.title = `since ${new Date(host.since).toLocaleString()}`;
  say(part(row, "weight"), number(host.weight));
  say(part(row, "in-flight"), number(host.in_flight) + (host.max_in_flight ? ` / ${number(host.max_in_flight)}` : ""));
  say(part(row, "latency"), millis(host.latency_ms));
  say(part(row, "rate"), number(rateOf(entry, host, now)));
  const errors = part(row, "errors");
  say(errors, percent(host.requests ? host.errors / host.requests : null));
  errors.title = `${number(host.errors)} of ${plural(host.requests, "attempt")} since the process began`;
  const drained = host.operator.includes("drained");
  const drain = part(row, "drain");
  say(drain, drained ? "Undrain" : "Drain");
  drain.hidden = host.state === "removed";
  drain.setAttribute("aria-label", `${drain.textContent} ${host.id} of pool ${pool.name}`);
  entry.drained = drained;
}

/** Attempts per second since the last status, which came about a second ago. */
function rateOf(entry, host, now) {
  const { before } = entry;
  entry.before = { now, requests: host.requests };
  if (!before || now <= before.now || host.requests < before.requests) return entry.rate ?? null;
  entry.rate = ((host.requests - before.requests) * 1000) / (now - before.now);
  return entry.rate;
}

/** The hosts that a pool has; one that an operator has removed is only told of. */
const members = (pool) => pool.hosts.filter((host) => host.state !== "removed");
const tone = (host) => STATES[host.state]?.[0];

/** The tone of a pool, and how many of its hosts are in trouble. */
function health(pool) {
  const ill = members(pool).filter((host) => tone(host) === "bad").length;
  if (!pool.usable) return ["bad", ill];
  const isWell = members(pool).every((host) => tone(host) === "good");
  return [ill ? "bad" : isWell ? "good" : "warn", ill];
}

/* The process */

function headline() {
  const deaf = latest.pools.filter((pool) => !pool.usable).map((pool) => pool.name);
  const hosts = latest.pools.flatMap(members);
  const ill = latest.pools.reduce((sum, pool) => sum + health(pool)[1], 0);
  const draining = hosts.filter((host) => host.state === "draining").length;
  if (latest.draining) return ["warn", "leaving", "Stopping: the last requests are being finished"];
  if (!latest.ready) return ["warn", "unknown", "Not ready for requests"];
  if (deaf.length) return ["bad", "bad", `No usable host in ${deaf.join(", ")}`];
  if (ill) return ["bad", "bad", `${ill} of ${plural(hosts.length, "host")} ${ill === 1 ? "is" : "are"} out`];
  if (draining) return ["warn", "leaving", `${plural(draining, "host")} ${draining === 1 ? "drains" : "drain"}, all others serve`];
  if (hosts.every((host) => tone(host) === "good")) return ["good", "good", hosts.length === 1 ? "The host is up" : `All ${hosts.length} hosts are up`];
  return ["warn", "warning", "Some hosts have yet to prove themselves"];
}

function takeStatus(news) {
  if (latest && latest.started !== news.started) {
    notify("Another process has taken over.");
    catchUp();
  }
  latest = news;
  const now = Date.parse(news.started) + news.uptime_seconds * 1000;
  document.body.classList.remove("waiting");
  document.body.classList.toggle("writable", news.writable);
  showPools(news.pools, now);
  const [mood, symbol, text] = headline();
  shape(find("headline"), [mood, symbol]);
  say(find("headline").lastElementChild, text);
  document.title = `${mood === "good" ? "" : "⚠ "}${text} – Ballast`;
  const process = find("process");
  const hosts = news.pools.flatMap(members).length;
  figure(part(process, "in-flight"), number(news.in_flight));
  figure(part(process, "connections"), number(news.connections));
  figure(part(process, "usable"), `${news.pools.reduce((sum, pool) => sum + pool.usable, 0)} of ${hosts}`);
  figure(part(process, "uptime"), span(news.uptime_seconds));
  const foot = document.querySelector("footer");
  say(part(foot, "version"), news.version);
  say(part(foot, "pid"), String(news.pid));
  say(part(foot, "file"), news.config.file ?? "built in");
  say(part(foot, "hash"), news.config.hash.slice(0, 12));
  part(foot, "hash").title = news.config.hash;
  say(part(foot, "loaded"), new Date(news.config.loaded).toLocaleString([], { hour12: false }));
  say(part(foot, "panics"), number(news.panics));
  part(foot, "panics-shown").hidden = !news.panics;
}

/* Events */

/** Events come over the stream and from the list of the past ones: each is shown once, in the order of their times. */
function takeEvent(event, isNew) {
  const list = find("events");
  const key = `${event.at} ${event.number}`;
  const next = [...list.children].find((line) => line.dataset.key <= key);
  if (next?.dataset.key === key) return;
  const line = copy("event");
  line.dataset.key = key;
  line.classList.toggle("new", isNew);
  shape(line, KINDS[event.kind] ?? ["", "note"]);
  const time = line.querySelector("time");
  time.dateTime = event.at;
  time.title = new Date(event.at).toLocaleString();
  time.textContent = clock(event.at);
  line.lastElementChild.textContent = event.text;
  list.insertBefore(line, next ?? null);
  while (list.children.length > EVENTS) list.lastElementChild.remove();
  find("quiet").hidden = true;
}

/* Steering */

/** The token comes with the address once, `#token=…`, or is typed in; it lasts as long as the tab. */
function takeToken() {
  const token = new URLSearchParams(location.hash.slice(1)).get("token");
  if (!token) return;
  sessionStorage.token = token;
  window.history.replaceState(null, "", location.pathname);
}

let silence;

function notify(text) {
  tell(find("notice"), text);
  clearTimeout(silence);
  silence = setTimeout(() => tell(find("notice"), ""), 6000);
}

/** Asks for the token; false if nobody gives it. */
function unlock(refusal) {
  const dialog = find("unlock");
  tell(find("refused"), refusal);
  find("token").value = "";
  dialog.returnValue = "";
  dialog.showModal();
  return new Promise((done) => {
    dialog.addEventListener("close", () => {
      const given = dialog.returnValue === "ok";
      if (given) sessionStorage.token = find("token").value.trim();
      done(given);
    }, { once: true });
  });
}

async function toggleDrain(button, pool, host) {
  const verb = pools.get(pool).hosts.get(host).drained ? "undrain" : "drain";
  if (!sessionStorage.token && !(await unlock(""))) return;
  button.disabled = true;
  try {
    const query = `pool=${encodeURIComponent(pool)}&host=${encodeURIComponent(host)}`;
    const headers = { Authorization: `Bearer ${sessionStorage.token}` };
    const answer = await fetch(`/api/v1/${verb}?${query}`, { method: "POST", headers });
    if (answer.ok) {
      notify(await answer.text());
    } else if (answer.status === 401) {
      delete sessionStorage.token;
      button.disabled = false;
      if (await unlock("This token was not accepted.")) await toggleDrain(button, pool, host);
    } else {
      notify(`Not done: ${(await answer.json()).error}`);
    }
  } catch {
    notify("Not done: the process does not answer.");
  }
  button.disabled = false;
}

/* The connection to the process */

let heardAt = Date.now();

async function read(path) {
  const answer = await fetch(`/api/v1/${path}`);
  if (!answer.ok) throw new Error(`${path}: ${answer.status}`);
  return answer.json();
}

/** What happened before the stream began. */
async function catchUp() {
  try {
    const [{ pools: earlier }, { events }] = await Promise.all([read("history"), read("events")]);
    for (const [pool, samples] of Object.entries(earlier)) recall(pool, samples);
    for (const event of events) takeEvent(event, false);
  } catch {
    // The stream has ended as well, and is tried again.
  }
}

function mark(isLive) {
  document.body.classList.toggle("live", isLive);
  document.body.classList.toggle("lost", !isLive);
  say(find("live"), isLive ? "live" : "lost");
}

function heard() {
  heardAt = Date.now();
  mark(true);
  tell(find("lost"), "");
}

/** Says since when nothing has been heard, once that is long. */
function listen() {
  if (Date.now() - heardAt < SILENCE) return;
  mark(false);
  const rest = latest ? " What is shown is from then." : "";
  tell(find("lost"), `The process has not answered since ${clock(heardAt)}.${rest} Trying again…`);
}

/** Listens to the stream until it ends or falls silent. */
function follow() {
  const stream = new EventSource("/api/v1/stream");
  const on = (name, take) => stream.addEventListener(name, (message) => {
    heard();
    take(JSON.parse(message.data));
  });
  on("status", takeStatus);
  on("sample", takeSample);
  on("event", (event) => takeEvent(event, true));
  stream.addEventListener("open", catchUp);
  return new Promise((ended) => {
    const watch = setInterval(() => Date.now() - heardAt > 2 * SILENCE && end(), RETRY);
    const end = () => {
      clearInterval(watch);
      stream.close();
      ended();
    };
    stream.addEventListener("error", end);
  });
}

async function stay() {
  for (;;) {
    await follow();
    await pause(RETRY);
    try {
      // Where all streams are taken, this is what keeps the page up to date.
      takeStatus(await read("status"));
      heard();
    } catch {
      // `listen` tells.
    }
  }
}

takeToken();
document.addEventListener("DOMContentLoaded", () => {
  const button = find("theme");
  const name = () => {
    say(button, isDark() ? "Light" : "Dark");
    button.setAttribute("aria-label", `Use the ${button.textContent.toLowerCase()} theme`);
  };
  button.addEventListener("click", () => {
    localStorage.theme = root.dataset.theme = isDark() ? "light" : "dark";
    name();
  });
  dark.addEventListener("change", name);
  // Were it a button that submits, the Enter key would mean it, because it comes first.
  find("cancel").addEventListener("click", () => find("unlock").close());
  name();
  setInterval(listen, 1000);
  stay();
});
