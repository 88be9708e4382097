// The view: which pools and hosts are shown, and in which order. It is kept in the fragment of the URL, so that a link
// shows the same view.
"use strict";

/** A pool with more hosts than this is collapsed by default, and lists hosts with problems first. */
const LARGE = 16;
/** With more pools than this, all pools are collapsed by default. */
const MANY = 6;
/** The initial number of rows: in total, and the minimum and maximum per pool. */
const ROWS = { all: 600, min: 8, max: 50 };
/** Rows added by each click on "Show more". */
const MORE = 200;

/** The tone and symbol of each host state. */
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
/** The states in which a host is not usable, in the order of listing. */
const UNUSABLE = { down: "down", ejected: "ejected", probing: "probing", unchecked: "not checked yet", draining: "draining" };
/** States by urgency, most urgent first. */
const RANK = ["down", "ejected", "probing", "unchecked", "draining", "starting", "up", "removed"];

const byName = new Intl.Collator("en", { numeric: true }).compare;
const hostName = (host) => host.name ?? host.id;
const tone = (host) => STATES[host.state]?.[0];
const inTrouble = (host) => ["bad", "warn"].includes(tone(host));
/** The hosts of a pool, without those that an operator has removed. */
const members = (pool) => pool.hosts.filter((host) => host.state !== "removed");
/** Whether a host is from neither the file nor an operator. */
const isFound = (host) => !["configuration", "operator"].includes(host.source);
const labels = (host) => Object.entries(host.labels).map(([label, value]) => `${label}=${value}`);
const errorShare = ({ last_minute: { requests, errors } }) => (requests ? Math.min(1, errors / requests) : null);

/** The sort keys of hosts: the value, and whether the largest comes first. */
const SORTS = {
  host: [hostName, false],
  state: [(host) => RANK.indexOf(host.state), false],
  weight: [(host) => host.weight, true],
  "in-flight": [(host) => host.in_flight, true],
  latency: [(host) => host.latency_ms, true],
  rate: [(host, rates) => rates.get(host.id)?.rate ?? null, true],
  errors: [errorShare, true],
};

/** The current view. */
const view = { filter: "", problems: false, sort: "", isReversed: false, all: "", open: new Map() };

/** Reads the view, and the token if there is one, from the URL. */
function readView() {
  const params = new URLSearchParams(location.hash.slice(1));
  const token = params.get("token");
  if (token) sessionStorage.token = token;
  view.filter = params.get("filter") ?? "";
  view.problems = params.get("only") === "problems";
  const sort = params.get("sort") ?? "";
  view.isReversed = sort.startsWith("-");
  view.sort = Object.hasOwn(SORTS, sort.replace("-", "")) ? sort.replace("-", "") : "";
  view.all = ["open", "closed"].includes(params.get("pools")) ? params.get("pools") : "";
  view.open = new Map([...params.getAll("open").map((name) => [name, true]), ...params.getAll("closed").map((name) => [name, false])]);
  if (token) writeView();
}

function writeView() {
  const params = new URLSearchParams();
  if (view.filter) params.set("filter", view.filter);
  if (view.problems) params.set("only", "problems");
  if (view.sort) params.set("sort", (view.isReversed ? "-" : "") + view.sort);
  if (view.all) params.set("pools", view.all);
  for (const [name, isOpen] of view.open) params.append(isOpen ? "open" : "closed", name);
  const hash = String(params);
  window.history.replaceState(null, "", location.pathname + (hash ? `#${hash}` : ""));
}

const isFiltered = () => Boolean(view.filter.trim()) || view.problems;

/** The hosts of a pool that match the filter. */
function chosen(pool) {
  const words = view.filter.toLowerCase().split(/\s+/).filter(Boolean);
  if (!words.length && !view.problems) return pool.hosts;
  return pool.hosts.filter((host) => {
    if (view.problems && !inTrouble(host)) return false;
    const text = [pool.name, host.id, host.name, host.address, host.state, host.backup && "backup", host.source, ...labels(host), ...host.operator].join(" ").toLowerCase();
    return words.every((word) => text.includes(word));
  });
}

/** Hosts in the selected order; by default, a large pool lists hosts with problems first. */
function sorted(hosts, rates) {
  if (!view.sort) {
    if (hosts.length <= LARGE) return hosts;
    const rank = (host) => (inTrouble(host) ? RANK.indexOf(host.state) : RANK.length);
    return hosts.toSorted((one, other) => rank(one) - rank(other));
  }
  const [value, isLargestFirst] = SORTS[view.sort];
  const sign = isLargestFirst !== view.isReversed ? -1 : 1;
  const keyed = hosts.map((host) => [value(host, rates), host]);
  keyed.sort(([one], [other]) => {
    // Unknown values come last in both directions.
    if (one === null || other === null) return (one === null) - (other === null);
    return sign * (typeof one === "string" ? byName(one, other) : one - other);
  });
  return keyed.map(([, host]) => host);
}

function isOpen(pool, count) {
  const override = view.open.get(pool.name);
  if (override !== undefined) return override;
  if (isFiltered()) return true;
  if (view.all) return view.all === "open";
  return pool.hosts.length <= LARGE && count <= MANY;
}

/** `3 of 5 hosts usable: 1 down, 1 draining`. */
function usability(pools) {
  const hosts = pools.flatMap(members);
  const usable = pools.reduce((sum, pool) => sum + pool.usable, 0);
  const counts = Object.entries(UNUSABLE).map(([state, word]) => [hosts.filter((host) => host.state === state).length, word]);
  const parts = counts.filter(([count]) => count).map(([count, word]) => `${number(count)} ${word}`);
  return `${number(usable)} of ${plural(hosts.length, "host")} usable${parts.length ? `: ${parts.join(", ")}` : ""}`;
}

/** What is known from a source of hosts: `dns app.internal: 3 hosts, confirmed 12 s ago`. */
function sourceText({ source, hosts, age_seconds: age, stale, ttl_seconds: ttl, error }) {
  const parts = [hosts ? plural(hosts, "host") : "no hosts yet"];
  if (age !== null) parts.push(`confirmed ${span(age)} ago${stale ? " (stale: by an earlier process)" : ""}`);
  if (ttl >= 1) parts.push(`asked again in ${span(ttl)}`);
  return `${source}: ${parts.join(", ")}${error ? `; ${error}` : ""}`;
}

/** How a pool without a usable host handles requests. */
function fallbackText(pool) {
  const serving = pool.hosts.filter((host) => host.serving);
  if (!serving.length) return "requests get 503";
  return serving.every((host) => host.state === "draining")
    ? `${serving.length === 1 ? "the draining host serves" : "draining hosts serve"} as last resort`
    : "its hosts still get requests (when_all_down: try_all)";
}

/* The toolbar above the pools */

/** Calls `show` whenever the view changes. */
function listenToTools(show) {
  const change = () => {
    writeView();
    show();
  };
  const filter = find("filter");
  filter.addEventListener("input", () => {
    view.filter = filter.value;
    change();
  });
  find("problems").addEventListener("click", () => {
    view.problems = !view.problems;
    change();
  });
  find("sort").addEventListener("change", ({ target }) => {
    view.sort = target.value;
    view.isReversed = false;
    change();
  });
  find("fold").addEventListener("click", ({ currentTarget }) => {
    view.all = currentTarget.dataset.to;
    view.open.clear();
    change();
  });
  find("clear").addEventListener("click", () => {
    view.filter = "";
    view.problems = false;
    change();
    filter.focus();
  });
  // The fragment `#pools` would replace the view.
  document.querySelector(".skip").addEventListener("click", (click) => {
    click.preventDefault();
    find("pools").focus();
  });
  find("tools").addEventListener("submit", (send) => send.preventDefault());
  window.addEventListener("hashchange", () => {
    readView();
    show();
  });
  return change;
}

/** Shows the view in the toolbar. */
function showTools(pools, found, areOpen) {
  const hosts = pools.reduce((sum, pool) => sum + pool.hosts.length, 0);
  find("tools").hidden = pools.length === 1 && hosts <= 4 && !isFiltered() && !view.sort;
  const filter = find("filter");
  if (filter.value !== view.filter) filter.value = view.filter;
  find("sort").value = view.sort;
  find("problems").setAttribute("aria-pressed", String(view.problems));
  const fold = find("fold");
  fold.hidden = pools.length === 1;
  fold.dataset.to = areOpen ? "closed" : "open";
  setText(fold, areOpen ? "Collapse all" : "Expand all");
  const count = found.reduce((sum, { length }) => sum + length, 0);
  const text = `${plural(count, "host")} in ${plural(found.filter(({ length }) => length).length, "pool")} of ${number(pools.length)}`;
  setTextOrHide(find("found"), !isFiltered() ? "" : count ? text : view.problems && !view.filter ? "No host has problems." : "No host matches the filter.");
  find("clear").hidden = !isFiltered();
}
