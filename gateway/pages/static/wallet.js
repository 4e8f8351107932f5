// What a wallet is asked for, held against what the page says; and the few words of ABI that this needs. Pure.
// The server gives calls ready made. Nothing of them reaches a wallet that does not say what the page says.

// PaymentRouter: payNative and pay, each (quote of eight words, r, vs). ERC-20: approve, balanceOf, allowance.
const PAY_COIN = "6e7e355b", PAY_TOKEN = "17b627f3";
const APPROVE = "095ea7b3", BALANCE_OF = "70a08231", ALLOWANCE = "dd62ed3e";
const WORD = 64, QUOTE_WORDS = 8;
export const PERMIT2 = "0x000000000022d473030f116ddee9f6b43ac78ba3";

const STRUCTS = {
  ReceiveWithAuthorization:
    "address from,address to,uint256 value,uint256 validAfter,uint256 validBefore,bytes32 nonce",
  PermitBatchWitnessTransferFrom:
    "TokenPermissions[] permitted,address spender,uint256 nonce,uint256 deadline,Quote witness",
  Quote: "bytes32 invoice,bytes32 purpose,address merchant,address token,uint256 amount,uint256 shareBps,"
    + "uint256 validUntil,uint256 nonce",
  TokenPermissions: "address token,uint256 amount",
};

// The offer differs from the page: name says in what.
export class Differs extends Error {}

function must(holds, name) {
  if (!holds) throw new Differs(name);
}

const same = (one, other) => String(one).toLowerCase() === String(other).toLowerCase();
const word = (value) => BigInt(value).toString(16).padStart(WORD, "0");

export function quantity(value) {
  return `0x${BigInt(value).toString(16)}`;
}

export function approveData(spender, amount) {
  return `0x${APPROVE}${word(spender)}${word(amount)}`;
}

export function balanceData(holder) {
  return `0x${BALANCE_OF}${word(holder)}`;
}

export function allowanceData(owner, spender) {
  return `0x${ALLOWANCE}${word(owner)}${word(spender)}`;
}

const MEMBERS = [
  "chain_id", "router", "token", "merchant", "number", "purpose", "amount", "city", "share_bps", "valid_until", "nonce",
];

export function checkOffer(offer, page, payer) {
  for (const name of MEMBERS) must(same(offer[name], page[name]), name);
  checkPay(offer.pay, page);
  if (page.is_coin) must(offer.approve === null, "approve");
  else checkApprove(offer.approve, page);
  for (const { scheme, nonce, typed_data: typed } of offer.signs) checkSigned(scheme, nonce, typed, page, payer);
}

function checkPay(call, page) {
  must(same(call.to, page.router), "to");
  must(BigInt(call.value) === (page.is_coin ? BigInt(page.amount) : 0n), "value");
  const text = call.data.slice(2).toLowerCase();
  must(text.length === 8 + (QUOTE_WORDS + 2) * WORD, "data");
  must(text.startsWith(page.is_coin ? PAY_COIN : PAY_TOKEN), "function");
  const said = [
    page.number, page.purpose, page.merchant, page.token, page.amount, page.share_bps, page.valid_until, page.nonce,
  ];
  must(text.slice(8).startsWith(said.map(word).join("")), "quote");
}

function checkApprove(call, page) {
  must(same(call.to, page.token) && BigInt(call.value) === 0n, "approve");
  must(same(call.data, approveData(page.router, page.amount)), "approve");
}

// What is signed stands in its types as much as in its members: both are held against what is expected.
function checkSigned(scheme, nonce, typed, page, payer) {
  const { types, primaryType, domain, message } = typed;
  for (const [name, members] of Object.entries(types)) {
    if (name === "EIP712Domain") continue;
    must(members.map((one) => `${one.type} ${one.name}`).join(",") === STRUCTS[name], "types");
  }
  must(BigInt(domain.chainId) === BigInt(page.chain_id), "chain_id");
  if (scheme === "eip3009") {
    must(primaryType === "ReceiveWithAuthorization" && same(domain.verifyingContract, page.token), "domain");
    must(same(message.from, payer) && same(message.to, page.router), "to");
    must(message.value === page.amount && Number(message.validBefore) === page.valid_until + 1, "value");
    return;
  }
  must(scheme === "permit2" && primaryType === "PermitBatchWitnessTransferFrom", "scheme");
  must(domain.name === "Permit2" && same(domain.verifyingContract, PERMIT2), "domain");
  const { permitted, spender, deadline, witness } = message;
  const parts = [page.city, String(BigInt(page.amount) - BigInt(page.city))];
  must(same(spender, page.router) && message.nonce === nonce && Number(deadline) === page.valid_until, "to");
  must(permitted.length === 2, "value");
  permitted.forEach((one, place) => must(same(one.token, page.token) && one.amount === parts[place], "value"));
  must(same(witness.merchant, page.merchant) && same(witness.token, page.token), "quote");
  must(same(witness.invoice, page.number) && witness.amount === page.amount, "quote");
}
