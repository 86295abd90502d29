// Keeps what is marked `data-live` as the server has it. Without this script every page works, and stands still.
"use strict";

const EVERY = 2000;
const shown = new Map();

const live = () => document.querySelectorAll("[data-live]");
const busy = (part) =>
  part.querySelector("form :focus") !== null ||
  (!getSelection().isCollapsed && part.contains(getSelection().anchorNode));

function put(part, fresh) {
  if (shown.get(part.id) === fresh.innerHTML || busy(part)) return;
  const open = [...part.querySelectorAll("details[open][id]")].map((one) => one.id);
  const focused = part.contains(document.activeElement) ? document.activeElement : null;
  const near = focused?.closest("[id]").id;
  const like = focused && ((one) => one.tagName === focused.tagName && one.getAttribute("href") === focused.getAttribute("href"));
  part.innerHTML = fresh.innerHTML;
  part.className = fresh.className;
  shown.set(part.id, fresh.innerHTML);
  for (const id of open) document.getElementById(id)?.setAttribute("open", "");
  if (focused) [...(document.getElementById(near) ?? part).querySelectorAll("*")].find(like)?.focus();
  if (!fresh.hasAttribute("data-live")) part.removeAttribute("data-live");
}

async function look() {
  const sign = document.getElementById("live");
  if (!document.hidden && live().length > 0) {
    try {
      const answer = await fetch(location.href, { headers: { Accept: "text/html" } });
      if (answer.redirected && new URL(answer.url).pathname === "/console/login") return location.assign(answer.url);
      if (!answer.ok) throw new Error(answer.statusText);
      const page = new DOMParser().parseFromString(await answer.text(), "text/html");
      if (document.querySelector("[data-passing]")) return location.reload();
      // A run that has just ended can be run again: what can be done is in a part that is not live.
      if (document.getElementById("act-cancel") && !page.getElementById("act-cancel")) return location.reload();
      for (const part of live()) {
        const fresh = page.getElementById(part.id);
        if (fresh) put(part, fresh);
      }
      sign.dataset.state = "on";
      sign.textContent = "Live";
    } catch {
      sign.dataset.state = "lost";
      sign.textContent = "No answer: what you see may be old";
    }
    sign.hidden = false;
  }
  setTimeout(look, EVERY);
}

document.addEventListener("keydown", (event) => {
  const search = document.querySelector("[data-search]");
  if (event.key === "/" && search && !event.target.closest("input, select, textarea")) {
    event.preventDefault();
    search.focus();
  }
});

const door = document.querySelector("[data-door]");
if (door) {
  // A link from another site comes without the cookie though there may be a session: this request has it.
  fetch("/console/session", { redirect: "manual" }).then((answer) => {
    if (answer.status === 204) location.replace(door.dataset.door);
  });
} else {
  setTimeout(look, EVERY);
}
