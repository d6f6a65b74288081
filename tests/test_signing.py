"""Where private keys are: files that are private, the environment, and a real ssh-agent."""

from __future__ import annotations

import os
import shutil
import socket
import stat
import struct
import subprocess
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest

from memoryos_uow import _ed25519, _notes
from memoryos_uow.errors import LedgerError, UsageError
from memoryos_uow.signing import AgentSigner, EnvironmentSigner, KeyFileSigner, Signer, write_new_key
from tests.signers import ORIGIN, key_file, signer

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


def assert_signs(made: Signer) -> None:
    """It is a signer whose signatures hold under its verifier key."""
    assert isinstance(made, Signer)
    key = _notes.parse_vkey(made.vkey)
    assert key.name == made.name == ORIGIN
    assert _ed25519.verify(key.public, b"message", made.sign(b"message"))


def test_a_new_key_file_is_private_and_signs(tmp_path: Path) -> None:
    """It is made for its owner alone, never over anything, and its repr shows no more than the public id."""
    path = key_file(tmp_path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    made = signer(tmp_path)
    assert_signs(made)
    assert repr(made) == f"<KeyFileSigner {_notes.shown_key(made.vkey)}>"
    with pytest.raises(LedgerError, match="cannot be made"):
        write_new_key(path)
    with pytest.raises(LedgerError, match="cannot be made"):
        write_new_key(tmp_path / "absent/key.pem")


@pytest.mark.skipif(shutil.which("openssl") is None, reason="needs openssl")
def test_a_key_made_by_openssl_signs(tmp_path: Path) -> None:
    """`openssl genpkey -algorithm ed25519` makes a key file as well."""
    path = tmp_path / "openssl.pem"
    subprocess.run(["openssl", "genpkey", "-algorithm", "ed25519", "-out", path], check=True)
    path.chmod(0o400)
    assert_signs(KeyFileSigner(path, name=ORIGIN))


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o602, 0o660, 0o644, 0o610])
def test_a_key_file_that_others_can_use_is_refused(tmp_path: Path, mode: int) -> None:
    """Group and others must have no right to it, to read it or to change it."""
    path = key_file(tmp_path)
    path.chmod(mode)
    with pytest.raises(LedgerError, match=r"not private.*chmod 600"):
        KeyFileSigner(path, name=ORIGIN)


def test_a_key_file_of_another_user_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A key that somebody else put there is not ours."""
    path = key_file(tmp_path)
    monkeypatch.setattr(os, "geteuid", lambda: path.stat().st_uid + 1)
    with pytest.raises(LedgerError, match="not private"):
        KeyFileSigner(path, name=ORIGIN)


@pytest.mark.parametrize("what", ["absent", "directory", "pipe", "empty", "text", "null"])
def test_what_is_no_key_file_is_refused(tmp_path: Path, what: str) -> None:
    """Lost or unreadable is an error in a sentence, at once, and never a ledger without signatures."""
    path = tmp_path / ("key\0.pem" if what == "null" else "key.pem")
    if what == "directory":
        path.mkdir()
    elif what == "pipe":
        os.mkfifo(path, 0o600)
    elif what in {"empty", "text"}:
        path.write_text("" if what == "empty" else "no key")
        path.chmod(0o600)
    with pytest.raises(LedgerError, match=r"key file.*without its signature"):
        KeyFileSigner(path, name=ORIGIN)


def test_a_read_error_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A disk that fails while the key is read is an error of ours."""
    path = key_file(tmp_path)

    def fail(*_: object) -> bytes:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(os, "read", fail)
    with pytest.raises(LedgerError, match="Input/output error"):
        KeyFileSigner(path, name=ORIGIN)


@pytest.mark.parametrize("name", ["", "two words", "a+b", None])
def test_a_key_has_a_name_without_spaces(tmp_path: Path, name: str) -> None:
    """The name is on a line of its own in every checkpoint."""
    with pytest.raises(UsageError, match="one word"):
        KeyFileSigner(key_file(tmp_path), name=name)
    with pytest.raises(UsageError, match="one word"):
        AgentSigner(name=name)


def test_the_environment_holds_a_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A variable with the text of a key file signs; unset or wrong it is refused, and its text is never shown."""
    monkeypatch.setenv("MEMORYOS_UOW_KEY", key_file(tmp_path).read_text())
    made = EnvironmentSigner(name=ORIGIN)
    assert_signs(made)
    assert made.vkey == signer(tmp_path).vkey
    monkeypatch.setenv("MEMORYOS_UOW_KEY", "s3cret")
    with pytest.raises(LedgerError, match="MEMORYOS_UOW_KEY") as caught:
        EnvironmentSigner(name=ORIGIN)
    assert "s3cret" not in str(caught.value)
    monkeypatch.delenv("MEMORYOS_UOW_KEY")
    with pytest.raises(LedgerError, match="not set"):
        EnvironmentSigner(name=ORIGIN)


# ssh-agent


@pytest.fixture
def agent(tmp_path: Path) -> Iterator[Path]:
    """A real ssh-agent with one key; lends the key's public line."""
    if not all(map(shutil.which, ("ssh-agent", "ssh-add", "ssh-keygen"))):
        pytest.skip("needs OpenSSH")
    address = tmp_path / "agent"
    process = subprocess.Popen(["ssh-agent", "-D", "-a", address], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    process.stdout.readline()  # it listens
    try:
        key = tmp_path / "id"
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", key], check=True)
        environment = {**os.environ, "SSH_AUTH_SOCK": str(address)}
        subprocess.run(["ssh-add", "-q", key], check=True, env=environment)
        yield address
    finally:
        process.terminate()
        process.wait()
        process.stdout.close()


def test_an_agent_signs(agent: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its only Ed25519 key, or the one of a given public line, signs without ever leaving it."""
    line = (tmp_path / "id.pub").read_text()
    assert_signs(AgentSigner(name=ORIGIN, address=agent))
    monkeypatch.setenv("SSH_AUTH_SOCK", str(agent))
    made = AgentSigner(line, name=ORIGIN)
    assert_signs(made)
    assert repr(made) == f"<AgentSigner {_notes.shown_key(made.vkey)}>"
    subprocess.run(["ssh-add", "-q", "-D"], check=True)
    with pytest.raises(LedgerError, match="refused"):
        made.sign(b"message")
    with pytest.raises(LedgerError, match="no such Ed25519 key"):
        AgentSigner(line, name=ORIGIN)


def test_which_of_two_keys_has_to_be_said(agent: Path, tmp_path: Path) -> None:
    """An agent with several Ed25519 keys is asked for one of them by its public line."""
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", tmp_path / "second"], check=True)
    environment = {**os.environ, "SSH_AUTH_SOCK": str(agent)}
    subprocess.run(["ssh-add", "-q", tmp_path / "second"], check=True, env=environment)
    with pytest.raises(LedgerError, match="2 such Ed25519 keys"):
        AgentSigner(name=ORIGIN, address=agent)
    assert_signs(AgentSigner((tmp_path / "second.pub").read_text(), name=ORIGIN, address=agent))


def test_no_agent_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither a socket that is not there nor no socket at all is taken for a reason to go on."""
    monkeypatch.delenv("SSH_AUTH_SOCK", raising=False)
    with pytest.raises(LedgerError, match="SSH_AUTH_SOCK"):
        AgentSigner(name=ORIGIN)
    with pytest.raises(LedgerError, match="No such file"):
        AgentSigner(name=ORIGIN, address=tmp_path / "absent")


@pytest.mark.parametrize("line", ["", "ssh-rsa AAAA", "ssh-ed25519", "ssh-ed25519 !", "ssh-ed25519 AAAA", 7])
def test_a_public_line_is_checked(line: str) -> None:
    """What is not the line of an Ed25519 key is a wrong argument."""
    with pytest.raises(UsageError, match="public line"):
        AgentSigner(line, name=ORIGIN)


def _string(content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + content


@contextmanager
def false_agent(folder: Path, *answers: bytes) -> Iterator[Path]:
    """An agent that gives these answers, one for each connection."""
    address = folder / "false"
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
        listener.bind(str(address))
        listener.listen()

        def serve() -> None:
            for answer in answers:
                channel, _ = listener.accept()
                with channel:
                    channel.recv(65_536)
                    channel.sendall(answer)

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield address
        finally:
            thread.join()


PUBLIC = _ed25519.public_bytes(_ed25519.new_private())
ONE_KEY = _string(b"\x0c\x00\x00\x00\x01" + _string(_string(b"ssh-ed25519") + _string(PUBLIC)) + _string(b"comment"))


@pytest.mark.parametrize(
    ("defect", "answer"),
    [
        ("nothing", b""),
        ("no length", b"\x00"),
        ("length of nothing", struct.pack(">I", 0)),
        ("far too long", struct.pack(">I", 2**31)),
        ("cut short", struct.pack(">I", 10) + b"\x0e"),
        ("refused", _string(b"\x05")),
        ("no signature inside", _string(b"\x0e")),
        ("a string cut short", _string(b"\x0e" + struct.pack(">I", 99))),
        ("another kind", _string(b"\x0e" + _string(_string(b"ssh-rsa") + _string(bytes(64))))),
        ("a wrong signature", _string(b"\x0e" + _string(_string(b"ssh-ed25519") + _string(bytes(64))))),
    ],
)
def test_a_false_agent_is_found_out(tmp_path: Path, defect: str, answer: bytes) -> None:
    """Whatever it answers, nothing is taken for a signature that is none."""
    assert defect
    with false_agent(tmp_path, ONE_KEY, answer) as address:
        made = AgentSigner(name=ORIGIN, address=address)
        with pytest.raises(LedgerError, match="ssh-agent cannot sign"):
            made.sign(b"message")


def test_keys_of_other_kinds_are_passed_over(tmp_path: Path) -> None:
    """An agent may have RSA keys and broken ones beside."""
    other = _string(_string(b"ssh-rsa") + _string(b"n")) + _string(b"")
    weak = _string(_string(b"ssh-ed25519") + _string(bytes(32))) + _string(b"")
    answer = _string(b"\x0c\x00\x00\x00\x02" + other + weak)
    with false_agent(tmp_path, answer) as address, pytest.raises(LedgerError, match="no such"):
        AgentSigner(name=ORIGIN, address=address)
