// The dashboard. It follows the event stream of the process and shows the latest status.
// Everything from the process is inserted as text, never as markup.
"use strict";

/** The connection counts as lost after this many milliseconds without a message: a status arrives every second. */
const SILENCE_TIMEOUT = 4000;
/** Milliseconds between two attempts to connect. */
const RETRY_DELAY = 1000;
/** The maximum number of events on the page. */
const EVENTS = 100;

/** The tone and symbol of each kind of event. */
const KINDS = {
  up: ["good", "good"],
  returned: ["good", "good"],
  undrained: ["good", "rising"],
  thawed: ["good", "good"],
  drained: ["warn", "leaving"],
  maintenance_begun: ["warn", "warning"],
  maintenance_ended: ["good", "rising"],
  removed: ["warn", "leaving"],
  frozen: ["warn", "warning"],
  down: ["bad", "bad"],
  ejected: ["bad", "bad"],
  reload_failed: ["bad", "warning"],
  handover_failed: ["bad", "warning"],
  certificate_refused: ["bad", "warning"],
  certificate_order_failed: ["bad", "warning"],
};

/* Theme: set before the body is rendered, to avoid a flash of the other theme. */

const root = document.documentElement;
const dark = matchMedia("(prefers-color-scheme: dark)");
if (localStorage.theme) root.dataset.theme = localStorage.theme;
const isDark = () => (root.dataset.theme ? root.dataset.theme === "dark" : dark.matches);

/* The process */

function headline() {
  const withoutHosts = latest.pools.filter((pool) => !pool.usable);
  const hosts = latest.pools.flatMap(members);
  if (latest.draining) return ["warn", "leaving", "Shutting down: the last requests are finishing"];
  if (withoutHosts.length === 1) return ["bad", "bad", `No usable host in ${withoutHosts[0].name}: ${fallbackText(withoutHosts[0])}`];
  if (withoutHosts.length) return ["bad", "bad", `No usable host in ${firstNames(withoutHosts.map((pool) => pool.name))}`];
  if (!latest.ready) return ["warn", "unknown", "Not ready for requests"];
  if (hosts.every((host) => tone(host) === "good")) return ["good", "good", hosts.length === 1 ? "The host is up" : `All ${number(hosts.length)} hosts are up`];
  const isBad = hosts.some((host) => tone(host) === "bad");
  const isDraining = hosts.every((host) => ["good", "warn"].includes(tone(host)) && host.state !== "probing");
  return [isBad ? "bad" : "warn", isBad ? "bad" : isDraining ? "leaving" : "warning", usability(latest.pools)];
}

function showHeadline([tone, symbol, text]) {
  setSymbol(find("headline"), [tone, symbol]);
  setText(find("headline").lastElementChild, text);
  const title = `${tone === "good" ? "" : "⚠ "}${text} – Ballast`;
  if (document.title !== title) document.title = title;
}

/** The cluster: its members, the share of this one, and whether etcd is reached. */
function showCluster(cluster) {
  const line = find("cluster");
  line.hidden = !cluster;
  if (!cluster) return;
  const { name, member, shares, connected, since, last_error: error } = cluster;
  const others = cluster.members.map((other) => other.name).filter((other) => other !== member);
  const share = shares > 1 ? `, each with 1/${number(shares)} of the limits` : "";
  const state = connected ? `connected since ${clock(since)}` : `etcd lost since ${clock(since)}, changes are refused: ${error}`;
  setSymbol(line, connected ? ["good", "good"] : ["bad", "warning"]);
  setText(line.lastElementChild, `Cluster ${name}: ${plural(shares, "member")}${share}; ${member}${others.length ? ` beside ${firstNames(others)}` : ""}, ${state}`);
  line.title = cluster.limits.map(({ key, whole, share }) => `${key}: ${share} of ${whole}`).join("\n");
}

function takeStatus(news) {
  if (latest && latest.started !== news.started) {
    notify("Another process has taken over.");
    catchUp();
  }
  latest = news;
  statusTime = Date.parse(news.started) + news.uptime_seconds * 1000;
  document.body.classList.remove("waiting");
  document.body.classList.toggle("writable", news.writable);
  for (const pool of news.pools) {
    const entry = pools.get(pool.name);
    if (entry) takeRates(entry, pool, statusTime);
  }
  showPools();
  labelEvents();
  showHeadline(headline());
  showCluster(news.cluster);
  const process = find("process");
  const hosts = news.pools.flatMap(members).length;
  const recent = news.pools.reduce(({ requests, errors }, { last_minute: more }) => {
    return { requests: requests + more.requests, errors: errors + more.errors };
  }, { requests: 0, errors: 0 });
  const errors = part(process, "errors");
  figure(errors, percent(errorShare({ last_minute: recent })));
  errors.title = `${number(recent.errors)} of ${plural(recent.requests, "request")} in the last minute`;
  figure(part(process, "in-flight"), number(news.in_flight));
  figure(part(process, "connections"), number(news.connections));
  figure(part(process, "usable"), `${number(news.pools.reduce((sum, pool) => sum + pool.usable, 0))} of ${number(hosts)}`);
  figure(part(process, "uptime"), span(news.uptime_seconds));
  const foot = document.querySelector("footer");
  setText(part(foot, "version"), news.version);
  setText(part(foot, "pid"), String(news.pid));
  setText(part(foot, "file"), news.config.file ?? "built in");
  setText(part(foot, "hash"), news.config.hash.slice(0, 12));
  part(foot, "hash").title = news.config.hash;
  setText(part(foot, "loaded"), new Date(news.config.loaded).toLocaleString([], { hour12: false }));
  setText(part(foot, "panics"), number(news.panics));
  part(foot, "panics-shown").hidden = !news.panics;
}

/* Events */

/** Shows an event. Events arrive over the stream and from the list of past events; each is shown once, by time. */
function takeEvent(event, isNew) {
  const list = find("events");
  const key = `${event.at} ${event.number}`;
  const next = [...list.children].find((line) => line.dataset.key <= key);
  if (next?.dataset.key === key) return;
  const line = copy("event");
  line.dataset.key = key;
  line.classList.toggle("new", isNew);
  setSymbol(line, KINDS[event.kind] ?? ["", "note"]);
  const time = line.querySelector("time");
  time.dateTime = event.at;
  time.title = new Date(event.at).toLocaleString();
  time.textContent = clock(event.at);
  line.lastElementChild.textContent = event.text;
  line.dataset.host = event.host ?? "";
  line.dataset.pool = event.pool ?? "";
  list.insertBefore(line, next ?? null);
  while (list.children.length > EVENTS) list.lastElementChild.remove();
  find("quiet").hidden = true;
}

/** Adds the display names of hosts to the events, which identify a host by `host:port`. */
function labelEvents() {
  const named = new Map(latest.pools.flatMap((pool) => pool.hosts.filter((host) => host.name).map((host) => [`${pool.name} ${host.id}`, host.name])));
  for (const line of find("events").children) {
    const name = named.get(`${line.dataset.pool} ${line.dataset.host}`);
    if (name) setText(part(line, "name"), name);
  }
}

/* Changes */

// The token is in the URL once, `#token=…`, or the operator types it in. It is kept as long as the tab is open.

let silence;

function notify(text) {
  setTextOrHide(find("notice"), text);
  clearTimeout(silence);
  silence = setTimeout(() => setTextOrHide(find("notice"), ""), 6000);
}

/** Asks the operator for the token; false if the dialog is cancelled. */
function askForToken(refusal) {
  const dialog = find("unlock");
  setTextOrHide(find("refused"), refusal);
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
  const verb = pools.get(pool).rows.get(host)?.drained ? "undrain" : "drain";
  if (!sessionStorage.token && !(await askForToken(""))) return;
  button.disabled = true;
  try {
    const query = `pool=${encodeURIComponent(pool)}&host=${encodeURIComponent(host)}`;
    const headers = { Authorization: `Bearer ${sessionStorage.token}` };
    const response = await fetch(`/api/v1/${verb}?${query}`, { method: "POST", headers });
    if (response.ok) {
      notify(await response.text());
    } else if (response.status === 401) {
      delete sessionStorage.token;
      button.disabled = false;
      if (await askForToken("This token was not accepted.")) await toggleDrain(button, pool, host);
    } else {
      notify(`Not done: ${(await response.json()).error}`);
    }
  } catch {
    notify("Not done: the process does not respond.");
  }
  button.disabled = false;
}

/* The connection to the process */

let lastMessageAt = Date.now();
/** Whether the last attempt to connect failed. */
let hasFailed = false;

async function fetchJson(path) {
  const response = await fetch(`/api/v1/${path}`);
  if (!response.ok) throw new Error(`${path}: ${response.status}`);
  return response.json();
}

/** Loads the events and samples from before the stream. */
async function catchUp() {
  try {
    const { events } = await fetchJson("events");
    for (const event of events) takeEvent(event, false);
    for (const [name, entry] of pools) if (entry.isShown) await readHistory(entry, name);
  } catch {
    // The stream has failed as well, and its next open event loads them again.
  }
}

/** Loads the past samples of a pool; only expanded pools need them. */
async function readHistory(entry, name) {
  try {
    const { pools: earlier } = await fetchJson(`history?pool=${encodeURIComponent(name)}`);
    addSamples(name, earlier[name] ?? []);
    drawPool(entry);
  } catch {
    // The stream has failed as well, and its next open event loads them again.
  }
}

function showConnection(isLive) {
  document.body.classList.toggle("live", isLive);
  document.body.classList.toggle("lost", !isLive);
  setText(find("live"), isLive ? "live" : "lost");
}

function messageReceived() {
  lastMessageAt = Date.now();
  hasFailed = false;
  showConnection(true);
  setTextOrHide(find("lost"), "");
}

/** Shows since when the process has been silent: after SILENCE_TIMEOUT, or at once if it was shutting down. */
function checkConnection() {
  const wasStopping = Boolean(latest?.draining) && hasFailed;
  if (Date.now() - lastMessageAt < (wasStopping ? RETRY_DELAY : SILENCE_TIMEOUT)) return;
  showConnection(false);
  showHeadline(wasStopping ? ["warn", "leaving", "The process has ended"] : ["bad", "bad", "The process does not respond"]);
  const what = wasStopping ? `The process has ended after a shutdown; its last message was at ${clock(lastMessageAt)}.` : `The process has not responded since ${clock(lastMessageAt)}.`;
  setTextOrHide(find("lost"), `${what}${latest ? " The page shows the state at that time." : ""} Reconnecting…`);
}

/** Follows the stream until it ends or goes silent. */
function followStream() {
  const stream = new EventSource("/api/v1/stream");
  const on = (name, take) => stream.addEventListener(name, (message) => {
    messageReceived();
    take(JSON.parse(message.data));
  });
  on("status", takeStatus);
  on("sample", takeSample);
  on("event", (event) => takeEvent(event, true));
  stream.addEventListener("open", catchUp);
  return new Promise((ended) => {
    const watch = setInterval(() => Date.now() - lastMessageAt > 2 * SILENCE_TIMEOUT && end(), RETRY_DELAY);
    const end = () => {
      clearInterval(watch);
      stream.close();
      ended();
    };
    stream.addEventListener("error", end);
  });
}

async function keepFollowing() {
  for (;;) {
    await followStream();
    await pause(RETRY_DELAY);
    try {
      // If the process has no free stream, polling keeps the page up to date.
      takeStatus(await fetchJson("status"));
      messageReceived();
    } catch {
      hasFailed = true;
      checkConnection();
    }
  }
}

readView();
document.addEventListener("DOMContentLoaded", () => {
  const button = find("theme");
  const name = () => {
    setText(button, isDark() ? "Light" : "Dark");
    button.setAttribute("aria-label", `Use the ${button.textContent.toLowerCase()} theme`);
  };
  button.addEventListener("click", () => {
    localStorage.theme = root.dataset.theme = isDark() ? "light" : "dark";
    name();
  });
  dark.addEventListener("change", name);
  // Not a submit button: the Enter key activates the first one of a form, which would be Cancel.
  find("cancel").addEventListener("click", () => find("unlock").close());
  name();
  changeView = listenToTools(() => latest && showPools());
  setInterval(checkConnection, 1000);
  keepFollowing();
});
