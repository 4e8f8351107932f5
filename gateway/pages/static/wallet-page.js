// The button "Pay with a wallet" and what follows, in words. Where no wallet is in the browser, the page stays as it is.

import { formatAmount } from "./amounts.js";
import { connect, fetchOffer, moveToChain, payBySignature, paySelf, Stopped, waysOf } from "./wallet-pay.js";

const live = document.getElementById("live");
const panel = document.getElementById("wallet");

function element(tag, text, kind) {
  const made = document.createElement(tag);
  if (text !== undefined) made.textContent = text;
  if (kind) made.className = kind;
  return made;
}

// EIP-6963: every wallet of the browser names itself; older ones only stand at window.ethereum.
function findWallets(found) {
  const known = new Map();
  const tell = () => {
    const announced = [...known.values()];
    found(announced.length || !window.ethereum ? announced : [{ name: "", provider: window.ethereum }]);
  };
  window.addEventListener("eip6963:announceProvider", ({ detail }) => {
    const name = String(detail?.info?.name ?? "").slice(0, 40);
    if (!detail?.provider?.request || known.has(detail.info.uuid)) return;
    known.set(detail.info.uuid, { name, provider: detail.provider });
    tell();
  });
  window.addEventListener("ethereum#initialized", tell, { once: true });
  window.dispatchEvent(new Event("eip6963:requestProvider"));
  tell();
}

class Panel {
  constructor(root) {
    this.root = root;
    this.words = JSON.parse(root.dataset.words);
    this.page = JSON.parse(root.dataset.page);
    this.steps = root.querySelector("#wallet-steps");
    this.trouble = root.querySelector("#wallet-trouble");
    this.buttons = root.querySelector("#wallet-buttons");
    this.hash = root.querySelector("#wallet-hash");
    this.key = `wallet ${this.page.number}`;
    this.wallets = [];
    this.begun = this.sent = this.closed = false;
  }

  say(key, values = {}) {
    const all = { asset: this.page.asset, chain: this.page.chain_id, ...this.page.shown, ...values };
    return (this.words[key] ?? key).replace(/\{(\w+)\}/g, (_, name) => String(all[name] ?? ""));
  }

  // --- what is shown ---

  step(key, isLast = false) {
    // Before each thing that the wallet is asked: the page may have learned since that nothing is to be paid any more.
    if (this.closed && !this.sent) throw new Stopped("expired");
    this.settle("done", "✓");
    const row = element("li", undefined, isLast ? "done" : "waiting"), mark = element("span", isLast ? "✓" : "…", "mark");
    mark.setAttribute("aria-hidden", "true");
    row.append(mark, element("span", this.say(`step.${key}`)));
    row.dataset.step = key;
    this.steps.append(row);
  }

  settle(kind, sign) {
    const row = this.steps.lastElementChild;
    if (row?.className !== "waiting") return;
    row.className = kind;
    row.firstElementChild.textContent = sign;
  }

  offerButtons(...made) {
    const had = this.root.contains(document.activeElement);
    this.buttons.replaceChildren(...made.map(([id, text, act, isSecond]) => {
      const button = element(typeof act === "string" ? "a" : "button", text, isSecond ? "button second" : "button");
      button.id = `wallet-${id}`;
      if (typeof act === "string") button.href = act;
      else { button.type = "button"; button.addEventListener("click", act); }
      return button;
    }));
    if (had) (this.buttons.firstElementChild ?? this.root).focus();
  }

  offerWallets() {
    this.root.hidden = this.wallets.length === 0 && !this.sent;
    this.offerButtons(...this.wallets.map(({ name, provider }, place) => [
      `start-${place}`, name ? this.say("start.with", { name }) : this.say("start"), () => this.start(provider),
    ]));
  }

  setFacts(isShown) {
    this.root.querySelector("#wallet-facts").hidden = !isShown;
  }

  // What was sent is remembered while the tab is open: who loads the page again must not pay twice.
  setSent(hash) {
    this.sent = true;
    this.hideTransfer(true);
    sessionStorage.setItem(this.key, hash ?? "");
    this.hash.hidden = !hash;
    this.hash.querySelector("code").textContent = hash ?? "";
    this.hash.querySelector("button").dataset.copy = hash ?? "";
    if (!this.root.isConnected) live.querySelector(".card").after(this.root);
    live.dispatchEvent(new Event("ask"));
  }

  // Beside "Do not pay again" stands no address to pay to, for as long as this page knows where the payment is.
  hideTransfer(isHidden) {
    live.toggleAttribute("data-sent", isHidden);
  }

  forget() {
    this.sent = false;
    sessionStorage.removeItem(this.key);
    this.hash.hidden = true;
  }

  // --- what is done ---

  begin() {
    this.begun = true;
    this.trouble.hidden = true;
    this.steps.replaceChildren();
    this.offerButtons();
  }

  async start(provider) {
    this.begin();
    this.setFacts(false);
    try {
      this.step("connect");
      const payer = await connect(provider);
      this.step("chain");
      await moveToChain(provider, this.page.chain_id);
      this.step("offer");
      const offer = await fetchOffer(this.root.dataset.offer, this.page, payer);
      this.review(provider, payer, await waysOf(provider, this.page, offer, payer));
    } catch (error) {
      this.stop(error, provider);
    }
  }

  review(provider, payer, ways) {
    const [way] = ways, isSigned = !["native", "allowance"].includes(way);
    this.setFacts(true);
    this.step(`review.${way}`);
    const made = [["go", this.say(isSigned ? "go.sign" : "go"), () => this.pay(provider, payer, way)]];
    if (isSigned) made.push(["self", this.say("self"), () => this.pay(provider, payer, "allowance"), true]);
    this.offerButtons(...made);
  }

  async pay(provider, payer, way) {
    this.begin();
    const tell = (key) => this.step(key), sent = (hash) => this.setSent(hash);
    try {
      this.step("offer");
      // Again: it may have been paid or have run out while somebody read.
      const offer = await fetchOffer(this.root.dataset.offer, this.page, payer);
      if (way === "native" || way === "allowance") await paySelf(provider, this.page, offer, payer, tell, (hash) => {
        tell("sent");
        sent(hash);
      });
      else await payBySignature(provider, this.page, offer, payer, way, this.root.dataset.authorizations, tell, sent);
      this.step("mined", true);
      live.dispatchEvent(new Event("ask"));
    } catch (error) {
      this.stop(error, provider, payer, way);
    }
  }

  stop(error, provider, payer, way) {
    const { key, values } = error instanceof Stopped ? error : new Stopped("wallet", { why: String(error).slice(0, 200) });
    if (["reverted", "gasless", "quota"].includes(key)) this.forget();
    this.hideTransfer(false);
    this.settle("bad", "✗");
    const have = values.have === undefined ? "" : formatAmount(values.have, this.page.decimals, this.page.asset);
    this.trouble.textContent = this.say(`error.${key}`, { ...values, have });
    // In whatever words it came: for whoever is asked for help.
    if (values.why) {
      const raw = element("small", values.why);
      raw.lang = "en";
      this.trouble.append(raw);
    }
    this.trouble.dataset.key = key;
    this.trouble.hidden = false;
    const made = [["again", this.say("again"), () => this.start(provider), key === "slow" || key === "quota"]];
    const self = ["self", this.say("self"), () => this.pay(provider, payer, "allowance"), key === "gasless"];
    // What would be refused again stands second.
    if (key === "gasless") made.push(self);
    if (key === "quota") made.unshift(self);
    const { again } = this.root.dataset;
    if (key === "expired") made.splice(0, 1, ...(again ? [["new", this.say("new"), again]] : []));
    this.offerButtons(...made);
    // The page itself says what became of the bill.
    if (key === "expired" || way) live.dispatchEvent(new Event("ask"));
  }

  // The page offers no payment by wallet any more; who was in the middle of one is told why.
  close() {
    this.closed = true;
    if (!this.begun && !this.sent) return;
    live.querySelector(".card").after(this.root);
    if (!this.sent && this.trouble.hidden) this.stop(new Stopped("expired"));
  }

  restore() {
    const hash = sessionStorage.getItem(this.key);
    if (hash === null) return;
    this.setSent(hash || null);
    this.hideTransfer(false);
    this.step("restored", true);
    this.root.hidden = false;
  }

  found(wallets) {
    this.wallets = wallets;
    if (!this.begun) this.offerWallets();
  }
}

if (panel) {
  const shown = new Panel(panel);
  shown.restore();
  findWallets((wallets) => shown.found(wallets));
  live.addEventListener("shown", () => {
    const fresh = document.getElementById("wallet");
    if (fresh) fresh.replaceWith(panel);
    else shown.close();
  });
}
