"""What is shipped, what importing it costs, and that nothing of one machine is written into the tree."""

from __future__ import annotations

import configparser
import email.parser
import os
import re
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from email.message import Message

ROOT = Path(__file__).resolve().parents[1]
CORE = {"click", "opentelemetry-api", "sqlite-utils", "structlog"}
EXTRAS = {"otel", "postgres", "sign", "vector"}
HEAVY = {"click", "cryptography", "numpy", "opentelemetry", "sqlite_utils", "structlog"}
IMPORT_BUDGET_SECONDS = 0.060

# Put together from pieces, so that this file does not find itself.
MACHINE_PATH = re.compile(r"(?<![\w.~-])/" + r"(?:root|work|farm)/|/tmp/\w+" + r"_jobs|\.\./" + "shared")
REGISTRY_HOST = re.compile("py" + r"pi\.org|python" + r"hosted\.org|file:" + "//+/")


def child_environment() -> dict[str, str]:
    """The environment without what makes coverage or a debugger start in a child process."""
    dropped = ("COV_", "COVERAGE_", "PYTHON")
    return {key: value for key, value in os.environ.items() if not key.startswith(dropped)}


def run_python(*arguments: str, cwd: Path | None = None) -> str:
    """The standard output of this interpreter run with the arguments; a failure shows what it said."""
    done = subprocess.run(
        [sys.executable, *arguments],
        cwd=cwd,
        env=child_environment(),
        capture_output=True,
        encoding="utf-8",
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def build(target: str, folder: Path) -> Path:
    """The one file that hatchling builds for the target, without any network."""
    run_python("-m", "hatchling", "build", "-t", target, "-d", str(folder), cwd=ROOT)
    (built,) = folder.iterdir()
    return built


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> zipfile.ZipFile:
    """The wheel of this tree, opened."""
    return zipfile.ZipFile(build("wheel", tmp_path_factory.mktemp("wheel")))


def member(wheel: zipfile.ZipFile, name: str) -> str:
    """The text of one file in the wheel's .dist-info folder."""
    (path,) = (each for each in wheel.namelist() if each.endswith(f".dist-info/{name}"))
    return wheel.read(path).decode("utf-8")


@pytest.fixture(scope="module")
def metadata(wheel: zipfile.ZipFile) -> Message:
    """The wheel's core metadata."""
    return email.parser.HeaderParser().parsestr(member(wheel, "METADATA"))


def test_wheel_carries_every_schema_file_byte_for_byte(wheel: zipfile.ZipFile) -> None:
    """Each SQL and JSON file of schema/ lies in the wheel under memoryos_uow/schema/, unchanged."""
    sources = [path for path in (ROOT / "schema").rglob("*") if path.suffix in {".sql", ".json"}]
    assert {path.suffix for path in sources} == {".sql", ".json"}
    shipped = {name for name in wheel.namelist() if name.startswith("memoryos_uow/schema/")}
    assert shipped >= {f"memoryos_uow/{path.relative_to(ROOT).as_posix()}" for path in sources}
    for path in sources:
        name = path.relative_to(ROOT).as_posix()
        assert wheel.read(f"memoryos_uow/{name}") == path.read_bytes(), name


def test_wheel_carries_every_module_and_the_typing_marker(wheel: zipfile.ZipFile) -> None:
    """Each Python file and py.typed are in the wheel; outside the package lies only the pytest plugin."""
    modules = {path.relative_to(ROOT / "src").as_posix() for path in (ROOT / "src").rglob("*.py")}
    names = set(wheel.namelist())
    assert modules | {"memoryos_uow/py.typed"} <= names
    outer = {name.split("/")[0] for name in names if ".dist-info/" not in name}
    assert outer == {"memoryos_uow", "_memoryos_uow_pytest.py"}


def test_metadata_names_licence_python_and_version(metadata: Message) -> None:
    """Name, version, licence expression, licence file and the oldest Python are those the project states."""
    version_file = (ROOT / "src/memoryos_uow/_version.py").read_text(encoding="utf-8")
    assert metadata["Name"] == "memoryos-uow"
    assert f'__version__ = "{metadata["Version"]}"\n' in version_file
    assert metadata["License-Expression"] == "Apache-2.0"
    assert metadata.get_all("License-File") == ["LICENSE"]
    assert metadata["Requires-Python"] == ">=3.11"
    classifiers = metadata.get_all("Classifier") or []
    assert {f"Programming Language :: Python :: 3.{minor}" for minor in (11, 12, 13, 14)} <= set(classifiers)
    assert "Typing :: Typed" in classifiers


def test_metadata_asks_for_the_core_libraries_only(metadata: Message) -> None:
    """A plain install brings the four core libraries; everything else waits behind an extra."""
    wanted = metadata.get_all("Requires-Dist") or []
    plain = {re.split(r"[<>=!~;\[ ]", line)[0] for line in wanted if "extra ==" not in line}
    assert plain == CORE
    assert set(metadata.get_all("Provides-Extra") or []) == EXTRAS


def test_wheel_installs_the_command(wheel: zipfile.ZipFile) -> None:
    """The wheel's console script is memoryos-uow and leads to memoryos_uow.cli:main."""
    entry_points = configparser.ConfigParser()
    entry_points.read_string(member(wheel, "entry_points.txt"))
    assert dict(entry_points["console_scripts"]) == {"memoryos-uow": "memoryos_uow.cli:main"}


def test_sdist_can_build_the_same_wheel(wheel: zipfile.ZipFile, tmp_path: Path) -> None:
    """A wheel built from the unpacked sdist holds the same files as one built from the repository."""
    run_python("-m", "tarfile", "-e", str(build("sdist", tmp_path / "sdist")), str(tmp_path / "unpacked"))
    (unpacked,) = (tmp_path / "unpacked").iterdir()
    run_python("-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path / "again"), cwd=unpacked)
    (again,) = (tmp_path / "again").iterdir()
    assert sorted(zipfile.ZipFile(again).namelist()) == sorted(wheel.namelist())


def test_import_loads_no_heavy_library() -> None:
    """After `import memoryos_uow` none of the libraries that are slow to import is loaded."""
    code = "import sys, memoryos_uow; print(*sorted({name.partition('.')[0] for name in sys.modules}))"
    loaded = set(run_python("-c", code).split())
    assert "memoryos_uow" in loaded
    assert loaded & HEAVY == set()


def processor_seconds_for(code: str, bytecode: Path) -> float:
    """How much processor time this interpreter takes to start, run the code and end: waiting does not count.

    Bytecode is kept below `bytecode`, as an installed package has it.
    """
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    environment["PYTHONPYCACHEPREFIX"] = str(bytecode)
    child = subprocess.Popen([sys.executable, "-c", code], cwd=ROOT, env=environment)
    _, status, usage = os.wait4(child.pid, 0)
    child.returncode = os.waitstatus_to_exitcode(status)
    assert child.returncode == 0
    return usage.ru_utime + usage.ru_stime


@pytest.mark.skipif(not hasattr(os, "wait4"), reason="this system does not tell a child's processor time")
def test_import_costs_little(tmp_path: Path) -> None:
    """Importing takes at most 60 ms more than starting Python alone: the best of each, out of as many as it takes."""
    bare, importing = float("inf"), float("inf")
    for _ in range(60):
        bare = min(bare, processor_seconds_for("pass", tmp_path))
        importing = min(importing, processor_seconds_for("import memoryos_uow", tmp_path))
        if importing - bare <= IMPORT_BUDGET_SECONDS:
            return
    pytest.fail(f"the import costs {(importing - bare) * 1000:.0f} ms over bare Python")


def files_of_the_checkout() -> list[Path]:
    """Every file git tracks or would track; the test is skipped where there is no git checkout."""
    try:
        listed = subprocess.run(
            ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
            cwd=ROOT,
            capture_output=True,
            check=True,
        ).stdout
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("not a git checkout that this user may read")
    return [path for name in listed.decode("utf-8").split("\0") if name and (path := ROOT / name).is_file()]


def lines_that_match(pattern: re.Pattern[str], files: list[Path]) -> list[str]:
    """`file:line: text` for each line that holds the pattern; files that are not text are passed over."""
    found = []
    for path in files:
        text = path.read_bytes()
        if b"\0" in text:
            continue
        for number, line in enumerate(text.decode("utf-8", errors="replace").splitlines(), start=1):
            if pattern.search(line):
                found.append(f"{path.relative_to(ROOT)}:{number}: {line[:120]}")
    return found


@pytest.mark.parametrize("pattern", [MACHINE_PATH, REGISTRY_HOST], ids=["machine-path", "registry-host"])
def test_tree_names_no_machine_and_no_registry(pattern: re.Pattern[str]) -> None:
    """No file of the repository holds a path of one machine or the host of a package registry."""
    assert lines_that_match(pattern, files_of_the_checkout()) == []


def test_lock_pins_every_file_by_hash_and_names_no_source() -> None:
    """Each entry of the lock is one exact version with hashes, and no line says where to download from."""
    lock = (ROOT / "requirements/dev.lock").read_text(encoding="utf-8").replace("\\\n", " ")
    lines = [line.strip() for line in lock.splitlines()]
    entries = [line for line in lines if line and not line.startswith("#")]
    assert len(entries) >= len(CORE)
    for entry in entries:
        assert re.match(r"[a-z0-9][a-z0-9._-]*==[^ ]+ ", entry), entry
        assert "--hash=sha256:" in entry, entry
    names = {entry.partition("==")[0] for entry in entries}
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    wanted = project["project"]["dependencies"] + project["dependency-groups"]["dev"]
    assert {re.split(r"[<>=\[]", each)[0] for each in wanted} <= names
