// What of the pools and hosts is shown, and in which order. It stands in the address behind `#`, so that a link shows the
// same to a colleague.
"use strict";

/** A pool with more hosts than this is collapsed at first, and shows hosts in trouble first. */
const LARGE = 16;
/** Where there are more pools than this all of them are collapsed at first. */
const MANY = 6;
/** Rows of hosts on the page at first, over all pools, and in one of them at least and at most. */
const ROWS = { all: 600, least: 8, most: 50 };
/** Rows that a click adds. */
const MORE = 200;

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
/** The states in which a host is not usable, as they are listed. */
const UNUSABLE = { down: "down", ejected: "ejected", probing: "probing", unchecked: "not checked yet", draining: "draining" };
/** States by how much they want to be seen. */
const RANK = ["down", "ejected", "probing", "unchecked", "draining", "starting", "up", "removed"];

const byName = new Intl.Collator("en", { numeric: true }).compare;
const known = (host) => host.name ?? host.id;
const tone = (host) => STATES[host.state]?.[0];
const inTrouble = (host) => ["bad", "warn"].includes(tone(host));
/** The hosts that a pool has; one that an operator has removed is only told of. */
const members = (pool) => pool.hosts.filter((host) => host.state !== "removed");
const errorShare = ({ last_minute: { requests, errors } }) => (requests ? Math.min(1, errors / requests) : null);

/** What hosts can be sorted by: the value, and whether the largest comes first. */
const SORTS = {
  host: [known, false],
  state: [(host) => RANK.indexOf(host.state), false],
  weight: [(host) => host.weight, true],
  "in-flight": [(host) => host.in_flight, true],
  latency: [(host) => host.latency_ms, true],
  rate: [(host, rates) => rates.get(host.id)?.rate ?? null, true],
  errors: [errorShare, true],
};

/** What was asked to be seen. */
const view = { filter: "", problems: false, sort: "", turned: false, all: "", open: new Map() };

/** Takes the view, and the token if there is one, from the address. */
function readView() {
  const said = new URLSearchParams(location.hash.slice(1));
  const token = said.get("token");
  if (token) sessionStorage.token = token;
  view.filter = said.get("filter") ?? "";
  view.problems = said.get("only") === "problems";
  const sort = said.get("sort") ?? "";
  view.turned = sort.startsWith("-");
  view.sort = Object.hasOwn(SORTS, sort.replace("-", "")) ? sort.replace("-", "") : "";
  view.all = ["open", "closed"].includes(said.get("pools")) ? said.get("pools") : "";
  view.open = new Map([...said.getAll("open").map((name) => [name, true]), ...said.getAll("closed").map((name) => [name, false])]);
  if (token) writeView();
}

function writeView() {
  const said = new URLSearchParams();
  if (view.filter) said.set("filter", view.filter);
  if (view.problems) said.set("only", "problems");
  if (view.sort) said.set("sort", (view.turned ? "-" : "") + view.sort);
  if (view.all) said.set("pools", view.all);
  for (const [name, isOpen] of view.open) said.append(isOpen ? "open" : "closed", name);
  const hash = String(said);
  window.history.replaceState(null, "", location.pathname + (hash ? `#${hash}` : ""));
}

const isNarrowed = () => Boolean(view.filter.trim()) || view.problems;

/** The hosts of a pool that were asked for. */
function chosen(pool) {
  const words = view.filter.toLowerCase().split(/\s+/).filter(Boolean);
  if (!words.length && !view.problems) return pool.hosts;
  return pool.hosts.filter((host) => {
    if (view.problems && !inTrouble(host)) return false;
    const text = [pool.name, host.id, host.name, host.address, host.state, host.backup && "backup", ...host.operator].join(" ").toLowerCase();
    return words.every((word) => text.includes(word));
  });
}

/** Hosts in the order that was asked for; without one a large pool has those in trouble first. */
function sorted(hosts, rates) {
  if (!view.sort) {
    if (hosts.length <= LARGE) return hosts;
    const rank = (host) => (inTrouble(host) ? RANK.indexOf(host.state) : RANK.length);
    return hosts.toSorted((one, other) => rank(one) - rank(other));
  }
  const [value, isLargestFirst] = SORTS[view.sort];
  const sign = isLargestFirst !== view.turned ? -1 : 1;
  const keyed = hosts.map((host) => [value(host, rates), host]);
  keyed.sort(([one], [other]) => {
    // What is not known comes last either way.
    if (one === null || other === null) return (one === null) - (other === null);
    return sign * (typeof one === "string" ? byName(one, other) : one - other);
  });
  return keyed.map(([, host]) => host);
}

function isOpen(pool, count) {
  const said = view.open.get(pool.name);
  if (said !== undefined) return said;
  if (isNarrowed()) return true;
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

/** What becomes of the requests to a pool without a usable host. */
function resort(pool) {
  const serving = pool.hosts.filter((host) => host.serving);
  if (!serving.length) return "requests are answered with 503";
  return serving.every((host) => host.state === "draining")
    ? `${serving.length === 1 ? "the draining host serves" : "draining hosts serve"} as last resort`
    : "its hosts get requests all the same (when_all_down: try_all)";
}

/* The tools above the pools */

/** Calls `show` whenever another view is asked for. */
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
    view.turned = false;
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
  // As an address, `#pools` would be another view.
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

/** Shows the view in the tools. */
function showTools(pools, found, areOpen) {
  const hosts = pools.reduce((sum, pool) => sum + pool.hosts.length, 0);
  find("tools").hidden = pools.length === 1 && hosts <= 4 && !isNarrowed() && !view.sort;
  const filter = find("filter");
  if (filter.value !== view.filter) filter.value = view.filter;
  find("sort").value = view.sort;
  find("problems").setAttribute("aria-pressed", String(view.problems));
  const fold = find("fold");
  fold.hidden = pools.length === 1;
  fold.dataset.to = areOpen ? "closed" : "open";
  say(fold, areOpen ? "Collapse all" : "Expand all");
  const count = found.reduce((sum, { length }) => sum + length, 0);
  const text = `${plural(count, "host")} in ${plural(found.filter(({ length }) => length).length, "pool")} of ${number(pools.length)}`;
  tell(find("found"), !isNarrowed() ? "" : count ? text : view.problems && !view.filter ? "No host is in trouble." : "No host matches.");
  find("clear").hidden = !isNarrowed();
}
