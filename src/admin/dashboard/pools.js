// The pools and their hosts.
"use strict";

/** Name → {node, board, rows, rates, ...}. */
const pools = new Map();
/** Samples by pool, newest last. */
const samplesByPool = new Map();
/** The latest status, and its time. */
let latest;
let statusTime = 0;
/** Called when the view has changed. */
let changeView;

/** Marks pools outside the viewport, which are not drawn. */
const sight = new IntersectionObserver((entries) => {
  for (const { target, isIntersecting } of entries) target.classList.toggle("away", !isIntersecting);
}, { rootMargin: "300px" });

/** Adds samples to those of a pool, and drops those older than the charts show. */
function addSamples(pool, samples) {
  const earlier = samplesByPool.get(pool) ?? [];
  const news = samples.map((sample) => ({ ...sample, t: Date.parse(sample.t) }));
  const isNewer = news.length === 1 && (!earlier.length || earlier.at(-1).t < news[0].t);
  const all = isNewer
    ? [...earlier, ...news]
    : [...new Map([...earlier, ...news].map((sample) => [sample.t, sample])).values()].sort((one, other) => one.t - other.t);
  const newest = all.at(-1)?.t;
  samplesByPool.set(pool, all.filter((sample) => newest - sample.t <= WINDOW * 1000));
}

function takeSample(samples) {
  for (const [pool, sample] of Object.entries(samples)) addSamples(pool, [sample]);
  for (const pool of samplesByPool.keys()) if (!Object.hasOwn(samples, pool)) samplesByPool.delete(pool);
  for (const entry of pools.values()) drawPool(entry);
  const rate = Object.values(samples).reduce((sum, sample) => sum + sample.requests_per_second, 0);
  figure(part(find("process"), "rate"), number(rate));
}

function drawPool({ node, board, pool, isShown }) {
  if (isShown) {
    if (!node.classList.contains("away")) board.draw();
    return;
  }
  const sample = samplesByPool.get(pool.name)?.at(-1);
  const parts = sample && [
    `${number(sample.requests_per_second)} requests/s`,
    `${percent(errorShare(pool))} errors in the last minute`,
    `p50 ${millis(sample.p50_ms)}, p99 ${millis(sample.p99_ms)}`,
    `${number(sample.in_flight)} in flight`,
    `${number(sample.retries_per_second)} retries/s`,
  ];
  setText(part(node, "summary"), parts ? parts.join(" · ") : "");
}

/** Makes the children of `parent` the nodes of the keys in `wanted`, in order; `make` creates missing entries. */
function arrange(parent, known, wanted, make) {
  const kept = new Set(wanted);
  for (const [key, entry] of known) {
    if (kept.has(key)) continue;
    entry.node.remove();
    known.delete(key);
  }
  wanted.forEach((key, index) => {
    if (!known.has(key)) known.set(key, make(key));
    const { node } = known.get(key);
    if (parent.children[index] !== node) parent.insertBefore(node, parent.children[index] ?? null);
  });
}

let poolCount = 0;

function makePool(name) {
  const node = copy("pool");
  const body = part(node, "body");
  body.id = `pool-${(poolCount += 1)}`;
  const entry = { node, rows: new Map(), sources: new Map(), rates: new Map(), more: 0 };
  const recent = (id) => id === "errors" && { text: percent(errorShare(entry.pool)), note: "last minute" };
  entry.board = new Board(part(node, "charts"), () => samplesByPool.get(name) ?? [], recent);
  const fold = part(node, "fold");
  fold.setAttribute("aria-controls", body.id);
  fold.addEventListener("click", () => {
    view.open.set(name, !entry.isShown);
    changeView();
  });
  for (const button of node.querySelectorAll("[data-sort]")) {
    button.addEventListener("click", () => {
      const { sort } = button.dataset;
      // The first click sorts, the second reverses the order, the third restores the default order.
      if (view.sort !== sort) Object.assign(view, { sort, isReversed: false });
      else if (!view.isReversed) view.isReversed = true;
      else Object.assign(view, { sort: "", isReversed: false });
      changeView();
    });
  }
  part(node, "more").addEventListener("click", () => {
    entry.more += MORE;
    changeView();
  });
  sight.observe(node);
  return entry;
}

/** Shows the pools of the latest status according to the view. */
function showPools() {
  const list = latest.pools;
  arrange(find("pools"), pools, list.map((pool) => pool.name), makePool);
  const found = list.map(chosen);
  const open = list.map((pool, index) => isOpen(pool, list.length) && (found[index].length > 0 || !isFiltered()));
  const rows = Math.max(ROWS.min, Math.min(ROWS.max, Math.floor(ROWS.all / Math.max(1, open.filter(Boolean).length))));
  list.forEach((pool, index) => {
    const entry = pools.get(pool.name);
    entry.node.hidden = isFiltered() && !found[index].length;
    showPool(entry, pool, found[index], open[index], rows);
  });
  showTools(list, found, open.some(Boolean));
}

/** Updates the attempts per second of each host since the previous status. */
function takeRates({ rates }, pool, now) {
  for (const { id, requests } of pool.hosts) {
    const before = rates.get(id);
    const isLater = before && now > before.now && requests >= before.requests;
    const rate = isLater ? ((requests - before.requests) * 1000) / (now - before.now) : before?.rate ?? null;
    rates.set(id, { now, requests, rate });
  }
  if (rates.size > 2 * pool.hosts.length) {
    const ids = new Set(pool.hosts.map((host) => host.id));
    for (const id of rates.keys()) if (!ids.has(id)) rates.delete(id);
  }
}

function showPool(entry, pool, hosts, isShown, maxRows) {
  const { node: section } = entry;
  entry.pool = pool;
  const about = [pool.algorithm];
  if (pool.key) about.push(`key ${pool.key}`);
  if (pool.sticky) about.push(`sticky by cookie ${pool.sticky}`);
  if (pool.waiting) about.push(`${number(pool.waiting)} of ${number(pool.queue_limit)} queued`);
  if (pool.retries?.running) about.push(`${plural(pool.retries.running, "retry", "retries")} beyond the budget`);
  setText(part(section, "name"), pool.name);
  setText(part(section, "about"), about.join(" · "));
  const usable = part(section, "usable");
  usable.className = `usable ${poolTone(pool)}`;
  setText(usable, usability([pool]));
  const maintenance = part(section, "maintenance");
  setTextOrHide(maintenance, pool.maintenance ? "Maintenance" : "");
  maintenance.title = pool.maintenance ? `Clients get 503: ${pool.maintenance.message}` : "";
  setTextOrHide(part(section, "alarm"), pool.usable ? "" : `No host is usable: ${fallbackText(pool)}.`);
  part(section, "fold").setAttribute("aria-expanded", String(isShown));
  section.classList.toggle("open", isShown);
  part(section, "body").hidden = !isShown;
  part(section, "summary").hidden = isShown;
  const unhealthy = isShown ? [] : pool.hosts.filter((host) => tone(host) === "bad");
  setTextOrHide(part(section, "ill"), unhealthy.length ? `Down or ejected: ${firstNames(unhealthy.map(hostName), 5)}` : "");
  showSources(part(section, "sources"), entry.sources, pool.sources);
  if (isShown && !entry.isShown) readHistory(entry, pool.name);
  const hasChanged = entry.isShown !== isShown;
  entry.isShown = isShown;
  if (hasChanged) drawPool(entry);
  const shown = isShown ? order(entry, hosts).slice(0, maxRows + entry.more) : [];
  if (!isShown) entry.more = 0;
  arrange(section.querySelector("tbody"), entry.rows, shown.map((host) => host.id), (id) => {
    const row = copy("host");
    part(row, "drain").addEventListener("click", (click) => toggleDrain(click.target, pool.name, id));
    return { node: row };
  });
  for (const host of shown) showHost(entry.rows.get(host.id), entry, pool, host);
  const hidden = hosts.length - shown.length;
  const more = part(section, "more");
  more.parentElement.hidden = !isShown || hidden <= 0;
  setText(more, hidden > MORE ? `Show ${MORE} more` : `Show all ${number(hosts.length)}`);
  setText(part(section, "rest"), `${number(shown.length)} of ${plural(hosts.length, "host")} shown.`);
  for (const button of section.querySelectorAll("[data-sort]")) {
    const heading = button.closest("th");
    const isLargestFirst = SORTS[button.dataset.sort][1] !== view.isReversed;
    if (button.dataset.sort === view.sort) heading.setAttribute("aria-sort", isLargestFirst ? "descending" : "ascending");
    else heading.removeAttribute("aria-sort");
  }
}

/** Shows what is known from each source of hosts. */
function showSources(list, known, sources) {
  list.hidden = !sources.length;
  arrange(list, known, sources.map(({ source }) => source), () => ({ node: copy("source") }));
  for (const source of sources) {
    const { node } = known.get(source.source);
    node.className = source.hosts ? (source.error || source.stale ? "warn" : "") : "bad";
    setText(node, sourceText(source));
  }
}

/** Sorts hosts. An order that can change every second is kept while the pointer or the focus is on the rows. */
function order(entry, hosts) {
  const key = JSON.stringify([view.sort, view.isReversed, view.filter, view.problems]);
  const isRestless = ["rate", "latency", "in-flight", "errors"].includes(view.sort);
  const isHeld = isRestless && entry.order?.key === key && entry.node.querySelector("tbody").matches(":hover, :focus-within");
  const places = isHeld && entry.order.places;
  const inOrder = isHeld
    ? hosts.toSorted((one, other) => (places.get(one.id) ?? Infinity) - (places.get(other.id) ?? Infinity))
    : sorted(hosts, entry.rates);
  if (!isHeld) entry.order = { key, places: new Map(inOrder.map((host, index) => [host.id, index])) };
  return inOrder;
}

function showHost(entry, { rates }, pool, host) {
  const { node: row } = entry;
  setSymbol(row, STATES[host.state] ?? STATES.unchecked);
  const about = [];
  if (host.name) about.push(host.id);
  if (host.address !== host.id) about.push(host.address);
  if (host.backup) about.push("backup");
  if (isFound(host)) about.push(host.source);
  about.push(...labels(host));
  // The reason of a draining host already says that it is drained.
  about.push(...host.operator.filter((change) => change !== "drained" || host.state !== "draining"));
  setText(part(row, "id"), hostName(host));
  setText(part(row, "about"), about.join(" · "));
  setText(part(row, "state"), host.state);
  setText(part(row, "reason"), host.reason);
  const since = part(row, "since");
  setText(since, `for ${span((statusTime - Date.parse(host.since)) / 1000)}`);
  since.dateTime = host.since;
  since.title = `since ${new Date(host.since).toLocaleString()}`;
  setText(part(row, "weight"), number(host.weight));
  setText(part(row, "in-flight"), number(host.in_flight) + (host.max_in_flight ? ` / ${number(host.max_in_flight)}` : ""));
  setText(part(row, "latency"), millis(host.latency_ms));
  setText(part(row, "rate"), number(rates.get(host.id)?.rate));
  const errors = part(row, "errors");
  const { requests, errors: failed } = host.last_minute;
  setText(errors, percent(errorShare(host)));
  errors.classList.toggle("some", failed > 0);
  errors.title = `${number(failed)} of ${plural(requests, "attempt")} in the last minute, ${number(host.errors)} of ${plural(host.requests, "attempt")} since the process started`;
  const drained = host.operator.includes("drained");
  const drain = part(row, "drain");
  setText(drain, drained ? "Undrain" : "Drain");
  drain.hidden = host.state === "removed";
  drain.setAttribute("aria-label", `${drain.textContent} ${hostName(host)} of pool ${pool.name}`);
  entry.drained = drained;
}

/** The tone of a pool: that of its worst host. */
function poolTone(pool) {
  if (!pool.usable || members(pool).some((host) => tone(host) === "bad")) return "bad";
  return members(pool).every((host) => tone(host) === "good") ? "good" : "warn";
}
