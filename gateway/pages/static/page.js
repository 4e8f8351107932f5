// What every page does: copy buttons, printing, a countdown, and a part that shows anew what has changed.
// Without this script the pages say the same; they are then loaded again by themselves.

document.documentElement.classList.add("js");

// --- copying ---

async function copy(text) {
  try {
    await navigator.clipboard.writeText(text);
  } catch {
    // Without https there is no clipboard: select and copy as people do.
    const field = document.createElement("textarea");
    field.value = text;
    field.className = "hidden-text";
    document.body.append(field);
    field.select();
    document.execCommand("copy");
    field.remove();
  }
}

document.addEventListener("click", async (event) => {
  const button = event.target.closest("button");
  if (button?.dataset.copy !== undefined) {
    await copy(button.dataset.copy);
    button.focus();
    const label = button.querySelector("[data-done]");
    if (label.dataset.before === undefined) label.dataset.before = label.textContent;
    label.textContent = label.dataset.done;
    setTimeout(() => { label.textContent = label.dataset.before; }, 2000);
  }
  if (button?.dataset.print !== undefined) window.print();
});

// --- the part that lives: polls a small state and fetches itself when that has another version ---

const live = document.getElementById("live");
const SOON_MS = 3000, LATER_MS = 10_000, PATIENT_POLLS = 100;
let polls = 0, timer = 0, asking = false, offset = 0;

function setClock() {
  const clock = live?.querySelector("[data-now]");
  if (clock) offset = Number(clock.dataset.now) * 1000 - Date.now();
}

async function show() {
  // A receipt that was just recorded has parts beside this one.
  if (live.dataset.reload !== undefined) { location.reload(); return; }
  const answer = await fetch(location.href, { headers: { Accept: "text/html" }, cache: "no-store" });
  if (!answer.ok) throw new Error(String(answer.status));
  const fresh = new DOMParser().parseFromString(await answer.text(), "text/html");
  const part = fresh.getElementById("live");
  const focused = document.activeElement?.id;
  live.replaceChildren(...part.childNodes);
  // What another script had put there is its own to put back.
  live.dispatchEvent(new Event("shown"));
  for (const key of ["version", "done"]) {
    if (part.dataset[key] === undefined) delete live.dataset[key];
    else live.dataset[key] = part.dataset[key];
  }
  // The line of the status stays the same element, so that it is read out when its text changes.
  for (const id of ["status", "explanation"]) {
    const shown = document.getElementById(id);
    const next = fresh.getElementById(id);
    if (shown && next && shown.textContent !== next.textContent) shown.textContent = next.textContent;
    if (shown && next) shown.className = next.className;
  }
  document.title = fresh.title;
  if (focused) document.getElementById(focused)?.focus();
  setClock();
}

async function poll() {
  if (asking || live.dataset.done !== undefined) return;
  asking = true;
  clearTimeout(timer);
  const trouble = document.getElementById("trouble");
  try {
    const answer = await fetch(live.dataset.state, { cache: "no-store" });
    if (!answer.ok) throw new Error(String(answer.status));
    const state = await answer.json();
    if (state.version !== live.dataset.version) await show();
    trouble.hidden = true;
  } catch {
    trouble.hidden = false;
  }
  asking = false;
  polls += 1;
  timer = setTimeout(poll, polls < PATIENT_POLLS ? SOON_MS : LATER_MS);
}

function count() {
  const clock = live.querySelector("[data-expires]");
  if (!clock) return;
  const left = Math.floor(Number(clock.dataset.expires) - (Date.now() + offset) / 1000);
  if (left < 0) {
    clock.textContent = "0:00";
    return;
  }
  const days = Math.floor(left / 86_400), two = (value) => String(value).padStart(2, "0");
  const hours = Math.floor(left / 3600) % 24, minutes = Math.floor(left / 60) % 60;
  const time = days || hours ? `${hours}:${two(minutes)}:${two(left % 60)}` : `${minutes}:${two(left % 60)}`;
  clock.textContent = days ? clock.dataset.days.replace("{days}", days).replace("{time}", time) : time;
}

if (live) {
  setClock();
  count();
  setInterval(count, 1000);
  timer = setTimeout(poll, SOON_MS);
  // A phone that slept, a tab that was in the back, a network that was away: ask at once.
  live.addEventListener("ask", poll);
  for (const kind of ["focus", "online"]) window.addEventListener(kind, poll);
  window.addEventListener("pageshow", (event) => { if (event.persisted) poll(); });
  document.addEventListener("visibilitychange", () => { if (!document.hidden) poll(); });
}
