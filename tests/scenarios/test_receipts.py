"""Receipts that elsewhere proved nothing: each is a public issue of another project, and must not happen here."""

from __future__ import annotations

import json
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from memoryos_uow import Ledger, VerificationLevel, _ed25519, _merkle, _notes, _proofs
from memoryos_uow.stores import BlobStore, DocumentStore
from tests import schema_files
from tests.cli.tools import invoke
from tests.scenarios.kit import SPACE, forget, found_in, memory_stores, open_memory, remember, unit
from tests.signers import ORIGIN, key_file, put, signer
from tests.units import rows

# AS-13 and AS-15: proofs of deletion


def test_as15_cognee_3526_memoria_10_absence_is_proved_store_by_store(tmp_path: Path) -> None:
    """AS-15, topoteretes/cognee#3526, matrixorigin/memoria#10: `verify --gone` asks every store, also by receipt."""
    place = tmp_path / "memory"
    place.mkdir()
    with open_memory(place) as ledger:
        with unit(ledger) as uow:
            remember(uow, "kept", "memory that is kept")
            remember(uow, "gone", "memory to forget")
        with unit(ledger) as deleting:
            forget(deleting, "gone")
        assert set(found_in(ledger, "gone").values()) == {None}
        report = ledger.verify(gone=[deleting.uow_id])
        assert report.ok, report.problems
        asked = {one.store for one in report.stores or () if one.skipped is None}
        assert asked >= {"facts", "vectors", "nodes", "edges", "attachments", "archive", "wiki"}
        kept = rows(ledger.path, "SELECT * FROM uow_documents WHERE key = 'kept'")[0]
        row = [None, *("gone" if value == "kept" else value for value in kept[1:])]
        with closing(sqlite3.connect(ledger.path)) as connection, connection:
            connection.execute(f"INSERT INTO uow_documents VALUES ({', '.join('?' * len(row))})", row)
        back = ledger.verify(gone=[deleting.uow_id])
        assert {(one.store, one.record) for one in back.problems} >= {("facts", "gone")}


def test_as13_mem0_3245_a_receipt_lists_every_store_it_was_deleted_from(tmp_path: Path) -> None:
    """AS-13, mem0ai/mem0#3245, #3040: each store's delete is provable from the one receipt, without the ledger."""
    place = tmp_path / "memory"
    place.mkdir()
    with open_memory(place) as ledger:
        with unit(ledger) as uow:
            remember(uow, "gone", "memory to forget")
        with unit(ledger) as deleting:
            forget(deleting, "gone")
        writes = ledger.get(deleting.uow_id).writes
        path = ledger.path
    proved = set()
    for number in range(len(writes)):
        files: list[str | Path] = ["-o", tmp_path / "n.tlog-proof", "--entry", tmp_path / "n.json"]
        made = invoke("prove", path, deleting.uow_id, "--write", str(number), *files)
        assert made.exit_code == 0, made.output
        receipt, write = ((tmp_path / name).read_bytes() for name in ("n.json", f"n.write-{number}.json"))
        proof = _proofs.parse_proof((tmp_path / f"n.write-{number}.tlog-proof").read_text(encoding="utf-8"))
        _proofs.check_write_proof(proof, write, _proofs.parse_receipt(receipt))
        entry = json.loads(write)
        assert (entry["operation_type"], entry["seq"]) == ("delete", number)
        proved.add(entry["store_name"])
    assert proved == {store.name for store in memory_stores()}


# AS-23


def test_as23_decision_hub_338_verify_names_each_gap(tmp_path: Path) -> None:
    """AS-23, pymc-labs/decision-hub#338: of 400 objects 19 are gone, and `verify` names exactly these."""
    with Ledger.open(
        tmp_path / "memory.db", stores=[BlobStore("objects", "objects", inline_below=0)], durability="normal"
    ) as ledger:
        with ledger.unit(space_id=SPACE, band="GREEN") as uow:
            for number in range(400):
                uow["objects"].create(f"v{number:04d}", b"%d" % number)
        gone = [f"v{number:04d}" for number in range(7, 400, 21)]
        for key in gone:
            (digest,) = rows(ledger.path, "SELECT digest FROM uow_blobs WHERE key = ?", key)[0]
            (file,) = (tmp_path / "objects").rglob(digest if isinstance(digest, str) else digest.hex())
            file.unlink()
        report = ledger.verify(stores=["objects"])
    assert len(gone) == 19
    assert sorted(str(one.record) for one in report.problems) == gone
    assert {one.store for one in report.problems} == {"objects"}


# AS-36


def test_as36_librefang_2415_a_history_made_anew_from_the_beginning(tmp_path: Path) -> None:
    """AS-36, librefang/librefang PR#2415: whoever can write the whole file but has no key is found by a kept head."""
    path, kept = tmp_path / "memory.db", tmp_path / "kept"
    with Ledger.open(path, origin=ORIGIN, signer=key_file(tmp_path)) as ledger:
        for number in range(3):
            put(ledger, f"real {number}")
        kept.write_text(ledger.checkpoint(), encoding="utf-8")
    key = signer(tmp_path).vkey
    assert invoke("verify", path, "--checkpoint", kept, "--vkey", key).exit_code == 0
    forged = tmp_path / "forged"
    forged.mkdir()
    with Ledger.open(forged / "memory.db", origin=ORIGIN) as ledger:
        for number in range(4):
            put(ledger, f"invented {number}")
        assert ledger.verify().level is VerificationLevel.HASHED  # in itself it is sound
    path.with_name("memory.db-head").unlink()
    shutil.copy(forged / "memory.db", path)
    for options in (["--checkpoint", kept], ["--vkey", key], ["--checkpoint", kept, "--vkey", key]):
        found = invoke("verify", path, *options)
        assert found.exit_code == 1, found.output


def test_as36_librefang_2415_a_removed_end(tmp_path: Path) -> None:
    """AS-36, librefang/librefang PR#2415: so is one who only takes the last units away, with all that tells of them."""
    path = tmp_path / "memory.db"
    with Ledger.open(path, origin=ORIGIN, signer=key_file(tmp_path)) as ledger:
        put(ledger, "first")
    old = path.read_bytes()
    with Ledger.open(path, signer=key_file(tmp_path)) as ledger:
        put(ledger, "last")
        head = ledger.checkpoint()
    path.write_bytes(old)
    path.with_name("memory.db-head").unlink()
    with Ledger.open(path, signer=key_file(tmp_path)) as ledger:
        assert ledger.verify(vkey=signer(tmp_path).vkey).level is VerificationLevel.SIGNED
        assert "checkpoint" in ledger.verify(checkpoint=head).rules


# AS-37


def test_as37_immudb_py_33_receipts_of_the_first_canon_verify() -> None:
    """AS-37, codenotary/immudb-py#33: receipts kept from the first canon hold under the newest code, byte for byte."""
    kept = json.loads((Path(__file__).parents[1] / "vectors/receipts/log.json").read_text(encoding="utf-8"))
    entries = [entry.encode() for entry in kept["entries"]]
    assert {_proofs.parse_receipt(entry)["type"] for entry in entries} == {"memoryos-uow/receipt/1"}
    head = _notes.parse_head(_notes.parse(kept["checkpoint"]).text)
    assert _merkle.tree_root([_merkle.leaf_hash(entry) for entry in entries[: head.size]]) == head.root
    proof, key = _proofs.parse_proof(kept["proof"]), _notes.parse_vkey(kept["vkey"])
    assert _proofs.check_log_proof(proof, entries[proof.index], [key], _ed25519.verify).keys == (key,)


@pytest.mark.parametrize("soft", [False, True])
def test_as37_immudb_py_33_a_ledger_of_1_0_0_and_back_again(tmp_path: Path, soft: bool) -> None:
    """AS-37, codenotary/immudb-py#33: seeded by 1.0.0, brought up, down and up again, a handed-out receipt holds."""
    path = tmp_path / "memory.db"
    schema_files.make_1_0_0(path, 20)
    with Ledger.open(path, stores=[DocumentStore("notes")], origin=ORIGIN, signer=key_file(tmp_path)) as ledger:
        receipt = put(ledger, "a")
        entry, proof = receipt.canonical(), receipt.proof()
        assert ledger.verify().ok
    down = invoke("migrate", path, "--to", "1.0.0", *(["--soft"] if soft else []))
    assert down.exit_code == 0, down.output
    with Ledger.open(path, stores=[DocumentStore("notes")], signer=None, accept_rollback=True) as ledger:
        assert ledger["notes"].get("a", space_id="s") == {"text": "a"}
    key = _notes.parse_vkey(signer(tmp_path).vkey)
    proved = _proofs.check_log_proof(_proofs.parse_proof(proof), entry, [key], _ed25519.verify)
    assert proved.keys == (key,)
