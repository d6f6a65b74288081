"""VectorStore: what is stored is float32, what is found is exact, with numpy and without."""

from __future__ import annotations

import hashlib
import itertools
import math
import random
import struct
import subprocess
import sys
from array import array
from decimal import Decimal
from fractions import Fraction
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from memoryos_uow._limits import Limits
from memoryos_uow._names import Operation
from memoryos_uow._records import Content, Hit
from memoryos_uow.abc import MISSING, Capability, Store
from memoryos_uow.errors import RecordExists, RecordMissing, StoreError, UsageError
from memoryos_uow.stores import VectorStore, _nearest
from tests.both import both

if TYPE_CHECKING:
    from tests.stores.driver import Driver, On

FLOATS = st.floats(width=32, allow_nan=False, allow_infinity=False)
# Few different numbers, far apart in size: ties, cancellation and opposite directions are likely.
COARSE = st.sampled_from([-1.0, 0.0, 1.0, 2.0, -2.0, 0.1, 1e-30, 3e38, -3e38, 1e-45])


pytestmark = both


@pytest.fixture
def vectors(driver: Driver) -> On:
    """A store of plane vectors by direction."""
    return driver.attached(VectorStore("vectors", dimensions=2))


@pytest.fixture
def places(driver: Driver) -> On:
    """A store of plane vectors by distance."""
    return driver.attached(VectorStore("places", dimensions=2, metric="l2"))


@pytest.fixture(params=["numpy", "pure Python"])
def either(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Run the test with numpy and with numpy hidden."""
    if request.param != "numpy":
        monkeypatch.setitem(sys.modules, "numpy", None)
    return str(request.param)


def encoded(value: object, *, dimensions: int = 2, metric: Any = "cosine") -> bytes:
    """What a store keeps of `value`."""
    payload, _ = VectorStore("v", dimensions=dimensions, metric=metric).encode(Operation.CREATE, "k", value, Limits())
    assert isinstance(payload, bytes)
    return payload


# Values


def test_it_is_a_store() -> None:
    """The class keeps the whole contract of a store and says what it is."""
    store: Store = VectorStore("vectors", dimensions=3)
    assert isinstance(store, Store)
    assert (store.name, store.kind, store.capability) == ("vectors", "vectors", Capability.SAME_TRANSACTION)
    assert repr(store) == "VectorStore('vectors', dimensions=3, metric='cosine')"


@pytest.mark.parametrize(
    "value",
    [
        [1, 2.5],
        (1, 2.5),
        array("d", [1, 2.5]),
        array("f", [1, 2.5]),
        np.array([1, 2.5]),
        np.array([1, 2.5], dtype=np.float32),
        np.array([1, 2.5], dtype=np.float16),
        np.array([1, 2.5], dtype=np.longdouble),
        np.array([0, 1, 0, 2.5, 0])[1::2],
        np.array([1, 2.5], dtype=">f8"),
        [np.float32(1), np.float64(2.5)],
        [np.int8(1), Fraction(5, 2)],
    ],
    ids=lambda value: f"{type(value).__name__}",
)
def test_sequences_of_real_numbers_are_taken(value: object) -> None:
    """Lists, tuples, arrays and numpy arrays of integers or floats are stored as little-endian float32."""
    assert encoded(value) == struct.pack("<2f", 1, 2.5)


def test_integers_are_taken() -> None:
    """Integer sequences of every sort are vectors too."""
    expected = struct.pack("<2f", 1, 2)
    for value in ([1, 2], range(1, 3), array("b", [1, 2]), np.array([1, 2]), np.array([1, 2], dtype=np.uint8)):
        assert encoded(value) == expected


@given(value=st.lists(FLOATS, min_size=3, max_size=3))
@settings(deadline=None)
def test_float32_survives(value: list[float]) -> None:
    """A vector of float32 numbers comes back to the bit."""
    store = VectorStore("v", dimensions=3, metric="l2")
    payload, content = store.encode(Operation.CREATE, "k", value, Limits())
    assert content == Content(12, hashlib.sha256(payload).hexdigest())
    assert list(map(repr, store._overlay(payload))) == list(map(repr, value))


def test_reading_gives_a_list_of_floats(vectors: On) -> None:
    """`get` returns a list of floats, rounded to float32 once."""
    write = vectors.create("k", (0.1, 2))
    value = vectors.get("k")
    assert value == [struct.unpack("<f", struct.pack("<f", 0.1))[0], 2.0]
    assert type(value) is list
    assert {type(number) for number in value} == {float}
    stored = struct.pack("<2f", 0.1, 2)
    assert vectors.driver.rows("SELECT value FROM uow_vectors") == [(stored,)]
    assert write.content == Content(8, hashlib.sha256(stored).hexdigest())


@pytest.mark.parametrize(
    "value",
    [
        [1.0],
        [1.0, 2.0, 3.0],
        [],
        np.array([[1.0, 2.0]]),
        np.array(5.0),
        np.array([1j, 2]),
        np.array([True, False]),
        np.array(["1", "2"]),
        np.array([1, "2"], dtype=object),
        [math.nan, 1.0],
        [math.inf, 1.0],
        [1.0, -math.inf],
        np.array([np.nan, 1]),
        [1e39, 1.0],
        [10**400, 1],
        [-(10**400), 1],
        [1.0, 3.4028235677973366e38],
        [Fraction(10**400), 1],
        np.array([1e300, 1]),
        [0.0, 0.0],
        [-0.0, 0],
        [1e-60, 0],
        "ab",
        b"ab",
        bytearray(b"ab"),
        memoryview(b"ab"),
        array("u", "ab") if sys.version_info < (3, 13) else "ab",
        [True, False],
        [1.0, "2"],
        [1.0, None],
        [1.0, 1j],
        [1.0, Decimal(1)],
        [1.0, [2.0]],
        {1.0, 2.0},
        {1.0: 1, 2.0: 2},
        5,
        None,
        iter([1.0, 2.0]),
    ],
    ids=lambda value: f"{type(value).__name__}",
)
def test_what_is_no_vector_is_refused(value: object) -> None:
    """Wrong lengths and types, NaN, infinities, overflow and zero are refused, for a value and for a query alike."""
    with pytest.raises(UsageError) as caught:
        encoded(value)
    assert "Nothing was written" in str(caught.value)
    assert caught.value.store == "v"
    assert caught.value.__cause__ is None
    query = value if not hasattr(value, "__next__") else iter([1.0, 2.0])
    with pytest.raises(UsageError, match="query"):
        VectorStore("v", dimensions=2).search(None, "s", query, 1, {})  # type: ignore[arg-type]


def test_zero_is_a_place_but_no_direction(places: On) -> None:
    """Only the cosine needs a length; by distance the zero vector is as good as any."""
    places.create("zero", [0, 0])
    assert places.hits([0, 0]) == ["zero"]


def test_dimensions_have_a_limit() -> None:
    """A store of longer vectors than the ledger's limits allow takes none."""
    store = VectorStore("v", dimensions=3)
    store.encode(Operation.CREATE, "k", [1, 2, 3], Limits(vector_dimensions=3))
    with pytest.raises(UsageError, match="limit of 2"):
        store.encode(Operation.CREATE, "k", [1, 2, 3], Limits(vector_dimensions=2))


def test_overlay_gives_what_the_write_leaves(vectors: On) -> None:
    """Before the commit a write answers with its value as it will be read; a delete with MISSING."""
    value = [1.0, 2.0]
    write = vectors.write("create", "k", value)
    value[0] = 5.0
    assert vectors.store.overlay(write) == [1.0, 2.0]
    assert vectors.store.overlay(vectors.write("delete", "k")) is MISSING


def test_the_verbs(vectors: On) -> None:
    """Create, update, upsert and delete do what their names say."""
    vectors.create("a", [1, 0])
    vectors.update("a", [2, 0])
    vectors.upsert("b", [0, 1])
    assert (vectors.get("a"), vectors.version("a"), vectors.keys()) == ([2.0, 0.0], 2, ["a", "b"])
    with pytest.raises(RecordExists):
        vectors.create("a", [1, 0])
    vectors.delete("a")
    with pytest.raises(RecordMissing):
        vectors.update("a", [1, 0])
    with pytest.raises(RecordMissing):
        vectors.delete("a")
    assert vectors.hits([1, 0]) == ["b"]


# Searching


def test_cosine(vectors: On, either: str) -> None:
    """The nearest direction comes first; scores are the cosine, from 1 for the same to -1 for the opposite."""
    for key, value in {"east": [2, 0], "north": [0, 3], "west": [-1e-3, 0], "north-east": [5, 5]}.items():
        vectors.create(key, value)
    hits = vectors.search([10, 0])
    assert hits == [Hit("east", 1.0), Hit("north-east", 1 / math.sqrt(2)), Hit("north", 0.0), Hit("west", -1.0)]
    assert vectors.search([10, 0], k=2) == hits[:2]


def test_l2(places: On, either: str) -> None:
    """The nearest place comes first; scores are minus the distance."""
    for key, value in {"a": [0, 0], "b": [3, 4], "c": [0, 1]}.items():
        places.create(key, value)
    assert places.search([0, 0]) == [Hit("a", 0.0), Hit("c", -1.0), Hit("b", -5.0)]


def test_ties_come_by_key(vectors: On, either: str) -> None:
    """Equal vectors have equal scores to the last bit, whatever stands between them, and come in the order of keys."""
    for number in range(300):
        vectors.upsert(f"other{number}", [number - 150.5, 1])
    for key in ("c", "a", "b", "B"):
        vectors.create(key, [0.1, 0.3])
    hits = vectors.search([0.3, 0.9000001], k=4)
    assert [hit.key for hit in hits] == ["B", "a", "b", "c"]
    assert len({hit.score for hit in hits}) == 1


def test_spaces_and_stores_are_apart(vectors: On, either: str) -> None:
    """A search sees the vectors of its own space and store only."""
    vectors.create("mine", [1, 0])
    vectors.within("other").create("theirs", [1, 0])
    vectors.driver.attached(VectorStore("more", dimensions=2)).create("more", [1, 0])
    assert vectors.hits([1, 0]) == ["mine"]


def test_an_empty_space_has_no_hits(vectors: On, either: str) -> None:
    """Where nothing is, nothing is found; k may be greater than what there is."""
    assert vectors.search([1, 0]) == []
    vectors.create("a", [1, 0])
    assert vectors.hits([1, 0], k=10**30) == ["a"]


def best_by_definition(metric: str, query: list[float], rows: dict[str, bytes], k: int) -> list[Hit]:
    """Return the answer in exact rational arithmetic, rounded at the end."""
    hits = []
    for key, stored in rows.items():
        vector = [Fraction(number) for number in struct.unpack(f"<{len(query)}f", stored)]
        wanted = [Fraction(number) for number in query]
        if metric == "l2":
            score = -math.sqrt(sum((a - b) ** 2 for a, b in zip(wanted, vector, strict=True)))
        else:
            dot = sum(a * b for a, b in zip(wanted, vector, strict=True))
            score = float(dot) / math.sqrt(float(sum(a * a for a in wanted)) * float(sum(b * b for b in vector)))
        hits.append(Hit(key, score))
    return sorted(hits, key=lambda hit: (-hit.score, hit.key))[:k]


@given(data=st.data(), metric=st.sampled_from(["cosine", "l2"]), numbers=st.sampled_from([FLOATS, COARSE]))
@settings(deadline=None, max_examples=200)
def test_numpy_and_pure_python_agree(data: st.DataObject, metric: str, numbers: st.SearchStrategy[float]) -> None:
    """With numpy and without, the same hits in the same order with the same scores, and these are the true ones."""
    dimensions = data.draw(st.integers(1, 5))
    vector = st.lists(numbers, min_size=dimensions, max_size=dimensions)
    if metric == "cosine":
        vector = vector.filter(any)
    query = list(data.draw(vector))
    packed = [struct.pack(f"<{dimensions}f", *one) for one in data.draw(st.lists(vector, max_size=40))]
    query = list(struct.unpack(f"<{dimensions}f", struct.pack(f"<{dimensions}f", *query)))
    rows = [(f"k{number * 7 % 40:02}", stored) for number, stored in enumerate(packed)]
    k = data.draw(st.integers(1, 45))
    chunk_numbers = data.draw(st.sampled_from([dimensions, 3 * dimensions, 1 << 18]))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_nearest, "_CHUNK_NUMBERS", chunk_numbers)
        with_numpy = _nearest.nearest(metric, tuple(query), rows, k)
        patch.setitem(sys.modules, "numpy", None)
        without = _nearest.nearest(metric, tuple(query), rows, k)
    assert with_numpy == without
    truth = best_by_definition(metric, query, dict(rows), k)
    assert [hit.score for hit in without] == pytest.approx([hit.score for hit in truth], rel=1e-12, abs=1e-12)


@pytest.mark.parametrize("metric", ["cosine", "l2"])
def test_rounding_never_loses_a_hit(metric: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Hundreds of vectors whose scores differ by less than a matrix product's rounding are ranked as without numpy."""
    generator = random.Random(7)
    query = [generator.gauss(0, 1) for _ in range(200)]
    rows = []
    for number in range(400):
        scale = generator.uniform(0.5, 2) if metric == "cosine" else -1.0
        shuffled = generator.sample(query, 200) if metric == "l2" else [scale * one for one in query]
        rows.append((f"k{number:03}", struct.pack("<200f", *shuffled)))
    wanted = struct.unpack("<200f", struct.pack("<200f", *query)) if metric == "cosine" else (0.0,) * 200
    with_numpy = _nearest.nearest(metric, wanted, rows, 20)
    monkeypatch.setitem(sys.modules, "numpy", None)
    assert with_numpy == _nearest.nearest(metric, wanted, rows, 20)
    if metric == "l2":  # permutations of one vector are equally far from zero
        assert [hit.key for hit in with_numpy] == [f"k{number:03}" for number in range(20)]


@given(order=st.permutations(range(12)), metric=st.sampled_from(["cosine", "l2"]))
@settings(deadline=None)
def test_scores_do_not_depend_on_the_order_of_dimensions(order: list[int], metric: str) -> None:
    """Sums are rounded once, at the end, so no order of adding gives another score."""
    query = [math.sin(number) for number in range(12)]
    vector = [math.cos(number * number) * 10 ** (number % 5) for number in range(12)]

    def score(places: list[int]) -> float:
        wanted = struct.unpack("<12f", struct.pack("<12f", *(query[place] for place in places)))
        stored = struct.pack("<12f", *(vector[place] for place in places))
        return _nearest.nearest(metric, wanted, [("k", stored)], 1)[0].score

    assert score(order) == score(list(range(12)))


@pytest.mark.parametrize("keys", list(itertools.permutations("abc")))
def test_ties_are_decided_by_key_whatever_the_order_of_rows(either: str, keys: tuple[str, ...]) -> None:
    """The rows may come in any order."""
    rows = [(key, struct.pack("<2f", 0.1, 0.2)) for key in keys]
    assert [hit.key for hit in _nearest.nearest("cosine", (1.0, 2.0), rows, 2)] == ["a", "b"]


def test_large_spaces_are_searched_in_chunks(vectors: On, either: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The best hits are found wherever they lie, and only one chunk is in memory at a time."""
    monkeypatch.setattr(_nearest, "_CHUNK_NUMBERS", 64)
    lengths: list[int] = []
    chunks = _nearest._chunks

    def watched(rows: Any, length: int) -> Any:
        for chunk in chunks(rows, length):
            lengths.append(len(chunk))
            yield chunk

    monkeypatch.setattr(_nearest, "_chunks", watched)
    vectors.commit(*(vectors.write("create", f"k{n:04}", [math.cos(n / 500), math.sin(n / 500)]) for n in range(1000)))
    assert vectors.hits([1, 0], k=3) == ["k0000", "k0001", "k0002"]
    assert vectors.hits([math.cos(1.5), math.sin(1.5)], k=1) == ["k0750"]
    assert max(lengths) == 32


def test_numpy_is_not_needed() -> None:
    """Where numpy cannot be imported, storing and searching work, and importing the stores never imports it."""
    script = """
import sys
import memoryos_uow.stores
assert "numpy" not in sys.modules
sys.modules["numpy"] = None
from memoryos_uow._limits import Limits
from memoryos_uow._names import Operation
from memoryos_uow.stores._nearest import nearest
store = memoryos_uow.stores.VectorStore("v", dimensions=2)
rows = [(key, store.encode(Operation.CREATE, key, value, Limits())[0]) for key, value in
        {"a": [1, 0], "b": [0.6, 0.8]}.items()]
print(nearest("cosine", (0.6, 0.8), rows, 1)[0].key)
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "b"


@pytest.mark.parametrize("metric", ["cosine", "l2"])
@pytest.mark.parametrize(
    "stored",
    [
        "x'00'",
        "x'0000803f0000803f0000803f'",
        "x'0000c07f00000000'",
        "x'0000807f00000000'",
        "x'0000807f000080ff'",
        "'12345678'",
    ],
    ids=["short", "long", "nan", "inf", "both inf", "text"],
)
def test_tampered_vectors_are_typed_errors(driver: Driver, either: str, metric: Any, stored: str) -> None:
    """A stored vector of another length, or with NaN or an infinity, never takes part in a search."""
    on = driver.attached(VectorStore("v", dimensions=2, metric=metric))
    on.create("k", [1, 0])
    driver.spoil("uow_vectors", stored)
    with pytest.raises(StoreError, match="not as this library wrote it"):
        on.search([1, 0])


def test_a_tampered_zero_has_no_direction(vectors: On, either: str) -> None:
    """A zero vector planted where directions are compared is a typed error."""
    vectors.create("k", [1, 0])
    vectors.driver.spoil("uow_vectors", "x'0000000000000000'")
    with pytest.raises(StoreError):
        vectors.search([1, 0])
    vectors.driver.spoil("uow_vectors", "x'000000'")
    with pytest.raises(StoreError):
        vectors.get("k")


@pytest.mark.parametrize(("k", "options"), [(0, {}), (-1, {}), (1.0, {}), (True, {}), ("3", {}), (1, {"match": "any"})])
def test_bad_calls_are_refused(vectors: On, k: Any, options: dict[str, Any]) -> None:
    """The number of hits is a whole number of at least one, and there are no options."""
    with pytest.raises(UsageError):
        vectors.search([1, 0], k, **options)


# Configuration


@pytest.mark.parametrize("dimensions", [0, -1, 2.0, True, "3", None, 10**12])
def test_bad_dimensions_are_refused(dimensions: Any) -> None:
    """The number of dimensions is a whole number of at least one."""
    with pytest.raises(UsageError):
        VectorStore("v", dimensions=dimensions)


@pytest.mark.parametrize("metric", ["dot", "", None, 5, ["l2"]])
def test_bad_metrics_are_refused(metric: Any) -> None:
    """There are two metrics."""
    with pytest.raises(UsageError):
        VectorStore("v", dimensions=2, metric=metric)


def test_dimensions_and_metric_stay(driver: Driver) -> None:
    """What is recorded is found again; anything else is refused, also if another process was faster."""
    assert driver.attach(VectorStore("v", dimensions=2))
    assert not driver.attach(VectorStore("v", dimensions=2))
    for other in (VectorStore("v", dimensions=3), VectorStore("v", dimensions=2, metric="l2")):
        with pytest.raises(UsageError, match="holds vectors of 2 dimensions"):
            driver.attach(other)
        with driver.transaction() as tx, pytest.raises(UsageError):
            other.setup(tx, {"dimensions": 2, "metric": "cosine"})
