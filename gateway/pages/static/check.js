// Checks a receipt (C2SP tlog-proof) in the browser, with WebCrypto and nothing else.
//
// The steps and their order are those of ledger/proof.py. Whatever has another spelling is refused:
// parse, format again, compare. Sizes can pass 2^53, so they are BigInt.

const ED25519 = 1, COSIGNATURE = 4, ML_DSA_44 = 6;
const KEY_BYTES = { [ED25519]: 32, [COSIGNATURE]: 32, [ML_DSA_44]: 1312 };
const MOST_BYTES = 1_000_000, MOST_HASHES = 63, MOST_SIGNATURES = 100, MOST_SIZE = (1n << 63n) - 1n;
const encoder = new TextEncoder();

export class Refused extends Error {}

function refuse(why) {
  throw new Refused(why);
}

// --- bytes and text ---

export function fromBase64(text) {
  let raw;
  try { raw = atob(text); } catch { refuse("base64"); }
  const bytes = Uint8Array.from(raw, (c) => c.charCodeAt(0));
  if (toBase64(bytes) !== text) refuse("base64");
  return bytes;
}

export function toBase64(bytes) {
  let raw = "";
  for (const byte of bytes) raw += String.fromCharCode(byte);
  return btoa(raw);
}

export function toHex(bytes) {
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
}

function join(...parts) {
  const all = new Uint8Array(parts.reduce((sum, part) => sum + part.length, 0));
  let at = 0;
  for (const part of parts) { all.set(part, at); at += part.length; }
  return all;
}

function equal(one, other) {
  return one.length === other.length && one.every((byte, at) => byte === other[at]);
}

function wholeNumber(text) {
  if (!/^(0|[1-9][0-9]{0,18})$/.test(text)) refuse("number");
  const value = BigInt(text);
  if (value > MOST_SIZE) refuse("number");
  return value;
}

function bigEndian(bytes) {
  return bytes.reduce((sum, byte) => (sum << 8n) | BigInt(byte), 0n);
}

async function sha256(...parts) {
  return new Uint8Array(await crypto.subtle.digest("SHA-256", join(...parts)));
}

// --- reading ---

export function parseReceipt(bytes) {
  if (bytes.length > MOST_BYTES) refuse("size");
  let text;
  try { text = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(bytes); } catch { refuse("utf-8"); }
  const end = text.indexOf("\n\n");
  if (end < 0) refuse("form");
  const lines = text.slice(0, end).split("\n");
  if (lines.shift() !== "c2sp.org/tlog-proof@v1") refuse("heading");
  const extra = lines[0]?.startsWith("extra ") ? fromBase64(lines.shift().slice(6)) : new Uint8Array();
  if (!lines[0]?.startsWith("index ")) refuse("index");
  const index = wholeNumber(lines.shift().slice(6));
  const path = lines.map(fromBase64);
  if (path.length > MOST_HASHES || path.some((hash) => hash.length !== 32)) refuse("path");
  return { extra, index, path, note: parseNote(text.slice(end + 2)) };
}

function parseNote(note) {
  const end = note.lastIndexOf("\n\n");
  if (end < 0 || !note.endsWith("\n")) refuse("note");
  const text = note.slice(0, end + 1);
  const lines = note.slice(end + 2).split("\n").slice(0, -1);
  if (!lines.length || lines.length > MOST_SIGNATURES) refuse("note");
  const signatures = lines.map((line) => {
    const found = /^\u2014 ([^\s+\p{Cc}]{1,255}) ([A-Za-z0-9+/=]+)$/u.exec(line) ?? refuse("signature");
    const data = fromBase64(found[2]);
    if (data.length < 5) refuse("signature");
    return { name: found[1], id: toHex(data.slice(0, 4)), value: data.slice(4) };
  });
  const [origin, size, root, last, ...more] = text.split("\n");
  if (last !== "" || more.length || !origin || /[\s+\p{Cc}]/u.test(origin)) refuse("checkpoint");
  const checkpoint = { origin, size: wholeNumber(size), root: fromBase64(root) };
  if (checkpoint.root.length !== 32) refuse("checkpoint");
  return { text, signatures, checkpoint };
}

// Keys as one trust.json, or as verifier keys, one a line.
export async function parseKeys(text) {
  const trimmed = text.trim();
  let vkeys = trimmed.split(/\s+/);
  if (trimmed.startsWith("{")) {
    try { vkeys = JSON.parse(trimmed).vkeys; } catch { refuse("keys"); }
  }
  if (!Array.isArray(vkeys) || !vkeys.length) refuse("keys");
  return Promise.all(vkeys.map(parseKey));
}

async function parseKey(vkey) {
  const found = /^([^\s+\p{Cc}]{1,255})\+([0-9a-f]{8})\+([A-Za-z0-9+/=]+)$/u.exec(vkey) ?? refuse("keys");
  const [, name, id, encoded] = found;
  const material = fromBase64(encoded);
  const type = material[0], key = material.slice(1);
  if (KEY_BYTES[type] !== key.length) refuse("keys");
  const digest = await sha256(encoder.encode(`${name}\n`), material);
  if (toHex(digest.slice(0, 4)) !== id) refuse("keys");
  return { name, id, type, key };
}

// --- the tree (RFC 9162 section 2.1.3.2) ---

export async function rootOf(entry, index, size, path) {
  if (index >= size) refuse("index");
  let value = await sha256(Uint8Array.of(0), entry);
  let node = index, last = size - 1n;
  for (const sibling of path) {
    if (last === 0n) refuse("path");
    if ((node & 1n) === 1n || node === last) {
      value = await sha256(Uint8Array.of(1), sibling, value);
      while ((node & 1n) === 0n) { node >>= 1n; last >>= 1n; }
    } else {
      value = await sha256(Uint8Array.of(1), value, sibling);
    }
    node >>= 1n;
    last >>= 1n;
  }
  if (last !== 0n) refuse("path");
  return value;
}

// --- signatures ---

// true or false; null where this browser does not know Ed25519.
async function isSigned(key, signature, message) {
  let imported;
  try {
    imported = await crypto.subtle.importKey("raw", key, { name: "Ed25519" }, false, ["verify"]);
  } catch {
    return null;
  }
  return signature.length === 64 && crypto.subtle.verify({ name: "Ed25519" }, imported, signature, message);
}

async function checkSignatures(note, keys) {
  const said = { log: [], witness: [], quantum: [], times: [], names: [] };
  for (const signature of note.signatures) {
    for (const key of keys.filter((one) => one.name === signature.name && one.id === signature.id)) {
      if (key.type === ML_DSA_44) {
        said.quantum.push(null);
      } else if (key.type === ED25519) {
        const answer = await isSigned(key.key, signature.value, encoder.encode(note.text));
        if (key.name === note.checkpoint.origin || answer === false) said.log.push(answer);
      } else {
        const time = bigEndian(signature.value.slice(0, 8));
        const message = encoder.encode(`cosignature/v1\ntime ${time}\n${note.text}`);
        const answer = await isSigned(key.key, signature.value.slice(8), message);
        // The log is no witness of itself.
        if (key.name === note.checkpoint.origin && answer !== false) continue;
        said.witness.push(answer);
        said.times.push(Number(time));
        said.names.push(key.name);
      }
    }
  }
  return said;
}

// All must hold, and one must be there.
function verdict(answers) {
  if (!answers.length || answers.includes(false)) return false;
  return answers.includes(null) ? null : true;
}

// --- the record ---

function word(bytes, place) {
  return bytes.slice(32 * place, 32 * place + 32);
}

function name(bytes) {
  return String.fromCharCode(...bytes).replace(/\0+$/, "");
}

// A transfer in the order of ledger/records.py; null where the entry is another record.
export function readTransfer(entry, transferType) {
  if (entry.length !== 352 || toHex(word(entry, 0)) !== transferType) return null;
  return {
    time: Number(bigEndian(word(entry, 1))),
    debit: name(word(entry, 3)),
    credit: name(word(entry, 4)),
    asset: name(word(entry, 5)),
    amount: bigEndian(word(entry, 6)),
    purpose: name(word(entry, 7)),
  };
}

// --- the whole ---

// Steps: {key, ok, ...}, ok being true, false, or null for "not checked here". verdict: good, bad, unsure.
export async function checkReceipt(bytes, keys, expected = "") {
  const steps = [];
  if (!globalThis.crypto?.subtle) return { verdict: "unsure", steps: [{ key: "crypto", ok: null }] };
  let receipt;
  try {
    receipt = parseReceipt(bytes);
  } catch (error) {
    if (!(error instanceof Refused)) throw error;
    return { verdict: "bad", steps: [{ key: "form", ok: false }] };
  }
  const { note, extra, index } = receipt;
  const { checkpoint } = note;
  steps.push({ key: "form", ok: extra.length > 0 });
  if (expected) steps.push({ key: "same", ok: toHex(extra) === expected });
  let root = null;
  try {
    root = await rootOf(extra, index, checkpoint.size, receipt.path);
  } catch (error) {
    if (!(error instanceof Refused)) throw error;
  }
  steps.push({ key: "inclusion", ok: root !== null && equal(root, checkpoint.root) });
  if (keys.length) {
    const said = await checkSignatures(note, keys);
    steps.push({ key: "log", ok: verdict(said.log) });
    steps.push({ key: "witness", ok: verdict(said.witness), time: said.times[0], who: said.names.join(", ") });
  } else {
    steps.push({ key: "keys", ok: null });
  }
  const failed = steps.some((step) => step.ok === false);
  const unsure = steps.some((step) => step.ok === null);
  steps.push({ key: "quantum", ok: null }, { key: "chain", ok: null });
  return { verdict: failed ? "bad" : unsure ? "unsure" : "good", steps, index, checkpoint, entry: extra };
}
