// What the pages do with check.js: take a receipt from a file, a paste or the city, and say what was checked.

import { formatAmount } from "./amounts.js";
import { checkReceipt, parseKeys, readTransfer, toBase64 } from "./check.js";

const box = document.getElementById("checker");
const words = JSON.parse(box.dataset.words);
const units = JSON.parse(box.dataset.units);
const result = document.getElementById("result");
const pasted = document.getElementById("pasted");
const keysText = document.getElementById("keys");
const language = document.documentElement.lang;

// Asked for at once, so that the check itself works without a network.
const citysKeys = fetch("/log/trust.json").then((answer) => (answer.ok ? answer.text() : "")).catch(() => "");

function say(text, values) {
  return text.replace(/\{(\w+)\}/g, (_, key) => String(values[key] ?? ""));
}

function element(tag, text, kind) {
  const made = document.createElement(tag);
  if (text !== undefined) made.textContent = text;
  if (kind) made.className = kind;
  return made;
}

function moment(seconds) {
  const at = new Date(seconds * 1000), timeZone = "Asia/Almaty";
  const told = new Intl.DateTimeFormat(language, { dateStyle: "long", timeStyle: "short", timeZone }).format(at);
  if (!/M\d\d/.test(told)) return told;
  // Browsers that lack the Kazakh months write M09: then in digits, day first.
  const digits = { day: "2-digit", month: "2-digit", year: "numeric", hour: "2-digit", minute: "2-digit" };
  return new Intl.DateTimeFormat("ru", { ...digits, timeZone }).format(at);
}

function amount(minor, asset) {
  const decimals = units[asset];
  return decimals === undefined ? `${minor} (${asset})` : formatAmount(minor, decimals, asset);
}

function show(found, source) {
  const marks = { true: "✓", false: "✗", null: "–" };
  const kinds = { true: "good", false: "bad", null: "unsure" };
  const list = element("ul", undefined, "checks");
  for (const step of found.steps) {
    const values = {
      index: found.index, size: found.checkpoint?.size, origin: found.checkpoint?.origin, who: step.who,
      time: step.time ? moment(step.time) : "", root: found.checkpoint ? toBase64(found.checkpoint.root) : "",
    };
    const row = element("li", undefined, kinds[step.ok]);
    const mark = element("span", marks[step.ok], "mark");
    mark.setAttribute("aria-hidden", "true");
    const state = element("span", `${words[`state.${step.ok}`]}: `, "hidden-text");
    row.append(mark, state, element("span", say(words[`${step.key}.${step.ok}`], values)));
    list.append(row);
  }
  const head = element("p", words[`verdict.${found.verdict}`], `verdict ${found.verdict}`);
  result.replaceChildren(head, list);
  const transfer = found.entry && found.verdict !== "bad" ? readTransfer(found.entry, box.dataset.transfer) : null;
  if (transfer) {
    const facts = element("dl", undefined, "facts");
    const rows = [
      ["amount", amount(transfer.amount, transfer.asset)], ["code", transfer.purpose],
      ["time", moment(transfer.time)], ["record", String(found.index)],
    ];
    for (const [key, value] of rows) facts.append(element("dt", words[`fact.${key}`]), element("dd", value));
    result.append(element("h3", words["fact.title"]), facts);
  }
  result.append(element("p", words[`keys.${source}`], "quiet"));
  result.dataset.verdict = found.verdict;
}

function fail(text) {
  result.replaceChildren(element("p", text, "verdict bad"));
  result.dataset.verdict = "error";
}

async function check(bytes) {
  result.replaceChildren(element("p", words.working));
  delete result.dataset.verdict;
  const own = keysText?.value.trim() ?? "";
  let keys = [];
  try {
    const text = own || (await citysKeys);
    if (text) keys = await parseKeys(text);
  } catch {
    fail(words["keys.wrong"]);
    return;
  }
  show(await checkReceipt(bytes, keys, box.dataset.record ?? ""), own ? "own" : "city");
}

function checkFile(file) {
  if (file) file.arrayBuffer().then((buffer) => check(new Uint8Array(buffer)));
}

document.getElementById("check-here")?.addEventListener("click", async () => {
  try {
    const answer = await fetch(box.dataset.receipt, { cache: "no-store" });
    if (!answer.ok) throw new Error(String(answer.status));
    await check(new Uint8Array(await answer.arrayBuffer()));
  } catch {
    fail(words.unreachable);
  }
});
document.getElementById("check-pasted")?.addEventListener("click", () => {
  const text = pasted.value.trim();
  // A text field drops the line end that closes the file.
  if (text) check(new TextEncoder().encode(`${text}\n`));
  else pasted.focus();
});
document.getElementById("file")?.addEventListener("change", (event) => checkFile(event.target.files[0]));

const drop = document.getElementById("drop");
for (const kind of ["dragenter", "dragover"]) {
  drop?.addEventListener(kind, (event) => { event.preventDefault(); drop.classList.add("over"); });
}
for (const kind of ["dragleave", "drop"]) drop?.addEventListener(kind, () => drop.classList.remove("over"));
drop?.addEventListener("drop", (event) => { event.preventDefault(); checkFile(event.dataTransfer.files[0]); });
