// What the pages do more with JavaScript than without: they stay up to date, and their forms do not reload them.
"use strict";

const PERIOD = 2000; // ms between two looks at a live page
const MOST_ROWS = 80; // of the stream
let place = location.pathname + location.search; // of the page that is shown

// Make `old` look like `fresh`, keeping the elements that are there, and with them focus, open menus and typed text.
function become(old, fresh) {
  for (const { name, value } of [...fresh.attributes]) {
    if (old.getAttribute(name) !== value && !(name === "open" || name === "checked")) old.setAttribute(name, value);
  }
  for (const { name } of [...old.attributes]) {
    if (!fresh.hasAttribute(name) && name !== "open" && name !== "aria-busy") old.removeAttribute(name);
  }
  if (old.hasAttribute("data-keep")) return;
  const theirs = [...fresh.childNodes];
  theirs.forEach((next, place) => {
    const key = next.dataset?.key;
    const known = key && [...old.children].find((child) => child.dataset.key === key);
    if (known && known !== old.childNodes[place]) old.insertBefore(known, old.childNodes[place] || null);
    const now = old.childNodes[place];
    if (!now) old.append(document.importNode(next, true));
    else if (!alike(now, next)) old.insertBefore(document.importNode(next, true), now);
    else if (now.nodeType === Node.ELEMENT_NODE) become(now, next);
    else if (now.data !== next.data) now.data = next.data;
  });
  while (old.childNodes.length > theirs.length) old.lastChild.remove();
}

function alike(one, other) {
  if (one.nodeType !== other.nodeType || one.nodeName !== other.nodeName) return false;
  if (one.nodeType !== Node.ELEMENT_NODE) return true;
  return one.id === other.id && one.dataset.key === other.dataset.key;
}

async function page(answer) {
  const type = answer.headers.get("content-type") || "";
  if (!type.startsWith("text/html")) throw new Error("not a page");
  return new DOMParser().parseFromString(await answer.text(), "text/html");
}

// The parts marked data-live are fetched again and again while somebody looks.
async function refresh() {
  const url = location.href;
  const answer = await fetch(url, { headers: { "notifier-refresh": "1" } });
  if (answer.redirected || !answer.ok) return answer.redirected && location.assign(answer.url);
  const fresh = await page(answer);
  if (url !== location.href) return null;
  for (const part of document.querySelectorAll("[data-live][id]")) {
    const next = fresh.getElementById(part.id);
    if (next && !inUse(part)) become(part, next);
  }
  return null;
}

// Nothing changes under the hands of whoever fills something in, or has just pressed a button.
function inUse(part) {
  const active = document.activeElement;
  return part.querySelector("details.menu[open], [aria-busy]") || (part.contains(active) && active.matches("input, select, textarea"));
}

function trouble(words) {
  const place = document.getElementById("away");
  if (place.hidden !== !words) place.hidden = !words;
}

async function keepFresh() {
  for (;;) {
    await new Promise((wake) => setTimeout(wake, PERIOD));
    if (document.hidden || !document.querySelector("[data-live]")) continue;
    try {
      await refresh();
      trouble(false);
    } catch {
      trouble(true);
    }
  }
}

// A form posts itself in the background; what comes back becomes the page.
async function submit(form, button) {
  const body = new URLSearchParams(new FormData(form, button));
  button?.setAttribute("aria-busy", "true");
  try {
    const answer = await fetch(button?.getAttribute("formaction") || form.getAttribute("action") || location.href, { method: "POST", body });
    if (!(answer.headers.get("content-type") || "").startsWith("text/html")) return refused(button, await answer.json());
    const fresh = await page(answer);
    if (answer.redirected && answer.url !== location.href) history.pushState(null, "", answer.url);
    show(fresh);
  } catch {
    button?.removeAttribute("aria-busy");
    trouble(true);
  }
  return null;
}

function refused(button, problem) {
  button?.removeAttribute("aria-busy");
  const place = document.getElementById("away");
  place.querySelector("p").textContent = problem.detail || problem.title || "That was refused.";
  place.hidden = false;
  place.scrollIntoView({ block: "nearest" });
}

function show(fresh) {
  document.title = fresh.title;
  place = location.pathname + location.search;
  document.body.replaceWith(document.importNode(fresh.body, true));
  const said = document.getElementById("said");
  const target = said?.textContent.trim() ? said : document.getElementById("main");
  target.focus({ preventScroll: true });
  said?.scrollIntoView({ block: "nearest" });
  follow();
}

function onSubmit(event) {
  const form = event.target;
  if (form.method !== "post" || form.hasAttribute("data-plain")) return;
  event.preventDefault();
  submit(form, event.submitter);
}

// Attempts as they happen, the newest on top.
let source = null;
function follow() {
  source?.close();
  source = null;
  const list = document.querySelector("[data-stream]");
  if (!list) return;
  source = new EventSource(list.dataset.stream);
  source.addEventListener("attempt", (event) => {
    if (!list.isConnected) return;
    const attempt = JSON.parse(event.data);
    if (list.matches(":hover, :focus-within")) held(list, attempt);
    else put(list, attempt);
  });
}

function put(list, attempt) {
  const row = document.getElementById("attempt-row").content.firstElementChild.cloneNode(true);
  const good = attempt.error === null;
  row.querySelector(good ? ".bad" : ".good").remove();
  const link = row.querySelector("a");
  link.href = `/notifications/${encodeURIComponent(attempt.notification)}`;
  link.textContent = attempt.merchant;
  link.title = `${attempt.merchant} · ${attempt.notification}`;
  row.querySelector("[data-at]").textContent = new Date(attempt.started).toISOString().slice(11, 19);
  row.querySelector("[data-answer]").textContent = attempt.status ?? attempt.error ?? "acknowledged";
  row.querySelector("[data-tier]").textContent = `· ${attempt.tier}`;
  list.prepend(row);
  while (list.children.length > MOST_ROWS) list.lastElementChild.remove();
  document.getElementById("stream-empty")?.remove();
}

// Nothing moves under the pointer; what came meanwhile is put when it leaves.
function held(list, attempt) {
  list.waiting = list.waiting || [];
  list.waiting.push(attempt);
  if (list.waiting.length > MOST_ROWS) list.waiting.shift();
  if (list.waiting.length > 1) return;
  const release = () => {
    if (list.matches(":hover, :focus-within")) return;
    list.removeEventListener("pointerleave", release);
    list.removeEventListener("focusout", release);
    list.waiting.splice(0).forEach((each) => put(list, each));
  };
  list.addEventListener("pointerleave", release);
  list.addEventListener("focusout", () => setTimeout(release));
}

function shut(menu) {
  menu.open = false;
  menu.querySelector("summary").focus();
}

// Whoever opens a form wants to fill it in. Not where a keyboard would spring up over it.
document.addEventListener("toggle", (event) => {
  if (!event.target.matches("details.menu[open]") || !matchMedia("(hover: hover)").matches) return;
  event.target.querySelector("input:not([type=hidden]), select")?.focus();
}, true);

document.addEventListener("submit", onSubmit);
document.addEventListener("click", (event) => {
  for (const menu of document.querySelectorAll("details.menu[open]")) {
    if (!menu.contains(event.target)) menu.open = false;
  }
  if (event.target.closest("[data-close]")) shut(event.target.closest("details"));
  const dismissed = event.target.closest("[data-dismiss]")?.parentElement;
  if (dismissed) dismissed.hidden = true;
  const copy = event.target.closest("[data-copy]");
  if (copy) navigator.clipboard?.writeText(copy.dataset.copy).then(() => { copy.textContent = "Copied"; });
  const all = event.target.closest("[data-all]");
  if (all) for (const box of document.querySelectorAll(`input[name="${all.dataset.all}"]`)) box.checked = all.checked;
});
document.addEventListener("keydown", (event) => {
  if (event.key === "Escape") {
    const menu = document.activeElement?.closest("details.menu[open]") || document.querySelector("details.menu[open]");
    if (menu) shut(menu);
  }
  if (event.key === "/" && !event.target.closest("input, textarea, select") && !event.ctrlKey && !event.metaKey) {
    event.preventDefault();
    document.getElementById("find")?.focus();
  }
});
addEventListener("popstate", () => { if (location.pathname + location.search !== place) location.reload(); });
addEventListener("pagehide", () => source?.close());
follow();
keepFresh();
