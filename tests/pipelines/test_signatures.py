"""Files are told by their beginning."""

import pytest

from pipelines.signatures import image_format, other_kind, says_it_is_longer
from tests.corpora.broken import whole


@pytest.mark.parametrize("name", whole())
def test_images_are_told_by_their_signature(name: str) -> None:
    kind = name.partition(" ")[0].upper()
    # two letters are too few
    assert image_format(whole()[name]) == (None if kind == "BMP" else kind)


@pytest.mark.parametrize(
    ("data", "kind"),
    [
        (b"\n <!DOCTYPE html>", "an HTML page"),
        (b"\xef\xbb\xbf<html>", "an HTML page"),
        (b"<?xml version='1.0'?>\n<svg/>", "SVG"),
        (b"<?xml version='1.0'?>\n<Error/>", "XML"),
        (b"<p>gone</p>", "markup"),
        (b"%PDF-1.7", "PDF"),
        (b'{"error": 404}', "JSON"),
        (b"PK\x03\x04", "a ZIP archive"),
        (b"404 not found", "text"),
        (b"\0\0\0\x18ftypheic", "HEIC"),
        (b"\0\0\0\x18ftypisom", "a video"),
        (bytes(100), "zeros"),
        (b" \n", "white space"),
        (b"\x80\x81", None),
    ],
)
def test_what_else_bytes_are(data: bytes, kind: str | None) -> None:
    assert image_format(data) is None
    assert other_kind(data) == kind


@pytest.mark.parametrize("name", ["webp", "webp animated", "avif"])
def test_files_that_tell_their_length_say_when_they_were_cut(name: str) -> None:
    data = whole()[name]
    assert not says_it_is_longer(data)
    assert all(says_it_is_longer(data[:stop]) for stop in range(20, len(data), 97))
    assert says_it_is_longer(data[:-1])


def test_a_tiff_tells_where_its_directory_is() -> None:
    assert not says_it_is_longer(b"II*\0\x08\0\0\0" + bytes(9))
    assert says_it_is_longer(b"II*\0\x08\0\0\0")
    assert says_it_is_longer(b"MM\0*\0\0\x10\0" + bytes(99))
    assert says_it_is_longer(b"MM\0*")
