"""No byte of a bundle changes unseen, and a bundle behind an address is the bundle in a folder."""

from __future__ import annotations

import random
import shutil
import threading
from collections.abc import Iterator
from functools import partial
from http.server import BaseHTTPRequestHandler, SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ledger.audit import audit
from ledger.audit.__main__ import main
from ledger.records import Unavailable
from tests import bundles, city
from tests.bundles import Written


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Written:
    written = bundles.write(tmp_path_factory.mktemp("bytes") / "bundle", bundles.busy(260))
    assert audit(written.folder).is_valid
    return written


def _refused(bundle: Written, path: str, content: bytes) -> bool:
    """Whether the audit refuses the bundle with this content of one file; the file is put back."""
    place = bundle.folder / path
    before = place.read_bytes()
    place.write_bytes(content)
    try:
        verdict = audit(bundle.folder)
    finally:
        place.write_bytes(before)
    return bool(verdict.findings) and not verdict.is_valid


def test_sixty_single_bytes_changed_anywhere_are_each_refused(bundle: Written) -> None:
    chance = random.Random(2050)
    files = bundle.files()
    paths = files + [chance.choice(files) for _ in range(max(0, 60 - len(files)))]
    for path in paths:
        content = bytearray((bundle.folder / path).read_bytes())
        at = chance.randrange(len(content))
        content[at] ^= chance.randrange(1, 256)
        assert _refused(bundle, path, bytes(content)), f"byte {at} of {path}"


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_no_change_of_a_file_passes_and_none_makes_a_traceback(bundle: Written, data: st.DataObject) -> None:
    path = data.draw(st.sampled_from(bundle.files()))
    content = (bundle.folder / path).read_bytes()
    at = data.draw(st.integers(0, len(content)))
    until = data.draw(st.integers(at, len(content)))
    changed = content[:at] + data.draw(st.binary(max_size=80)) + content[until:]
    if changed != content:
        assert _refused(bundle, path, changed)


def test_each_file_removed_or_renamed_is_refused(bundle: Written, tmp_path: Path) -> None:
    for path in bundle.files():
        place, aside = bundle.folder / path, tmp_path / "aside"
        place.rename(aside)
        assert not audit(bundle.folder).is_valid, path
        renamed = place.with_name(place.name + "1")
        aside.rename(renamed)
        assert not audit(bundle.folder).is_valid, path
        renamed.rename(place)
    assert audit(bundle.folder).is_valid


def test_a_changed_byte_in_any_record_names_that_record(bundle: Written) -> None:
    path = "tile/entries/000"
    content = (bundle.folder / path).read_bytes()
    start = 0
    for index, record in enumerate(bundle.records[:256]):
        if index % 25 == 0:
            # The length's low byte, the type hash, the last byte.
            for at in (start + 1, start + 2, start + 1 + len(record)):
                changed = content[:at] + bytes([content[at] ^ 4]) + content[at + 1 :]
                (bundle.folder / path).write_bytes(changed)
                places = [finding.where for finding in audit(bundle.folder).findings if finding.rule == "D8"]
                assert places == [f"record {index}"]
        start += 2 + len(record)
    (bundle.folder / path).write_bytes(content)


# --- behind an address -------------------------------------------------------------


class _Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def serve() -> Iterator[object]:
    servers: list[ThreadingHTTPServer] = []

    def start(handler: object) -> str:
        server = ThreadingHTTPServer(("127.0.0.1", 0), handler)  # type: ignore[arg-type]
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        servers.append(server)
        return f"http://127.0.0.1:{server.server_port}"

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


def _folder(place: Path) -> object:
    return partial(_Quiet, directory=str(place))


def test_a_served_bundle_gives_the_verdict_of_its_folder(bundle: Written, serve, tmp_path: Path) -> None:
    address = serve(_folder(bundle.folder.parent)) + "/bundle/"
    near, far = audit(bundle.folder).as_json(), audit(address).as_json()
    # A folder can be listed: what there is besides is seen there alone.
    extra = [sentence for sentence in far.pop("said") if sentence not in near["said"]]
    assert ["behind an address" in sentence for sentence in extra] == [True]
    near.pop("said")
    assert near == far
    broken = tmp_path / "broken"
    shutil.copytree(bundle.folder, broken)
    place = broken / "tile/entries/000"
    content = bytearray(place.read_bytes())
    content[500] ^= 1
    place.write_bytes(bytes(content))
    (broken / f"documents/{city.ACT.hex()}").unlink()
    served = audit(serve(_folder(broken)))
    assert not served.is_valid
    assert served.findings == audit(broken).findings


def test_an_address_without_a_bundle_could_not_be_checked(serve, tmp_path: Path) -> None:
    assert main([serve(_folder(tmp_path))]) == 2


def _answer(status: int, headers: dict[str, str], body: bytes) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    return Handler


@pytest.mark.parametrize(
    ("status", "headers", "body"),
    [
        (500, {}, b""),
        (302, {"Location": "file:///etc/passwd"}, b""),
        (302, {"Location": "http://127.0.0.1:1/"}, b""),
        (200, {"Content-Length": "1000"}, b"short"),
        (200, {"Content-Length": str(65 << 20)}, bytes(65 << 20)),
    ],
)
def test_a_server_that_misbehaves_could_not_be_checked(
    serve, status: int, headers: dict[str, str], body: bytes
) -> None:
    with pytest.raises(Unavailable):
        audit(serve(_answer(status, headers, body)))


def test_a_server_that_answers_everything_with_noise_is_a_finding(serve) -> None:
    verdict = audit(serve(_answer(200, {"Content-Length": "5"}, b"\xff\x00\xfe{[")))
    assert not verdict.is_valid
