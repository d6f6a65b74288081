"""Which file systems are refused for a ledger, and how that is found out."""

from __future__ import annotations

from pathlib import Path

import pytest

from memoryos_uow import Ledger, LedgerError
from memoryos_uow.engines import _mounts, _place

MOUNTINFO = r"""22 1 254:0 / / rw,relatime shared:1 - ext4 /dev/root rw
30 22 0:25 / /tmp rw,nosuid shared:2 - tmpfs tmpfs rw
41 22 0:40 / /mnt/share rw,relatime shared:9 - nfs4 host:/export rw,vers=4.2
42 22 0:41 / /mnt/with\040space rw - cifs //host/share rw
43 41 0:42 / /mnt/share/local rw - xfs /dev/sdb1 rw
44 22 0:43 / /stacked rw - nfs host:/a rw
45 44 0:44 / /stacked rw - ext4 /dev/sdc1 rw
a line that is none
"""


@pytest.fixture
def mounts(tmp_path: Path) -> Path:
    """Return a mount table as Linux writes it."""
    path = tmp_path / "mountinfo"
    path.write_text(MOUNTINFO)
    return path


@pytest.mark.parametrize(
    ("path", "sort"),
    [
        ("/var/memory.db", "ext4"),
        ("/tmp/memory.db", "tmpfs"),  # noqa: S108 - a name in a table, nothing is written
        ("/tmpfile", "ext4"),  # noqa: S108
        ("/mnt/share/memory.db", "nfs4"),
        ("/mnt/shared/memory.db", "ext4"),
        ("/mnt/with space/memory.db", "cifs"),
        ("/mnt/share/local/memory.db", "xfs"),
        ("/stacked/memory.db", "ext4"),
    ],
)
def test_deepest_and_latest_mount_counts(mounts: Path, path: str, sort: str) -> None:
    """A path lies on the deepest mount above it, and of two at one place on the later."""
    assert _mounts.file_system(Path(path), mounts=mounts) == sort


def test_only_network_file_systems_are_named(mounts: Path) -> None:
    """A local file system is no reason to refuse."""
    assert _mounts.network_file_system(Path("/mnt/share/memory.db"), mounts=mounts) == "nfs4"
    assert _mounts.network_file_system(Path("/var/memory.db"), mounts=mounts) is None


def test_nothing_is_said_where_nothing_is_known(tmp_path: Path) -> None:
    """Without a mount table, as on other systems, nothing is refused."""
    assert _mounts.network_file_system(tmp_path, mounts=tmp_path / "none") is None


def test_this_machine_can_be_read(tmp_path: Path) -> None:
    """The table of the machine the tests run on is understood, where there is one."""
    if not _mounts.MOUNTS.exists():
        pytest.skip("this system has no mount table in /proc")
    assert _mounts.file_system(tmp_path)


def test_ledger_on_a_network_is_refused_unless_forced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Opening there is refused before a file is made; the environment variable takes the risk."""
    monkeypatch.setattr(_place, "network_file_system", lambda _: "nfs4")
    with pytest.raises(LedgerError, match="network file system") as refused:
        Ledger.open(tmp_path / "memory.db")
    assert _place.ALLOW_NETWORK in str(refused.value)
    assert list(tmp_path.iterdir()) == []
    monkeypatch.setenv(_place.ALLOW_NETWORK, "1")
    Ledger.open(tmp_path / "memory.db").close()
