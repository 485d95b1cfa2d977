"""Public logs: download and verify those that may be downloaded; for the others, say which file to put where."""

import hashlib
import os
import shutil
import urllib.request
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from spotlight_asars.errors import InputError
from spotlight_asars.serialization.files import writable_folder, written_beside

TIMEOUT = 60  # seconds


@dataclass(frozen=True)
class Source:
    """
    The source of a public log.

    Attributes
    ----------
    file : str
        Its path below the data folder.
    page : str
        The web page to get it from by hand.
    url, member, sha256 : str or None
        A zip archive to download, the log's name in it, and the archive's checksum. None if the owner requires a login,
        or uses an archive format that Python cannot unpack.
    """

    file: str
    page: str
    url: str | None = None
    member: str | None = None
    sha256: str | None = None


GROUPLENS = "https://files.grouplens.org/datasets/movielens"
SOURCES: Mapping[str, Source] = MappingProxyType(
    {
        "movielens-100k": Source(
            "movielens/ml-100k/u.data",
            "https://grouplens.org/datasets/movielens/100k",
            f"{GROUPLENS}/ml-100k.zip",
            "ml-100k/u.data",
            "50d2a982c66986937beb9ffb3aa76efe955bf3d5c6b761f4e3a7cd717c6a3229",
        ),
        "movielens-1m": Source(
            "movielens/ml-1m/ratings.dat",
            "https://grouplens.org/datasets/movielens/1m",
            f"{GROUPLENS}/ml-1m.zip",
            "ml-1m/ratings.dat",
            "a6898adb50b9ca05aa231689da44c217cb524e7ebd39d264c56e2832f2c54e20",
        ),
        "recsys15": Source(
            "recsys15/yoochoose-clicks.dat", "https://s3-eu-west-1.amazonaws.com/yc-rdata/yoochoose-data.7z"
        ),
        "tianchi": Source("tianchi/UserBehavior.csv", "https://tianchi.aliyun.com/dataset/649"),
    }
)


def fetch(name: str, folder: str | os.PathLike | None = None, download_if_missing: bool = True) -> Path:
    """
    Return the path of a public log, for the reader of its format; download the log if necessary.

    Parameters
    ----------
    name : str
        One of SOURCES.
    folder : path, optional
        The data folder; by default ``~/spotlight_data``, as in Spotlight.
    download_if_missing : bool, optional
        Download a missing log if its owner allows that. The archive's checksum is verified before it is unpacked.

    Returns
    -------
    Path

    Raises
    ------
    InputError
        If the log is missing and cannot be downloaded; the message says which file to put where.
    """
    if name not in SOURCES:
        raise InputError(f"no public log is called {name!r}: choose one of {', '.join(SOURCES)}")
    source = SOURCES[name]
    path = (Path.home() / "spotlight_data" if folder is None else Path(folder)) / source.file
    if path.is_file():
        return path
    if source.url is None:
        raise InputError(f"{path} is missing, and {name} may not be downloaded by programs: {_by_hand(source, path)}")
    if not download_if_missing:
        raise InputError(f"{path} is missing: allow the download, or {_by_hand(source, path)}")
    writable_folder(path.parent)
    archive = path.parent.parent / source.url.rsplit("/", 1)[1]
    if not archive.is_file():
        _download(source, archive, path)
    _check(source, archive)
    _unpack(source, archive, path)
    return path


def _by_hand(source: Source, path: Path) -> str:
    return f"get {path.name} from {source.page} and put it there"


def _download(source: Source, archive: Path, path: Path) -> None:
    with written_beside(archive) as beside:
        try:
            with urllib.request.urlopen(source.url, timeout=TIMEOUT) as answer, beside.open("xb") as file:
                shutil.copyfileobj(answer, file, 1 << 20)
        except (urllib.error.URLError, TimeoutError) as error:
            reason = " ".join(str(getattr(error, "reason", error)).split())
            raise InputError(f"{source.url} cannot be fetched ({reason}): {_by_hand(source, path)}") from error


def _check(source: Source, archive: Path) -> None:
    with archive.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if found != source.sha256:
        raise InputError(
            f"{archive}: its SHA-256 is {found[:16]}... instead of {source.sha256[:16]}...: it is damaged or changed; "
            "remove it and download it again"
        )


def _unpack(source: Source, archive: Path, path: Path) -> None:
    try:
        with (
            written_beside(path) as beside,
            zipfile.ZipFile(archive) as packed,
            packed.open(source.member) as log,
            beside.open("xb") as file,
        ):
            shutil.copyfileobj(log, file, 1 << 20)
    except (zipfile.BadZipFile, KeyError) as error:
        raise InputError(f"{archive}: {source.member} cannot be unpacked ({error}): download it again") from error
