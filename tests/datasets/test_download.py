"""Public logs: downloaded, verified and unpacked from a local file; without a network, what to put where."""

import hashlib
import zipfile
from types import MappingProxyType

import pytest

from spotlight_asars.datasets import download
from spotlight_asars.datasets.download import SOURCES, Source, fetch


@pytest.fixture
def source(tmp_path, monkeypatch):
    """A source called `small` with its archive in a local folder."""
    archive = tmp_path / "server" / "small.zip"
    archive.parent.mkdir()
    with zipfile.ZipFile(archive, "w") as packed:
        packed.writestr("small/log.csv", "1,2,3\n")
    digest = hashlib.sha256(archive.read_bytes()).hexdigest()
    source = Source("small/log/log.csv", "https://a.page", archive.as_uri(), "small/log.csv", digest)
    monkeypatch.setattr(download, "SOURCES", MappingProxyType({"small": source}))
    return archive


def test_fetched_once(source, tmp_path):
    path = fetch("small", tmp_path / "data")
    assert path == tmp_path / "data" / "small" / "log" / "log.csv"
    assert path.read_text() == "1,2,3\n"
    source.unlink()
    assert fetch("small", tmp_path / "data") == path
    path.unlink()
    assert fetch("small", tmp_path / "data").read_text() == "1,2,3\n"  # the archive is still there


def test_a_changed_archive_is_refused(source, tmp_path, refuses):
    source.write_bytes(source.read_bytes() + b"more")
    refuses(lambda: fetch("small", tmp_path), "small.zip", "SHA-256", "remove it")
    assert not (tmp_path / "small" / "log" / "log.csv").exists()


def test_what_to_put_where(source, tmp_path, refuses):
    place = str(tmp_path / "small" / "log" / "log.csv")
    refuses(lambda: fetch("small", tmp_path, download_if_missing=False), place, "https://a.page")
    source.unlink()
    refuses(lambda: fetch("small", tmp_path), "small.zip", "cannot be fetched", "get log.csv from https://a.page")
    assert [path.name for path in (tmp_path / "small").iterdir()] == ["log"]
    refuses(lambda: fetch("large", tmp_path), "'large'", "small")


@pytest.mark.parametrize("name", ["recsys15", "tianchi"])
def test_logs_that_a_person_has_to_get(name, tmp_path, refuses):
    refuses(lambda: fetch(name, tmp_path), str(tmp_path / SOURCES[name].file), SOURCES[name].page)
    path = tmp_path / SOURCES[name].file
    path.parent.mkdir()
    path.touch()
    assert fetch(name, tmp_path) == path
