"""The journal: what was appended is read again, whatever the moment at which the process ended."""

import errno
import json
import os

import pytest

from spotlight_asars.sequence.online import journal as journals
from spotlight_asars.sequence.online.journal import Journal, MissingRecords


@pytest.fixture
def opened(path, told):
    """A journal that has been read, and its records."""

    def open_journal(after=0, **options):
        journal = Journal(path, told.append)
        return journal, list(journal.read(after, **options))

    return open_journal


def append(journal, *numbers):
    for number in numbers:
        journal.append(number, json.dumps(["event", number]))


def records(*numbers):
    return [(number, ["event", number]) for number in numbers]


def test_records_are_read_again_and_continued(opened):
    first, found = opened()
    assert found == []
    append(first, 1, 2)
    assert opened()[1] == records(1, 2)  # without close, as after a kill
    second, _ = opened()
    append(second, 3)
    assert opened()[1] == records(1, 2, 3) and opened(after=2)[1] == records(3)
    assert second.last_number() == 3


def test_a_torn_last_record_is_dropped_wherever_it_was_torn(opened, path, told):
    append(opened()[0], 1, 2)
    (part,) = path.parent.iterdir()
    whole = part.read_bytes()
    begin = whole.index(b"\n") + 1
    for end in range(begin + 1, len(whole)):
        part.write_bytes(whole[:end])
        told.clear()
        journal, found = opened()
        assert found == records(1) and len(told) == 1 and "torn last record was dropped" in told[0]
        append(journal, 2, 3)
        assert opened()[1] == records(1, 2, 3)


def test_damage_in_the_middle_is_refused(opened, path, refuses):
    append(opened()[0], 1, 2, 3)
    (part,) = path.parent.iterdir()
    whole = part.read_bytes()
    begin = whole.index(b"\n") + 1
    part.write_bytes(whole.replace(b'"event", 2', b'"event", 7'))
    refuses(lambda: opened(), str(part), f"damaged at byte {begin}", f"truncate -s {begin}")
    os.truncate(part, begin)
    assert opened()[1] == records(1)


def test_a_journal_of_a_later_state_is_refused(opened, refuses, path, told):
    append(opened(after=5)[0], 6, 7)
    with pytest.raises(MissingRecords, match="changes 1 to 5 are missing"):
        opened()
    assert opened(with_gaps=True)[1] == records(6, 7)
    assert told == [f"{path}: its changes 1 to 5 are missing from the journal"]


def test_parts_follow_one_another_and_old_ones_go(opened, path, monkeypatch):
    monkeypatch.setattr(journals, "PART_BYTES", 60)
    journal, _ = opened()
    append(journal, *range(1, 8))
    sizes = [part.path.stat().st_size for part in journal.parts()]
    assert [part.first for part in journal.parts()] == [1, 4, 7] and max(sizes) < 100
    assert opened()[1] == records(*range(1, 8)) and opened(after=4)[1] == records(5, 6, 7)
    journal.remove_old(folded=7, keep_bytes=sizes[2] + sizes[1])
    assert [part.first for part in journal.parts()] == [4, 7]
    journal.remove_old(folded=5, keep_bytes=0)  # 6 is still needed
    assert [part.first for part in journal.parts()] == [4, 7]
    journal.remove_old(folded=7, keep_bytes=0)  # the last one is being written
    assert [part.first for part in journal.parts()] == [7]
    journal.close()
    journal.remove_old(folded=7, keep_bytes=0)
    assert not list(path.parent.iterdir())


def test_removing_the_part_that_was_read_begins_another(opened):
    append(opened()[0], 1)
    journal, _ = opened()
    journal.remove_old(folded=1, keep_bytes=0)
    append(journal, 2)
    assert journal.waiting == 0 and opened(after=1)[1] == records(2)


@pytest.fixture
def full_disk(monkeypatch):
    """Let writes fail after a few bytes, until the list is emptied."""
    left, write = [10], os.write

    def limited(file, content):
        if not left:
            return write(file, content)
        if not left[0]:
            raise OSError(errno.ENOSPC, "No space left on device")
        count = write(file, bytes(content[: left[0]]))
        left[0] -= count
        return count

    monkeypatch.setattr(journals.os, "write", limited)
    return left


def test_records_wait_while_the_disk_is_full(opened, path, told, full_disk, monkeypatch):
    journal, _ = opened()
    append(journal, 1, 2)
    assert journal.waiting == 2 and len(told) == 1 and "No space left on device" in told[0]
    assert opened()[1] == []
    full_disk.clear()
    append(journal, 3)
    assert journal.waiting == 3  # the disk is not tried at once again
    monkeypatch.setattr(journals.time, "monotonic", lambda: float("inf"))
    append(journal, 4)
    assert journal.waiting == 0 and told[1:] == [f"{path}: the journal is written again, and nothing is missing"]
    assert opened()[1] == records(1, 2, 3, 4)


def test_a_torn_record_that_could_not_be_taken_back_is_overwritten(opened, full_disk, monkeypatch):
    journal, _ = opened()
    truncate = os.ftruncate

    def refused(*arguments):
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(journals.os, "ftruncate", refused)
    append(journal, 1)
    monkeypatch.setattr(journals.os, "ftruncate", truncate)
    full_disk.clear()
    journal.write_waiting()
    assert journal.waiting == 0 and opened()[1] == records(1)


def test_what_memory_cannot_hold_is_said_to_be_lost(opened, path, told, full_disk, monkeypatch):
    monkeypatch.setattr(journals, "MOST_WAITING", 3)
    journal, _ = opened()
    append(journal, *range(1, 12))
    assert journal.waiting <= 3
    full_disk.clear()
    journal.write_waiting()
    told.clear()
    assert opened()[1] == records(9, 10, 11)[-len(opened()[1]) :]
    assert told[0] == f"{path}: changes 1 to {11 - len(opened()[1])} never reached the full disk"


def test_only_what_was_written_is_said_to_be_on_disk(opened, full_disk, monkeypatch):
    forced = []
    monkeypatch.setattr(journals.os, "fsync", forced.append)
    journal, _ = opened()
    append(journal, 1)
    forced.clear()  # of the folder, for the new file
    assert not journal.sync(1) and not forced
    full_disk.clear()
    journal.write_waiting()
    forced.clear()
    append(journal, 2)
    assert journal.sync(1) and journal.sync(2) and len(forced) == 1  # one call serves both
