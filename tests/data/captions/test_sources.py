"""Captions are read from every form of file, line by line, and every line is accounted for."""

from __future__ import annotations

import gzip
import tracemalloc
from collections import Counter
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from m2m.data.captions.sources import LONGEST_LINE, RawCaption, read_captions, source_identity
from m2m.types import UserError

CC12M_FORM = Path(__file__).parent / "cc12m_form.tsv"


def written(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path


def read(path: Path) -> list[str]:
    """What comes out: a caption as it is, anything else as its reason in angle brackets."""
    return [f"<{caption.reason}>" if caption.reason else caption.text for caption in read_captions(path)]


def refused(path: Path | str) -> str:
    with pytest.raises(UserError) as caught:
        list(read_captions(path))
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_the_file_in_cc12m_form_is_reckoned_up() -> None:
    """A line lost without a word, or a broken one that passes for a caption."""
    found = Counter(caption.reason for caption in read_captions(CC12M_FORM))
    assert found == {None: 740, "empty": 3, "not_utf8": 3, "nul": 1, "no_tab": 1}
    assert found.total() == CC12M_FORM.read_bytes().count(b"\n")


def test_tsv_takes_all_after_the_first_tab(tmp_path: Path) -> None:
    """Windows line ends, a tab in a caption, no last line feed, a byte order mark: none may reach the caption."""
    path = written(tmp_path / "a.tsv", b"\xef\xbb\xbfu1\ta cat\r\nu2\t two\tdogs \n\r\nu3\nu4\t\nu5\tlast")
    assert read(path) == ["a cat", "two\tdogs", "<empty>", "<no_tab>", "<empty>", "last"]


@pytest.mark.parametrize(
    ("header", "row"),
    [("url\tcaption", "u\ta cat"), ("Caption\tURL", "a cat\tu"), ("id\ttext\twidth", "7\ta cat\t64")],
)
def test_a_header_names_the_caption(tmp_path: Path, header: str, row: str) -> None:
    """Its words would become a caption, and of a file with other columns every url would."""
    assert read(written(tmp_path / "a.tsv", f"{header}\n{row}\n".encode())) == ["<header>", "a cat"]


def test_the_first_row_shows_which_side_the_url_is_on(tmp_path: Path) -> None:
    """Conceptual Captions 3M has the caption first; read like 12M, it would give three million urls."""
    path = written(tmp_path / "a.tsv", b"a cat\thttp://a.b/c.jpg\nowl\thttps://a.b/d.jpg\n")
    assert read(path) == ["a cat", "owl"]
    path = written(tmp_path / "b.tsv", b"http://a.b/caption.jpg\ttext\nhttp://a.b/d.jpg\thttp://e.f\n")
    assert read(path) == ["text", "http://e.f"]


def test_text_files_are_one_caption_a_line(tmp_path: Path) -> None:
    """Only a line feed ends a line: Python's own splitlines would cut at eight other characters."""
    text = "a cat\r\n\n a\x0bb\x1cc\u2028d \nthe\ttab\n"
    assert read(written(tmp_path / "a.txt", text.encode())) == ["a cat", "<empty>", "a\x0bb\x1cc\u2028d", "the\ttab"]


def test_packed_files_read_like_plain_ones(tmp_path: Path) -> None:
    """Also where the name does not say that it is packed, as after a download, and of several packed pieces."""
    content = CC12M_FORM.read_bytes()
    pieces = gzip.compress(content[:5000]) + gzip.compress(content[5000:])
    for name in ("a.tsv.gz", "a.tsv", "A.TSV.GZ"):
        assert read(written(tmp_path / name, pieces)) == read(CC12M_FORM)


@pytest.mark.parametrize("damage", ["cut", "flipped", "not packed", "garbage after"])
def test_a_damaged_packed_file_is_named(tmp_path: Path, damage: str) -> None:
    """A download that stopped would be taken for a smaller data set."""
    whole = gzip.compress(CC12M_FORM.read_bytes())
    flipped = whole[:9000] + bytes([whole[9000] ^ 255]) + whole[9001:]
    content = {"cut": whole[:-9000], "flipped": flipped, "not packed": b"u\tcat\n", "garbage after": whole + b"xyz"}
    path = written(tmp_path / "cc12m.tsv.gz", content[damage])
    assert f"'{path}' is broken or cut off" in refused(path)


def test_a_line_without_end_is_not_held(tmp_path: Path) -> None:
    """A file that is no text may be one line of gigabytes."""
    path = written(
        tmp_path / "a.txt", b"a cat\n" + b"x" * (20 * LONGEST_LINE) + b"\nan owl\n" + b"y" * 2 * LONGEST_LINE
    )
    tracemalloc.start()
    assert read(path) == ["a cat", "<too_long>", "an owl", "<too_long>"]
    assert tracemalloc.get_traced_memory()[1] < 6 * LONGEST_LINE
    tracemalloc.stop()


@pytest.mark.parametrize("kind", [pa.string(), pa.large_string(), pa.dictionary(pa.int32(), pa.string())])
def test_parquet_columns_of_text(tmp_path: Path, kind: pa.DataType) -> None:
    """Writers differ in how they type a column of text."""
    texts = pa.array([" a cat ", None, "", "über"], pa.string()).cast(kind)
    pq.write_table(pa.table({"url": ["u"] * 4, "Caption": texts}), tmp_path / "a.parquet")
    assert read(tmp_path / "a.parquet") == ["a cat", "<empty>", "<empty>", "über"]


def test_parquet_rows_that_are_not_utf8(tmp_path: Path) -> None:
    """One broken text must not take the rows around it along."""
    broken = pa.array([b"a cat", b"caf\xe9", b"an owl", b"nul\0"], pa.binary())
    pq.write_table(pa.table({"text": broken.view(pa.string())}), tmp_path / "a.parquet")
    assert read(tmp_path / "a.parquet") == ["a cat", "<not_utf8>", "an owl", "<nul>"]


def test_parquet_files_that_cannot_be_read(tmp_path: Path) -> None:
    """Each is told apart, because each is mended differently."""
    pq.write_table(pa.table({"url": ["u"], "title": ["a cat"]}), tmp_path / "names.parquet")
    assert "it has url, title" in refused(tmp_path / "names.parquet")
    pq.write_table(pa.table({"caption": [1, 2]}), tmp_path / "numbers.parquet")
    assert "column 'caption' holds int64" in refused(tmp_path / "numbers.parquet")
    whole = (tmp_path / "names.parquet").read_bytes()
    assert "cannot be read as parquet" in refused(written(tmp_path / "cut.parquet", whole[:-20]))


def test_sources_that_are_none(tmp_path: Path) -> None:
    """The reason, and the file's name, on one line."""
    assert "does not exist" in refused(tmp_path / "nowhere.tsv")
    assert "is a folder" in refused(tmp_path)
    for name in ("a.csv", "a", "a.parquet.gz", "a.zip"):
        assert "must end in .tsv, .txt (both also .gz) or .parquet" in refused(written(tmp_path / name, b"u\ta cat\n"))


def test_the_tiny_world_is_a_source() -> None:
    """The same words must give the same captions, and another seed others."""
    first = list(read_captions("world:mini:train:20"))
    assert first == list(read_captions("world:mini:train:20:0")) != list(read_captions("world:mini:train:20:1"))
    assert len(first) == 20 and all(isinstance(caption, RawCaption) and caption.text for caption in first)
    for wrong in ("world:mini:train", "world:mini:train:many", "world:mini:train:3:4:5", "world:mini:train:-1"):
        assert "world:NAME:SPLIT:COUNT" in refused(wrong)
    assert "no tiny world" in refused("world:maxi:train:3")
    assert "no split" in refused("world:mini:training:3")


def test_progress_ends_near_one(tmp_path: Path) -> None:
    """Of a packed file the place in the file counts, not the place in the text: the bar would stop at a third."""
    path = written(tmp_path / "a.txt.gz", gzip.compress(b"".join(b"caption number %d\n" % i for i in range(60_000))))
    seen: list[float] = []
    assert len(list(read_captions(path, seen.append))) == 60_000
    assert seen == sorted(seen) and 0.8 < seen[-1] <= 1


def test_an_identity_follows_the_content(tmp_path: Path) -> None:
    """A file that was moved is the same one; the same bytes read in another form are not."""
    (tmp_path / "b").mkdir()
    one, same = written(tmp_path / "a.tsv", b"u\tcat\n"), written(tmp_path / "b" / "c.tsv", b"u\tcat\n")
    assert source_identity(one) == source_identity(same)
    assert source_identity(one) != source_identity(written(tmp_path / "a.txt", b"u\tcat\n"))
    assert source_identity("world:mini:train:5") == source_identity("world:mini:train:5:0")
