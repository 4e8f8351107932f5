"""What stands on a chain against what should: places, code, constructor arguments, who names whom.

For `qazyna contracts deploy|verify|show`; deploying itself is bindings.deploy. All that decides where the
contracts of a ledger stand is in a Founding, so whoever has it needs nobody to say where they are.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from web3 import Web3

from contracts.bindings import City, Deployment, code_at, created_address, plan
from contracts.transactions import CONTRACTS, answering, load_artifact
from ledger.records import Record, hash_struct, keccak256, reject

DEPOSIT, DEPOSIT_ADDRESS = "deposit", "DepositAddress"
PARAMETERS = ("direct_settlement", "order_delay", "payee_wait", "commitment_day_cap")
ROLES = ("council", "authority", "certifier", "auditor", "watcher", "operator", "gateway")


@dataclass(frozen=True, slots=True)
class Founding:
    """What decides the contracts of a ledger; records: its Seat and then its Quorum records."""

    ledger: bytes
    retention_end: int
    records: tuple[Record, ...]


@dataclass(frozen=True, slots=True)
class Difference:
    """Something that is not as it should be."""

    contract: str
    why: str

    def __str__(self) -> str:
        return f"{self.contract}: {self.why}"


def connect(rpc_url: str) -> Web3:
    """A node; nothing is asked of it yet."""
    return Web3(Web3.HTTPProvider(rpc_url))


def find(w3: Web3, founding: Founding) -> Deployment:
    """The contracts of a founding as they stand on this chain; Invalid for one that does not."""
    with answering("find"):
        planned = plan(w3.eth.chain_id, founding.ledger, founding.retention_end, founding.records)
        codes = {name: code_at(w3, place) for name, place in planned.places.items()}
    for name, code in codes.items():
        if not code:
            reject("C:NotDeployed", name, f"no code at 0x{planned.places[name].hex()}")
    hashes = {name: keccak256(code) for name, code in codes.items()}
    return Deployment(founding.ledger, planned.chain_id, **planned.places, block=0, code_hashes=hashes)


def as_json(deployment: Deployment) -> dict[str, Any]:
    """What is noted of a deployment."""
    return {
        "ledger": f"0x{deployment.ledger.hex()}",
        "chainId": str(deployment.chain_id),
        "block": str(deployment.block),
        "contracts": {name: f"0x{getattr(deployment, name).hex()}" for name in CONTRACTS},
        "codeHashes": {name: f"0x{code.hex()}" for name, code in deployment.code_hashes.items()},
    }


def from_json(told: Mapping[str, Any]) -> Deployment:
    """Read it back; Invalid for anything else."""
    try:
        places = {name: bytes.fromhex(told["contracts"][name][2:]) for name in CONTRACTS}
        codes = {name: bytes.fromhex(told["codeHashes"][name][2:]) for name in CONTRACTS}
        ledger, numbers = bytes.fromhex(told["ledger"][2:]), (int(told["chainId"]), int(told["block"]))
    except (KeyError, TypeError, ValueError) as error:
        reject("C:deployment", "deployment", f"is not what `deploy --write` notes: {error!r}")
    return Deployment(ledger, numbers[0], **places, block=numbers[1], code_hashes=codes)


def verify(
    w3: Web3, deployment: Deployment, retention_end: int, founding: Sequence[Record]
) -> list[Difference]:
    """Read everything back; no difference: these are the contracts of this source, for this ledger."""
    planned = plan(deployment.chain_id, deployment.ledger, retention_end, founding).places
    places = {name: getattr(deployment, name) for name in CONTRACTS}
    found = [
        Difference(name, f"stands at 0x{place.hex()}, this founding puts it at 0x{planned[name].hex()}")
        for name, place in places.items()
        if place != planned[name]
    ]
    implementation = created_address(deployment.router, 1)
    with answering("verify"):
        codes = _compare_codes(w3, deployment, {**places, DEPOSIT: implementation})
        # What another code answers to the questions below means nothing.
        return [*found, *(codes or _compare_answers(w3, deployment, implementation, retention_end, founding))]


def _compare_codes(w3: Web3, deployment: Deployment, places: Mapping[str, bytes]) -> list[Difference]:
    found = []
    for name, place in places.items():
        artifact, code = CONTRACTS.get(name, DEPOSIT_ADDRESS), code_at(w3, place)
        if masked(code, artifact) != masked(expected(artifact), artifact):
            why = f"the code at 0x{place.hex()} is not what {artifact}.sol gives ({len(code)} bytes)"
            found.append(Difference(name, why))
        elif name in CONTRACTS and keccak256(code) != deployment.code_hashes[name]:
            noted = deployment.code_hashes[name].hex()
            found.append(Difference(name, f"code hash 0x{keccak256(code).hex()}, noted is 0x{noted}"))
    return found


def _compare_answers(
    w3: Web3, deployment: Deployment, implementation: bytes, retention_end: int, founding: Sequence[Record]
) -> list[Difference]:
    found = []
    places = {name: getattr(deployment, name) for name in CONTRACTS}
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
        address = Web3.to_checksum_address(places[name])
        contract = w3.eth.contract(address, abi=load_artifact(artifact)["abi"])
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
