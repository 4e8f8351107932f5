"""What stands on a chain against what should stand there: code, constructor arguments, and who names whom.

For `qazyna contracts deploy|verify|show`; deploying itself is bindings.deploy.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from web3 import Web3

from contracts.bindings import CONTRACTS, City, Deployment, created_address, load_artifact
from ledger.records import Record, hash_struct, keccak256

DEPOSIT_ADDRESS = "DepositAddress"
PARAMETERS = ("direct_settlement", "order_delay", "payee_wait", "commitment_day_cap")
ROLES = ("council", "authority", "certifier", "auditor", "watcher", "operator", "gateway")


@dataclass(frozen=True, slots=True)
class Difference:
    """Something that is not as it should be."""

    contract: str
    why: str

    def __str__(self) -> str:
        return f"{self.contract}: {self.why}"


def verify(
    w3: Web3, deployment: Deployment, retention_end: int, founding: Sequence[Record]
) -> list[Difference]:
    """Read everything back; no difference: these are the contracts of this source, for this ledger."""
    found: list[Difference] = []
    places = {name: getattr(deployment, name) for name in CONTRACTS}
    implementation = created_address(deployment.router, 1)
    for name, artifact in (*CONTRACTS.items(), ("deposit", DEPOSIT_ADDRESS)):
        place = implementation if name == "deposit" else places[name]
        code = bytes(w3.eth.get_code(Web3.to_checksum_address(place)))
        if masked(code, artifact) != masked(expected(artifact), artifact):
            found.append(
                Difference(
                    name, f"the code at 0x{place.hex()} is not what {artifact}.sol gives ({len(code)} bytes)"
                )
            )
        elif name != "deposit" and keccak256(code) != deployment.code_hashes[name]:
            found.append(
                Difference(
                    name,
                    f"code hash 0x{keccak256(code).hex()}, noted is 0x{deployment.code_hashes[name].hex()}",
                )
            )
    if found:
        # What another code answers to the questions below means nothing.
        return found
    bound = keccak256(b"".join(hash_struct(record) for record in founding))
    asked: list[tuple[str, str, str, bytes | int]] = [
        ("council", "Council", "ledger", deployment.ledger),
        ("council", "Council", "retentionEnd", retention_end),
        ("council", "Council", "founding", bound),
        ("council", "Council", "anchor", deployment.anchor),
        ("anchor", "LedgerAnchor", "council", deployment.council),
        ("watchdog", "Watchdog", "council", deployment.council),
        ("watchdog", "Watchdog", "anchor", deployment.anchor),
        ("treasury", "Treasury", "council", deployment.council),
        ("treasury", "Treasury", "anchor", deployment.anchor),
        ("treasury", "Treasury", "watchdog", deployment.watchdog),
        ("treasury", "Treasury", "retentionEnd", retention_end),
        ("router", "PaymentRouter", "council", deployment.council),
        ("router", "PaymentRouter", "treasury", deployment.treasury),
        ("router", "PaymentRouter", "implementation", implementation),
    ]
    for name, artifact, function, wanted in asked:
        contract = w3.eth.contract(Web3.to_checksum_address(places[name]), abi=load_artifact(artifact)["abi"])
        answer = contract.functions[function]().call()
        said = bytes.fromhex(answer[2:]) if isinstance(answer, str) else answer
        if said != wanted:
            found.append(Difference(name, f"{function}() is {_shown(said)}, expected {_shown(wanted)}"))
    return found


def expected(artifact: str) -> bytes:
    """The code that the sources give, zeros where constructor arguments go."""
    return bytes.fromhex(load_artifact(artifact)["deployedBytecode"][2:])


def masked(code: bytes, artifact: str) -> bytes:
    """The code with zeros where the constructor wrote what it was given."""
    blank = bytearray(code)
    for places in load_artifact(artifact)["immutableReferences"]:
        for place in places:
            start, end = place["start"], place["start"] + place["length"]
            blank[start:end] = bytes(max(0, min(end, len(blank)) - start))
    return bytes(blank)


def show(city: City) -> list[str]:
    """Where the contracts stand and what is in force, a line for each."""
    deployment, head = city.deployment, city.head()
    lines = [f"ledger 0x{deployment.ledger.hex()} on chain {deployment.chain_id}, block {deployment.block}"]
    lines += [f"{name:>10}  0x{getattr(deployment, name).hex()}" for name in CONTRACTS]
    lines.append(f"{'head':>10}  size {head.size}, root 0x{head.root.hex()}, time {head.time}")
    lines += [f"{name:>10}  {city.required(name)} must sign" for name in ROLES]
    lines += [f"{name:>10}  {city.parameter(name)}" for name in PARAMETERS]
    lines.append(f"{'frozen':>10}  {city.frozen()} breaches of the log")
    if city.is_recovering():
        lines.append("too few are seated in the council: only its seats can be filled, with 180 days' notice")
    return lines


def _shown(value: bytes | int) -> str:
    return f"0x{value.hex()}" if isinstance(value, bytes) else str(value)
