// The steps of a payment with a wallet (EIP-1193): connect, chain, offer, means, and the payment itself. No page in here.
// A step that does not go throws Stopped, whose key is that of the words that say what now.

import { allowanceData, approveData, balanceData, checkOffer, Differs, PERMIT2, quantity } from "./wallet.js";

const RECEIPT_MS = 1500, RECEIPT_TRIES = 400;
// Less than this is too little for a person and a block.
const LEFT_S = 20;
const REJECTED = 4001, UNKNOWN_CHAIN = 4902, PENDING = -32002;
// A key that delegates to code still signs as a key (EIP-7702).
const DELEGATED = "0xef0100";

export class Stopped extends Error {
  constructor(key, values = {}) {
    super(key);
    Object.assign(this, { key, values });
  }
}

const wait = (ms) => new Promise((done) => { setTimeout(done, ms); });

function stopped(error) {
  const codes = [error?.code, error?.data?.originalError?.code];
  const why = String(error?.data?.message ?? error?.message ?? error).slice(0, 200);
  if (codes.includes(REJECTED)) return new Stopped("rejected");
  if (codes.includes(PENDING)) return new Stopped("pending");
  if (/insufficient funds|exceeds balance/i.test(`${error?.message} ${why}`)) return new Stopped("gas");
  return new Stopped("wallet", { why });
}

async function ask(provider, method, params = []) {
  try {
    return await provider.request({ method, params });
  } catch (error) {
    throw stopped(error);
  }
}

export async function connect(provider) {
  const [account] = await ask(provider, "eth_requestAccounts");
  if (!/^0x[0-9a-fA-F]{40}$/.test(account ?? "")) throw new Stopped("account");
  return account;
}

async function chainOf(provider) {
  return Number(await ask(provider, "eth_chainId"));
}

export async function moveToChain(provider, chain) {
  const before = await chainOf(provider);
  if (before === chain) return;
  try {
    await provider.request({ method: "wallet_switchEthereumChain", params: [{ chainId: quantity(chain) }] });
  } catch (error) {
    const unknown = [error?.code, error?.data?.originalError?.code].includes(UNKNOWN_CHAIN);
    throw new Stopped(unknown ? "chain.unknown" : "chain", { chain, other: before });
  }
  await checkChain(provider, chain);
}

// A wallet sends on the chain that it is on at that moment, whatever it was on before.
async function checkChain(provider, chain) {
  const other = await chainOf(provider);
  if (other !== chain) throw new Stopped("chain", { chain, other });
}

export async function fetchOffer(address, page, payer) {
  let answer;
  try {
    answer = await fetch(`${address}?payer=${payer}`, { cache: "no-store" });
  } catch {
    throw new Stopped("unreachable");
  }
  if (answer.status === 429) throw new Stopped("many");
  if ([404, 422].includes(answer.status)) throw new Stopped("expired");
  if (answer.status === 503) throw new Stopped("blind");
  if (!answer.ok) throw new Stopped("unreachable");
  const offer = await answer.json();
  try {
    checkOffer(offer, page, payer);
  } catch (error) {
    throw new Stopped("differs", { what: error instanceof Differs ? error.message : "form" });
  }
  if (offer.left_s < LEFT_S) throw new Stopped("expired");
  return offer;
}

async function view(provider, to, data) {
  const found = await ask(provider, "eth_call", [{ to, data }, "latest"]);
  return BigInt(/^0x[0-9a-f]+$/i.test(found) ? found : 0);
}

// How it can be paid, the easiest for the payer first; Stopped where there is too little money.
export async function waysOf(provider, page, offer, payer) {
  const need = BigInt(page.amount);
  const have = page.is_coin
    ? BigInt(await ask(provider, "eth_getBalance", [payer, "latest"]))
    : await view(provider, page.token, balanceData(payer));
  if (have < need) throw new Stopped("poor", { have });
  if (page.is_coin) return ["native"];
  const code = String(await ask(provider, "eth_getCode", [payer, "latest"])).toLowerCase();
  const isKey = code === "0x" || code.startsWith(DELEGATED);
  const schemes = offer.signs.map((one) => one.scheme);
  const ways = isKey && schemes.includes("eip3009") ? ["eip3009"] : [];
  if (schemes.includes("permit2") && await view(provider, page.token, allowanceData(payer, PERMIT2)) >= need) {
    ways.push("permit2");
  }
  return [...ways, "allowance"];
}

async function send(provider, page, payer, call) {
  await checkChain(provider, page.chain_id);
  const { to, data, value } = call;
  return ask(provider, "eth_sendTransaction", [{ from: payer, to, data, value, chainId: quantity(page.chain_id) }]);
}

// null: the chain does not have it yet, though it was asked for ten minutes.
export async function receiptOf(provider, hash) {
  for (let left = RECEIPT_TRIES; left > 0; left -= 1) {
    // A node that does not know it yet, or does not answer, is asked again.
    const receipt = await ask(provider, "eth_getTransactionReceipt", [hash]).catch(() => null);
    if (receipt) return receipt;
    await wait(RECEIPT_MS);
  }
  return null;
}

async function mined(provider, hash) {
  const receipt = await receiptOf(provider, hash);
  if (receipt === null) throw new Stopped("slow", { hash });
  if (BigInt(receipt.status ?? 1) !== 1n) throw new Stopped("reverted", { hash });
}

async function wouldGo(provider, payer, call) {
  try {
    await provider.request({ method: "eth_call", params: [{ from: payer, to: call.to, data: call.data }, "latest"] });
    return true;
  } catch {
    return false;
  }
}

async function allow(provider, page, offer, payer, tell) {
  const given = await view(provider, page.token, allowanceData(payer, page.router));
  if (given >= BigInt(page.amount)) return;
  // Some tokens (USDT) change an allowance only from zero.
  if (given > 0n && !(await wouldGo(provider, payer, offer.approve))) {
    tell("reset");
    const none = { ...offer.approve, data: approveData(page.router, 0) };
    await mined(provider, await send(provider, page, payer, none));
  }
  tell("approve");
  const hash = await send(provider, page, payer, offer.approve);
  tell("approving");
  await mined(provider, hash);
}

// Pay by a transaction of the payer's own. tell(step) says what comes, sent(hash) what went; it ends with its block.
export async function paySelf(provider, page, offer, payer, tell, sent) {
  if (!page.is_coin) await allow(provider, page, offer, payer, tell);
  tell("pay");
  const hash = await send(provider, page, payer, offer.pay);
  sent(hash);
  await mined(provider, hash);
}

// Pay by a signature that the gateway brings to the chain, and pays for.
export async function payBySignature(provider, page, offer, payer, way, address, tell, sent) {
  const { scheme, nonce, typed_data: typed } = offer.signs.find((one) => one.scheme === way);
  tell("sign");
  await checkChain(provider, page.chain_id);
  const signature = await ask(provider, "eth_signTypedData_v4", [payer, JSON.stringify(typed)]);
  tell("bring");
  const body = JSON.stringify({ scheme, payer, signature, nonce });
  let told = await brought(address, { method: "POST", body, headers: { "Content-Type": "application/json" } });
  // From here on it may be paid: what goes wrong now is only that nobody could be asked.
  sent(null);
  for (let left = RECEIPT_TRIES; left > 0; left -= 1) {
    if (told.state === "failed") throw new Stopped("gasless", { why: told.why });
    if (told.transaction) sent(told.transaction);
    if (told.transaction && ["mined", "paid"].includes(told.state)) return;
    await wait(RECEIPT_MS);
    told = await brought(`${address}/${told.id}`, { cache: "no-store" }).catch(() => told);
  }
  throw new Stopped("slow");
}

async function brought(address, options) {
  let answer;
  try {
    answer = await fetch(address, options);
  } catch {
    throw new Stopped("unreachable");
  }
  const told = await answer.json().catch(() => ({}));
  // What is refused for its number only is said as that: it will be taken again, and paying oneself goes now.
  if (!answer.ok) throw new Stopped(told.rule === "quota" ? "quota" : "gasless", { why: told.why ?? String(answer.status) });
  return told;
}
