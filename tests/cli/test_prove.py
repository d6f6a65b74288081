"""``keys``, ``checkpoint``, ``prove`` and ``check-proof``: proofs from one machine, checked on another."""

from __future__ import annotations

import json
import shutil
import subprocess
from typing import TYPE_CHECKING

import pytest

from memoryos_uow import Ledger, _notes
from memoryos_uow.errors import LedgerError, LedgerRollback
from tests.cli.tools import invoke
from tests.signers import ORIGIN, key_file, put, signer, tamper

if TYPE_CHECKING:
    from pathlib import Path

    from click.testing import Result


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A signed ledger of three units; the last has a thousand writes and is BLACK."""
    place = tmp_path / "memory.db"
    with Ledger.open(place, origin=ORIGIN, signer=key_file(tmp_path)) as ledger:
        put(ledger, "a")
        put(ledger, "b")
        with ledger.unit(space_id="s", band="BLACK") as uow:
            for number in range(1000):
                uow["notes"].create(str(number), number)
    return place


def newest(path: Path) -> str:
    """The id of the newest unit."""
    with Ledger.open(path) as ledger:
        return ledger.units(limit=1)[0].uow_id


def proved(path: Path, *more: str) -> tuple[Path, Path]:
    """Write the proof of the newest unit; return where proof and receipt are."""
    proof, entry = path.with_name("p.tlog-proof"), path.with_name("p.json")
    done = invoke("prove", path, newest(path)[-12:], "-o", proof, "--entry", entry, *more)
    assert done.exit_code == 0, done.output
    return proof, entry


def check(proof: Path, entry: Path, *more: str) -> Result:
    """Check a proof with the key of the tests."""
    return invoke("check-proof", proof, "--entry", entry, "--vkey", signer(proof.parent).vkey, *more)


def test_a_unit_is_proved_without_its_ledger(path: Path) -> None:
    """The proof holds once the ledger is gone, and says whose and of what it is."""
    proof, entry = proved(path)
    path.unlink()
    assert len(entry.read_bytes()) < 1024
    done = check(proof, entry)
    assert (done.exit_code, done.stdout.splitlines()[0], done.stderr) == (0, "The proof holds.", "")
    assert _notes.shown_key(signer(proof.parent).vkey) in done.stdout
    found = json.loads(check(proof, entry, "--json").stdout)
    assert (found["ok"], found["origin"], found["size"]) == (True, ORIGIN, 3)
    entry.write_bytes(entry.read_bytes() + b"\n")  # as an editor leaves it
    assert check(proof, entry).exit_code == 0


def test_one_write_of_a_thousand_is_proved(path: Path) -> None:
    """Two more files prove that the receipt commits to it; they are small, and another write does not fit them."""
    proof, entry = proved(path, "--write", "777")
    of_write, write = proof.with_name("p.write-777.tlog-proof"), entry.with_name("p.write-777.json")
    assert json.loads(write.read_bytes())["seq"] == 777
    assert len(of_write.read_bytes()) < 1024
    assert check(proof, entry, "--write", "777").exit_code == 0
    write.write_bytes(write.read_bytes().replace(b'"seq":777', b'"seq":778'))
    done = check(proof, entry, "--write", "777")
    assert (done.exit_code, "does not hold" in done.stderr) == (1, True)
    shutil.copy(of_write, proof.with_name("p.write-778.tlog-proof"))
    shutil.copy(write, entry.with_name("p.write-778.json"))
    assert "about write 777" in check(proof, entry, "--write", "778").stderr


def test_stdout_is_the_proof(path: Path) -> None:
    """Without -o the proof goes to stdout and nothing else does."""
    done = invoke("prove", path, newest(path))
    assert done.stdout.startswith("c2sp.org/tlog-proof@v1\nindex 2\n")
    assert invoke("prove", path, newest(path), "--write", "1").exit_code == 2


def test_nobodys_signature_is_said_to_be_checked(path: Path) -> None:
    """Without --vkey the proof shows only that its parts fit, and a note says so."""
    proof, entry = proved(path)
    done = invoke("check-proof", proof, "--entry", entry)
    assert (done.exit_code, "signed_by     nobody" in done.stdout) == (0, True)
    assert "Nobody's signature was checked" in done.stderr
    wrong = signer(path.parent, "other.pem").vkey
    done = invoke("check-proof", proof, "--entry", entry, "--vkey", wrong)
    assert (done.exit_code, "not signed by a key that you trust" in done.stderr) == (1, True)


def test_files_that_are_no_proofs_are_refused(path: Path) -> None:
    """Too large, not a text, another receipt: exit code 1 and a sentence."""
    proof, entry = proved(path)
    text = proof.read_bytes()
    for content in (b"\xff" + text, b"x" * 1_000_001, b""):
        proof.write_bytes(content)
        assert check(proof, entry).exit_code == 1
    proof.write_bytes(text)
    entry.write_bytes(entry.read_bytes().replace(b"BLACK", b"GREEN"))
    assert check(proof, entry).exit_code == 1


def test_what_cannot_be_proved_is_said(path: Path) -> None:
    """A failed unit, a write that is not there, rows that were changed."""
    with Ledger.open(path, signer=key_file(path.parent)) as ledger:
        with pytest.raises(LedgerError), ledger.unit(space_id="s", band="GREEN") as uow:
            uow["notes"].create("never", 1)
            raise LedgerError("no")
        failed = uow.uow_id
    assert "has no receipt" in invoke("prove", path, failed).stderr
    with Ledger.open(path) as ledger:
        good = ledger.units(status="committed", limit=1)[0].uow_id
    out = ("-o", path.with_name("o"), "--entry", path.with_name("e"))
    assert "1000 writes, numbered from 0" in invoke("prove", path, good, "--write", "1000", *out).stderr
    tamper(path, "UPDATE unit_of_work SET band = 'GREEN' WHERE uow_id = ?", good)
    assert "not what its receipt in the log was made from" in invoke("prove", path, good).stderr


# Checkpoints


def test_a_checkpoint_is_printed_or_kept(path: Path) -> None:
    """It is what the newest unit carries; of a ledger that nobody signs a note says so."""
    kept = path.with_name("head.txt")
    assert invoke("checkpoint", path, "-o", kept).exit_code == 0
    done = invoke("checkpoint", path)
    assert (done.stdout, done.stderr) == (kept.read_text(), "")
    assert _notes.parse_head(_notes.parse(done.stdout).text).size == 3
    with Ledger.open(path.with_name("plain.db")) as ledger:
        put(ledger, "a")
    done = invoke("checkpoint", path.with_name("plain.db"))
    assert _notes.UNSIGNED in done.stdout
    assert "Nobody signs this ledger" in done.stderr


@pytest.mark.skipif(shutil.which("ssh-keygen") is None, reason="needs ssh-keygen")
def test_ssh_keygen_verifies_a_checkpoint(path: Path) -> None:
    """The signature file is one of OpenSSH's; a changed checkpoint fails."""
    kept = path.with_name("head.txt")
    assert invoke("checkpoint", path, "--ssh-sign", key_file(path.parent)).exit_code == 2
    assert invoke("checkpoint", path, "-o", kept, "--ssh-sign", key_file(path.parent)).exit_code == 0
    allowed = path.with_name("allowed")
    allowed.write_text(f"me {invoke('keys', 'show', path, '--format', 'ssh').stdout}")
    command = ["ssh-keygen", "-Y", "verify", "-f", str(allowed), "-I", "me", "-n", "memoryos-uow-checkpoint"]
    for text, good in ((kept.read_bytes(), True), (kept.read_bytes() + b"\n", False)):
        done = subprocess.run(
            [*command, "-s", str(path.with_name("head.txt.sig"))], input=text, capture_output=True, check=False
        )
        assert (done.returncode == 0) is good


# Keys


def test_keys_are_made_shown_rotated_and_put_aside(path: Path) -> None:
    """The whole life of two keys from the command line; wrong calls change nothing."""
    folder = path.parent
    done = invoke("keys", "new", folder / "second.pem", "--name", ORIGIN)
    assert _notes.parse_vkey(done.stdout).name == ORIGIN
    assert invoke("keys", "new", folder / "second.pem").exit_code == 1
    assert invoke("keys", "new", folder / "third.pem").stdout == ""
    old = ("--old", folder / "key.pem")
    rotate = ("keys", "rotate", path, "--new", folder / "second.pem")
    assert invoke(*rotate).exit_code == 2
    assert invoke(*rotate, *old, "--old-key-lost").exit_code == 2
    assert invoke("keys", "retire", path).exit_code == 2
    assert invoke(*rotate, *old).exit_code == 0
    assert invoke("keys", "retire", path, "--old-key-lost").exit_code == 0
    first, second = json.loads(invoke("keys", "show", path, "--json").stdout)
    assert (first["until_seq"], second["until_seq"]) == (3, 3)
    assert invoke("keys", "revoke", path, _notes.shown_key(first["vkey"])).exit_code == 0
    shown = invoke("keys", "show", path).stdout
    assert ("revoked" in shown, "put aside" in shown) == (True, True)
    assert invoke("keys", "show", path, "--format", "vkey").exit_code == 2


def test_the_key_in_use_is_shown_in_three_forms(path: Path) -> None:
    """As verifier key, for openssl and for ssh-keygen; a ledger that nobody signs has none."""
    vkey = invoke("keys", "show", path, "--format", "vkey").stdout
    assert vkey == signer(path.parent).vkey + "\n"
    assert invoke("keys", "show", path, "--format", "ssh").stdout.startswith("ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAA")
    pem = invoke("keys", "show", path, "--format", "pem").stdout
    from cryptography.hazmat.primitives.serialization import load_pem_public_key

    public = load_pem_public_key(pem.encode())
    assert public.public_bytes_raw() == _notes.parse_vkey(vkey).public  # type: ignore[union-attr]
    with Ledger.open(path.with_name("plain.db")) as ledger:
        put(ledger, "a")
    assert "Nobody signs" in invoke("keys", "show", path.with_name("plain.db")).stderr


# Rollback


def test_recover_goes_on_with_an_old_copy_when_told_to(path: Path) -> None:
    """Without the option units stay refused; with it the next epoch begins."""
    shutil.copy(path, path.with_name("old.db"))
    with Ledger.open(path, signer=key_file(path.parent)) as ledger:
        put(ledger, "d")
    path.with_name("old.db").replace(path)
    assert invoke("recover", path).exit_code == 0
    with Ledger.open(path, signer=key_file(path.parent)) as ledger, pytest.raises(LedgerRollback):
        put(ledger, "e")
    assert invoke("recover", path, "--accept-rollback").exit_code == 0
    with Ledger.open(path, signer=key_file(path.parent)) as ledger:
        put(ledger, "f")
