// The dashboard. It hears from the process over one stream of events and keeps the page as the last word said.
// Whatever comes from there is text: nothing of it is ever taken for markup.
"use strict";

/** After this many milliseconds without a word the connection counts as lost: a status comes each second. */
const SILENCE = 4000;
/** Milliseconds between two tries to reach the process. */
const RETRY = 1000;
/** Events that are kept on the page. */
const EVENTS = 100;

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

/* The process */

function headline() {
  const deaf = latest.pools.filter((pool) => !pool.usable);
  const hosts = latest.pools.flatMap(members);
  if (latest.draining) return ["warn", "leaving", "Stopping: the last requests are being finished"];
  if (deaf.length === 1) return ["bad", "bad", `No usable host in ${deaf[0].name}: ${resort(deaf[0])}`];
  if (deaf.length) return ["bad", "bad", `No usable host in ${few(deaf.map((pool) => pool.name))}`];
  if (!latest.ready) return ["warn", "unknown", "Not ready for requests"];
  if (hosts.every((host) => tone(host) === "good")) return ["good", "good", hosts.length === 1 ? "The host is up" : `All ${number(hosts.length)} hosts are up`];
  const isBad = hosts.some((host) => tone(host) === "bad");
  const isDraining = hosts.every((host) => ["good", "warn"].includes(tone(host)) && host.state !== "probing");
  return [isBad ? "bad" : "warn", isBad ? "bad" : isDraining ? "leaving" : "warning", usability(latest.pools)];
}

function showHeadline([mood, symbol, text]) {
  shape(find("headline"), [mood, symbol]);
  say(find("headline").lastElementChild, text);
  const title = `${mood === "good" ? "" : "⚠ "}${text} – Ballast`;
  if (document.title !== title) document.title = title;
}

function takeStatus(news) {
  if (latest && latest.started !== news.started) {
    notify("Another process has taken over.");
    catchUp();
  }
  latest = news;
  toldAt = Date.parse(news.started) + news.uptime_seconds * 1000;
  document.body.classList.remove("waiting");
  document.body.classList.toggle("writable", news.writable);
  for (const pool of news.pools) {
    const entry = pools.get(pool.name);
    if (entry) takeRates(entry, pool, toldAt);
  }
  showPools();
  labelEvents();
  showHeadline(headline());
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
  line.dataset.host = event.host ?? "";
  line.dataset.pool = event.pool ?? "";
  list.insertBefore(line, next ?? null);
  while (list.children.length > EVENTS) list.lastElementChild.remove();
  find("quiet").hidden = true;
}

/** Puts the names of hosts to the events that tell of them: an event knows its host by `host:port`. */
function labelEvents() {
  const named = new Map(latest.pools.flatMap((pool) => pool.hosts.filter((host) => host.name).map((host) => [`${pool.name} ${host.id}`, host.name])));
  for (const line of find("events").children) {
    const name = named.get(`${line.dataset.pool} ${line.dataset.host}`);
    if (name) say(part(line, "name"), name);
  }
}

/* Steering */

// The token comes with the address once, `#token=…`, or is typed in; it lasts as long as the tab.

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
  const verb = pools.get(pool).rows.get(host)?.drained ? "undrain" : "drain";
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
/** Whether the last try to reach the process was in vain. */
let hasFailed = false;

async function read(path) {
  const answer = await fetch(`/api/v1/${path}`);
  if (!answer.ok) throw new Error(`${path}: ${answer.status}`);
  return answer.json();
}

/** What happened before the stream began. */
async function catchUp() {
  try {
    const { events } = await read("events");
    for (const event of events) takeEvent(event, false);
    for (const [name, entry] of pools) if (entry.isShown) await readHistory(entry, name);
  } catch {
    // The stream has ended as well, and is tried again.
  }
}

/** What a pool did before; of those that are collapsed it is not asked. */
async function readHistory(entry, name) {
  try {
    const { pools: earlier } = await read(`history?pool=${encodeURIComponent(name)}`);
    recall(name, earlier[name] ?? []);
    drawPool(entry);
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
  hasFailed = false;
  mark(true);
  tell(find("lost"), "");
}

/** Says since when nothing has been heard, once that is long; of a process that was stopping at once. */
function listen() {
  const wasStopping = Boolean(latest?.draining) && hasFailed;
  if (Date.now() - heardAt < (wasStopping ? RETRY : SILENCE)) return;
  mark(false);
  showHeadline(wasStopping ? ["warn", "leaving", "The process has ended"] : ["bad", "bad", "The process does not answer"]);
  const what = wasStopping ? `The process has ended: it was told to stop, and was heard of last at ${clock(heardAt)}.` : `The process has not answered since ${clock(heardAt)}.`;
  tell(find("lost"), `${what}${latest ? " What is shown is from then." : ""} Trying again…`);
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
      hasFailed = true;
      listen();
    }
  }
}

readView();
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
  changeView = listenToTools(() => latest && showPools());
  setInterval(listen, 1000);
  stay();
});
