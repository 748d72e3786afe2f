"""Cameras' addresses: what is shown of them, what works as it is typed, and secrets from the environment."""

from __future__ import annotations

import itertools
import os
import re
import subprocess
import traceback
from pathlib import Path
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgebone.core import limits
from edgebone.core.errors import SourceError
from edgebone.sources import open_source
from edgebone.sources.network_address import read_address, redact
from support.camera_servers import rtsp_server, wait_for
from support.program import PROGRAM, edgebone

NASTY = "aZ09@:/?#[]%&=;,+ $\\\"'<>{}|^`~.*-_!()é"


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("rtsp://bob:p%40ss@cam:554/1", "rtsp://cam:554/1"),
        ("rtsp://bob@cam/1", "rtsp://cam/1"),
        ("rtsp://cam/1", "rtsp://cam/1"),
        ("RTSP://bob:x@cam/1", "rtsp://cam/1"),
        ("rtsp+udp://bob:x@[fe80::1%eth0]:554/1", "rtsp+udp://[fe80::1%eth0]:554/1"),
        ("rtsp://bob:p#ss@cam/1", "rtsp://cam/1"),
        ("rtsp://bob:p/ss@cam/1", "rtsp://cam/1"),
        ("rtsp://bob:p?s@s:@cam/1", "rtsp://cam/1"),
        ("rtsp://cam/1?user=bob&password=x&channel=2", "rtsp://cam/1?***&channel=2"),
        ("rtsp://cam/real?channel=1&subtype=0&unicast=true", "rtsp://cam/real?channel=1&subtype=0&unicast=true"),
        ("rtsp://cam/real?channel=s3cret", "rtsp://cam/real?***"),
        ("http://cam/v?token=abc#x", "http://cam/v?***"),
        ("http://cam/v?s3cret", "http://cam/v?***"),
        ("http://cam/v;password=x", "http://cam/v;***"),
        ("http://cam/v#password=x", "http://cam/v#***"),
        ("rtsp://cam/user=admin&password=p/ss&channel=1", "rtsp://cam/***"),
        ("rtsp://cam/live/user=admin_password=x_channel=1_stream=0.sdp?real_stream", "rtsp://cam/live/***"),
        ("rtsp://cam/channel=1/x", "rtsp://cam/channel=1/x"),
        # Nothing of these tells where the host begins.
        ("rtsp://bob:x@[::1/1", "rtsp://***"),
        ("rtsp://bob:12/34@cam/1", "rtsp://***"),
        ("rtsp://bob:x@cam/1@2", "rtsp://***"),
        ("rtsp://bob:x@cam:99999/1", "rtsp://***"),
        ("rtsp://bob:x@", "rtsp://***"),
    ],
)
def test_names_carry_no_credentials(text: str, name: str) -> None:
    assert redact(text) == name
    if name.endswith("://***"):
        with pytest.raises(SourceError, match=r"^rtsp://\*\*\*: it is not clear where the host begins.* @ as %40"):
            open_source(text)
    else:
        camera = open_source(text)
        assert camera.name == name
        camera.close()


@given(
    password=st.text(NASTY, min_size=4, max_size=16),
    form=st.sampled_from(
        [
            "rtsp://bob:{}@cam/1",
            "rtsp://{}@cam:554/1",
            "http://{}:x@[::1]:80/1",
            "http://cam/1?password={}",
            "http://cam/1?channel=1&pwd={}&subtype=0",
            "http://cam/1;p={}",
            "http://cam/1#{}",
            "rtsp://cam/user=admin&password={}&channel=1",
            "rtsp://cam/user=admin_password={}_channel=1_stream=0.sdp",
        ]
    ),
)
def test_no_password_is_ever_shown(password: str, form: str) -> None:
    # In the middle, where no reserved character of the secret can cut it off from the marks around it.
    secret = f"Xq{password}7vW"
    text = form.format(secret)
    said = [redact(text)]
    try:
        address = read_address(text)
        said += [address.name, repr(address), str(address)]
    except SourceError as error:
        said += [str(error), "".join(traceback.format_exception(error))]
        said[-1] = said[-1].replace(__file__, "")
    for line, mark in itertools.product(said, ("Xq", "7vW")):
        assert mark not in line


@given(user=st.text(NASTY, max_size=8), password=st.text(NASTY, max_size=16))
def test_encoded_credentials_always_work_and_typed_ones_where_they_are_clear(user: str, password: str) -> None:
    encoded = read_address(f"rtsp://{quote(user, safe='')}:{quote(password, safe='')}@cam:5/1?x=1")
    assert (encoded.user, encoded.password, encoded.host_and_port) == (user, password, "cam:5")
    if not any(re.fullmatch(r"\$(\w+|\{\w+\})", text) for text in (user, password)):
        # A camera is told $ as it is typed; typed here, a whole $NAME is a variable's.
        again = read_address(f"rtsp://{encoded.user_info}cam/1")
        assert (again.user, again.password) == (user, password)


@pytest.mark.parametrize(
    "password", ["p#ss", "p/ss", "p?ss", "p@ss", "p:ss", "p[ss]", "#/?@:", "100%", "a b", "$", "pa$S"]
)
def test_a_password_works_as_it_is_typed(password: str) -> None:
    address = read_address(f"rtsp://bob:{password}@cam:554/1?channel=2")
    assert (address.user, address.password, address.host, address.port) == ("bob", password, "cam", 554)
    assert address.path == "/1?channel=2"


def test_secrets_come_from_the_environment_and_from_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CAM_USER", "b@b")
    monkeypatch.setenv("CAM_PASS", "p%41$X/ss")
    address = read_address("rtsp://$CAM_USER:${CAM_PASS}@cam/1?password=$CAM_PASS&channel=1")
    assert (address.user, address.password, address.host) == ("b@b", "p%41$X/ss", "cam")
    assert address.path == "/1?password=p%2541%24X%2Fss&channel=1"
    assert address.name == "rtsp://cam/1?***&channel=1"
    monkeypatch.delenv("CAM_PASS")
    with pytest.raises(SourceError, match=r"^rtsp://cam/1: \$CAM_PASS is in the address, but neither .* is set"):
        open_source("rtsp://bob:$CAM_PASS@cam/1")
    file = tmp_path / "secret"
    monkeypatch.setenv("CAM_PASS_FILE", str(file))
    for content, wanted in ((b"p ss\n", "p ss"), (b"p ss\r\n", "p ss"), (b"", "")):
        file.write_bytes(content)
        assert read_address("rtsp://bob:$CAM_PASS@cam/1").password == wanted
    for content, why in (
        (b"one\ntwo\n", "line break"),
        (b"x" * (limits.SECRET_BYTES + 1), "larger than 4 kB"),
        (b"\xff", "UTF-8"),
    ):
        file.write_bytes(content)
        with pytest.raises(SourceError, match=f"^rtsp://cam/1: .*{why}"):
            open_source("rtsp://bob:$CAM_PASS@cam/1")
    monkeypatch.setenv("CAM_PASS_FILE", "/dev/zero")
    with pytest.raises(SourceError, match="not a regular file"):
        open_source("rtsp://bob:$CAM_PASS@cam/1")


def test_a_dollar_in_a_path_of_files_means_itself(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"\$CAM_PASS.jpg: no such file"):
        open_source(str(tmp_path / "$CAM_PASS.jpg"))


@pytest.mark.parametrize(
    "address",
    [
        "rtsp://bob:Xq7vW@cam/1",
        "rtsp:/bob:Xq7vW@cam/1",
        "rtsp//bob:Xq7vW@cam/1",
        "bob:Xq7vW@cam/1",
        "RTSP:bob:Xq7vW@cam",
        "ftp://bob:Xq7vW@cam/1",
        "http:/cam/1?password=Xq7vW",
    ],
)
def test_an_address_that_is_mistyped_or_misplaced_is_not_repeated(address: str, colors_bundle: Path) -> None:
    swapped = [(address, colors_bundle)] if ":/" in address else []
    for words in ((colors_bundle, address), *swapped):
        done = edgebone("run", *words, "--give-up", 0.1)
        assert done.returncode in (2, 3, 4)
        assert "Xq7vW" not in done.stdout + done.stderr
        assert "Traceback" not in done.stderr


@pytest.mark.slow
def test_no_process_list_shows_a_secret_that_comes_from_the_environment(colors_bundle: Path, tmp_path: Path) -> None:
    out, secret = tmp_path / "o.jsonl", tmp_path / "secret"
    secret.write_text("Xq7vW/@\n")
    with rtsp_server(user="bob", password="Xq7vW/@") as server:
        url = server.url.replace("//", "//bob:$CAM_PASS@")
        process = subprocess.Popen(
            [str(PROGRAM), "run", str(colors_bundle), url, "--restart", "--jsonl", str(out)],
            env={**os.environ, "CAM_PASS_FILE": str(secret)},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
        )
        wait_for(lambda: out.exists() and out.stat().st_size > 0)
        shown = [read_or_nothing(path) for path in Path("/proc").glob("[0-9]*/cmdline")]
        process.terminate()
        _, said = process.communicate(timeout=30)
    assert len([line for line in shown if b"$CAM_PASS@" in line]) == 2
    # The test's own server is told its password.
    assert not [line for line in shown if b"Xq7vW" in line and b"rtsp_server" not in line]
    assert "Xq7vW" not in said.decode() + out.read_text()


def read_or_nothing(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:
        return b""
