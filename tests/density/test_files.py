"""Arrays from files: each kind is read, and each damage ends in one sentence that names the file."""

import numpy as np
import pytest

from density.files import read_array, read_tensors


@pytest.fixture
def folder(tmp_path, rng):
    x = rng.standard_normal(300)
    np.save(tmp_path / "x.npy", x)
    np.savez(tmp_path / "xy.npz", x=x, y=x[:9])
    np.savez_compressed(tmp_path / "one.npz", x=x)
    np.save(tmp_path / "objects.npy", np.array([1, None]), allow_pickle=True)
    whole = (tmp_path / "x.npy").read_bytes()
    for name, data in {
        "empty.npy": b"", "text.npy": b"hello", "cut.npy": whole[:-8], "header.npy": whole[:40],
        "keys.npy": whole[:12] + b"\xff" * 18 + whole[30:], "empty.npz": b"", "text.npz": b"hello",
        "cut.npz": (tmp_path / "one.npz").read_bytes()[:200],
    }.items():  # fmt: skip
        (tmp_path / name).write_bytes(data)
    flipped = bytearray((tmp_path / "one.npz").read_bytes())
    flipped[400] ^= 255
    (tmp_path / "flipped.npz").write_bytes(flipped)
    return tmp_path


def test_each_kind_is_read(folder):
    x = np.load(folder / "x.npy")
    for name, key in (("x.npy", None), ("one.npz", None), ("one.npz", "x"), ("xy.npz", "x")):
        np.testing.assert_array_equal(read_array(folder / name, key), x)
    (folder / "disguised.npz").write_bytes((folder / "x.npy").read_bytes())
    np.testing.assert_array_equal(read_array(folder / "disguised.npz"), x)
    (folder / "named.csv").write_text("a,b\n1,2\n\n3,4\n")
    assert read_array(folder / "named.csv").tolist() == [[1, 2], [3, 4]]
    assert read_array(folder / "named.csv", "1").tolist() == [2, 4]
    tensors = read_tensors(folder / "xy.npz")
    assert tensors is not None
    assert {name: len(t) for name, t in tensors.items()} == {"x": 300, "y": 9}
    assert read_tensors(folder / "one.npz") is read_tensors(folder / "x.npy") is None


@pytest.mark.parametrize(
    "name",
    ["empty.npy", "text.npy", "cut.npy", "header.npy", "keys.npy", "empty.npz", "text.npz", "cut.npz", "flipped.npz"],
)
def test_damage_is_called_damage(folder, name):
    with pytest.raises(ValueError, match=rf"{name} is damaged, or is no file of numpy.save or numpy.savez"):
        read_array(folder / name)


def test_what_cannot_be_read_says_what_to_do(folder):
    for name, key, message in (
        ("objects.npy", None, "holds Python objects; save an array of numbers"),
        ("x.npy", "x", "holds one array without a name; leave --key x out"),
        ("xy.npz", None, "holds 2 arrays; pass --key with one of"),
        ("xy.npz", "z", "has no array 'z'; pass --key with one of"),
        ("x.tden", None, "is none of .npy, .npz, .csv"),
    ):
        with pytest.raises(ValueError, match=message):
            read_array(folder / name, key)


@pytest.mark.parametrize(
    "text, message",
    [
        (b"hello\nworld\n", "line 2: 'world' is not numbers between commas"),
        (b"1,2\n,3\n", "line 2: ',3' is not 2 numbers between commas"),
        (b"a,b\n1,2\n\n3\n", "line 4: '3' is not 2 numbers between commas"),
        (b"\xff\xfe", "is no text in UTF-8"),
    ],
)
def test_the_line_of_a_table_that_is_no_numbers_is_named(folder, text, message):
    (folder / "t.csv").write_bytes(text)
    with pytest.raises(ValueError, match=message):
        read_array(folder / "t.csv")
    (folder / "good.csv").write_text("a,b\n1,2\n")
    for key in ("2", "-1", "a", "²"):
        with pytest.raises(ValueError, match=f"has columns 0 to 1; there is no column '{key}'"):
            read_array(folder / "good.csv", key)
