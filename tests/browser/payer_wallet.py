"""A payer's wallet in a browser: EIP-1193 and EIP-6963 in front of a real node, with a key of its own.

What it is asked it answers as wallets do: it signs with its key, or hands the question to its node. It can be
told to refuse, to stand on another chain, or not to know the page's chain.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

from eth_account import Account
from eth_account.signers.local import LocalAccount
from playwright.sync_api import BrowserContext
from web3 import Web3

from tests import servers
from tests.gateway.anvil_town import Miner

REJECTED = {"code": 4001, "message": "User rejected the request."}
UNKNOWN_CHAIN = {"code": 4902, "message": "Unrecognized chain ID."}
OTHER_CHAIN = 1
# The provider is a script of the wallet's own; all that it does is in Python, below.
PROVIDER = """
(() => {
  const provider = {
    async request({ method, params }) {
      const told = await window.askWallet(method, params ?? []);
      if (told.error) throw Object.assign(new Error(told.error.message), { code: told.error.code });
      return told.result;
    },
  };
  if (WINDOW) window.ethereum = provider;
  const detail = Object.freeze({ info: { uuid: "8d0b5fc4-6c1e-4b7e-9a52-3e1c1c1f6c11", name: NAME, rdns: "test" }, provider });
  const announce = () => window.dispatchEvent(new CustomEvent("eip6963:announceProvider", { detail }));
  if (NAME) { window.addEventListener("eip6963:requestProvider", announce); announce(); }
})();
"""


@dataclass
class PayerWallet:
    """One wallet. asked: the methods in order; refuse: those that its owner will not confirm.

    While the miner mines by itself, it answers once its transaction stands in a block.
    """

    account: LocalAccount
    node: servers.Anvil
    miner: Miner
    chain_id: int = servers.CHAIN_ID
    refuse: set[str] = field(default_factory=set)
    knows_chain: bool = True
    asked: list[tuple[str, list[Any]]] = field(default_factory=list)
    hashes: list[str] = field(default_factory=list)

    def install(self, context: BrowserContext, name: str = "", *, window: bool = True) -> None:
        """Put it into a browser; with a name it announces itself too (EIP-6963)."""
        context.expose_function("askWallet", self.answer)
        script = PROVIDER.replace("WINDOW", json.dumps(window)).replace("NAME", json.dumps(name))
        context.add_init_script(script)

    def methods(self) -> list[str]:
        """What it was asked, without the questions that are only passed on."""
        return [method for method, _ in self.asked if method in _OWN]

    def answer(self, method: str, parameters: list[Any]) -> dict[str, Any]:
        """Answer a request: a result, or an error as EIP-1193 has it."""
        self.asked.append((method, parameters))
        if method in self.refuse:
            return {"error": REJECTED}
        if method == "wallet_switchEthereumChain" and not self.knows_chain:
            return {"error": UNKNOWN_CHAIN}
        own = _OWN.get(method)
        try:
            return {"result": own(self, parameters) if own else self.node.call(method, *parameters)}
        except RuntimeError as error:
            return {"error": {"code": -32603, "message": str(error)}}

    def _accounts(self, _: list[Any]) -> list[str]:
        return [self.account.address]

    def _chain(self, _: list[Any]) -> str:
        return hex(self.chain_id)

    def _switch(self, parameters: list[Any]) -> None:
        self.chain_id = int(parameters[0]["chainId"], 16)

    def _send(self, parameters: list[Any]) -> str:
        [asked] = parameters
        assert asked["from"].lower() == self.account.address.lower()
        assert int(asked["chainId"], 16) == self.chain_id
        told = {key: asked[key] for key in ("from", "to", "data", "value")}
        gas = int(self.node.call("eth_estimateGas", told), 16)
        count = self.node.call("eth_getTransactionCount", self.account.address, "pending")
        transaction = {
            "type": 2, "chainId": self.chain_id, "to": Web3.to_checksum_address(asked["to"]), "data": asked["data"],
            "value": int(asked["value"], 16), "gas": gas * 12 // 10, "nonce": int(count, 16),
            "maxFeePerGas": 10**11, "maxPriorityFeePerGas": 10**9,
        }  # fmt: skip
        raw = self.account.sign_transaction(transaction).raw_transaction
        hash: str = self.node.call("eth_sendRawTransaction", "0x" + raw.hex().removeprefix("0x"))
        self.hashes.append(hash)
        if self.miner.is_on:
            servers.until(lambda: self.node.call("eth_getTransactionReceipt", hash), "it is mined")
        return hash

    def _sign(self, parameters: list[Any]) -> str:
        address, text = parameters
        assert address.lower() == self.account.address.lower()
        signed = Account.sign_typed_data(self.account.key, full_message=json.loads(text))
        return "0x" + signed.signature.hex().removeprefix("0x")


_OWN = {
    "eth_requestAccounts": PayerWallet._accounts,
    "eth_accounts": PayerWallet._accounts,
    "eth_chainId": PayerWallet._chain,
    "wallet_switchEthereumChain": PayerWallet._switch,
    "eth_sendTransaction": PayerWallet._send,
    "eth_signTypedData_v4": PayerWallet._sign,
}


__all__ = ["OTHER_CHAIN", "PayerWallet"]
