"""The file of openings: what a line holds, what a damaged one does, and what other processes see of it."""

from __future__ import annotations

import random
from base64 import b64encode
from hashlib import sha256
from pathlib import Path

import pytest

from mpchan import durability
from mpchan.errors import ParseError, StorageError
from mpchan.units import Amount, OutPoint, Txid
from mpchan.values import replace
from mpchan.wallet import openings as openings_module
from mpchan.wallet.opening import MAX_LINE_BYTES, Opening, packed_pieces, unpacked_pieces
from mpchan.wallet.openings import Openings

P2WPKH, P2TR = b"\x00\x14" + bytes(20), b"\x51\x20" + bytes(32)


def opening(number: int = 1, **changes: object) -> Opening:
    """Any opening."""
    digest = sha256(number.to_bytes(4, "big")).digest()
    made = Opening(
        outpoint=OutPoint(Txid(digest), number % 7),
        offer_id=digest[:16].hex(),
        published=b"\x01\x02\x03\x04",
        session=digest[16:].hex(),
        sold=(1, 2, 3),
        payer_key=b"\x02" + digest,
        funding_script=b"\x00\x20" + digest,
        value=Amount(100_000),
        lock_time=840_000,
        expires=1_796_169_600,
        payer_script=P2WPKH,
        digest=digest[:4],
    )
    return replace(made, **changes)


def line_of(made: Opening) -> bytes:
    line = made.to_line()
    assert line is not None
    return line


# pieces -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("numbers", "packed"),
    [
        ((1,), "0101"),
        ((1, 2, 3), "0107"),
        (tuple(range(2, 5001)), "00018627"),
        ((3, 4, 5, 6, 7, 12), "017c08"),
        ((5000,), "00872700"),
        ((1, 3, 5, 7), "0155"),
    ],
)
def test_pieces_in_few_bytes(numbers: tuple[int, ...], packed: str) -> None:
    """Spans where they are fewer bytes, by hand: 2-5000 leaves out one and has 4,998 more, 0x27 * 128 + 6."""
    assert packed_pieces(numbers).hex() == packed
    assert unpacked_pieces(bytes.fromhex(packed)) == numbers


def test_any_pieces_come_back() -> None:
    chance = random.Random(7)
    for _ in range(300):
        most = chance.choice((1, 8, 9, 100, 5_000))
        numbers = tuple(sorted(chance.sample(range(1, most + 1), chance.randint(1, min(most, 400)))))
        assert unpacked_pieces(packed_pieces(numbers)) == numbers


@pytest.mark.parametrize(
    "text", ["", "00", "01", "0100", "02", "0000", "0080", "00ffffff", "00ffffff7f00", "00ff7fff7f"]
)
def test_what_is_no_list_of_pieces(text: str) -> None:
    with pytest.raises(ValueError, match=r"piece|number"):
        unpacked_pieces(bytes.fromhex(text))


def test_the_usual_wishes_fit() -> None:
    """Any of the 100 pieces that a sale has by itself, to any standard script; spans of the most that there can be."""
    every_other = tuple(range(1, 100, 2))
    nine_spans = tuple(number for start in range(1, 4_800, 540) for number in range(start, start + 200))
    for script in (P2WPKH, P2TR):
        for sold in (every_other, tuple(range(1, 5_001)), tuple(range(1, 209, 2))):
            assert len(line_of(opening(sold=sold, payer_script=script))) <= MAX_LINE_BYTES
    assert opening(sold=nine_spans).to_line() is not None
    assert opening(sold=tuple(range(1, 5_000, 2))).to_line() is None


# lines --------------------------------------------------------------------------------------------


def test_a_line_comes_back() -> None:
    for number in range(50):
        made = opening(number, payer_script=(P2WPKH, P2TR)[number % 2], expires=number * 80_000_000)
        assert Opening.from_line(line_of(made)) == made


def test_whatever_else_is_refused() -> None:
    """Every beginning of a line, every changed character, and another way to write the same bytes."""
    line = line_of(opening())
    bad = [line[:length] for length in range(len(line))]
    bad += [
        line[:at] + (b"A" if line[at : at + 1] != b"A" else b"B") + line[at + 1 :] for at in range(len(line))
    ]
    bad += [line[:-1] + b"=\n", b" " + line, line + line, line[:-1] + b"\r\n", b"\n", b"A" * 280 + b"\n"]
    for each in bad:
        with pytest.raises(ParseError) as caught:
            Opening.from_line(each)
        assert caught.value.slug == "openings-damaged"


def test_a_line_whose_sum_fits_is_looked_at() -> None:
    """Fields that are no opening, with a good check sum: a script that is too long, pieces that are none."""
    data = bytearray(__import__("base64").b64decode(line_of(opening())[:-1] + b"==")[:-4])
    for at, value in ((154, 255), (155 + 22, 9), (0, 2)):
        bent = bytearray(data)
        bent[at] = value
        text = bytes(bent) + sha256(bytes(bent)).digest()[:4]
        with pytest.raises(ParseError):
            Opening.from_line(b64encode(text).rstrip(b"=") + b"\n")


# the file -----------------------------------------------------------------------------------------


@pytest.fixture
def openings(tmp_path: Path) -> Openings:
    return Openings(tmp_path)


def test_everything_by_which_one_is_found(openings: Openings, tmp_path: Path) -> None:
    made = [opening(number, published=bytes([number]) * 4) for number in range(5)]
    assert (len(openings), openings.mark, openings.find(made[0].outpoint)) == (0, 0, None)
    for each in made:
        openings.add(each)
    for seen in (openings, Openings(tmp_path)):
        assert len(seen) == 5
        for each in made:
            assert seen.find(each.outpoint) == seen.under(each.offer_id) == each
            assert seen.of_session(each.session) == [each]
            assert seen.of_payer(each.payer_key) == each.outpoint
            assert seen.scripts()[each.outpoint] == each.funding_script
        assert seen.names_published("03" * 16)
        assert not seen.names_published("05" * 16)
        assert list(seen.all()) == made
    assert openings.path.stat().st_mode & 0o777 == 0o600
    assert openings.path.stat().st_size < 200 + 5 * MAX_LINE_BYTES


def test_processes_see_each_others_lines(openings: Openings, tmp_path: Path) -> None:
    """What is appended, what is left out, and a file that was written anew at the same length."""
    other = Openings(tmp_path)
    one, two, three = (opening(number) for number in range(3))
    openings.add(one)
    assert other.find(one.outpoint) == one
    other.add(two)
    assert openings.find(two.outpoint) == two
    openings.leave_out([one.outpoint], forgotten=one.expires)
    assert other.find(one.outpoint) is None
    assert (other.mark, len(other)) == (one.expires, 1)
    other.leave_out([two.outpoint])
    other.add(three)
    assert [each.name for each in openings.all()] == [three.name]
    assert openings.mark == one.expires


def test_a_line_that_was_taken_back_is_forgotten(openings: Openings, tmp_path: Path) -> None:
    """Another process saw it before its fsync failed, and then another line stands in its place."""
    openings.add(opening(1))
    end = openings.path.stat().st_size
    other = Openings(tmp_path)
    openings.add(opening(2))
    assert other.find(opening(2).outpoint) is not None
    with openings.path.open("r+b") as file:
        file.truncate(end)
        file.seek(end)
        file.write(line_of(opening(3)))
    assert other.find(opening(2).outpoint) is None
    assert other.find(opening(3).outpoint) == opening(3)


def test_a_line_that_was_never_finished_is_none(openings: Openings, tmp_path: Path) -> None:
    """It is cut off by the next one."""
    openings.add(opening(1))
    whole = openings.path.read_bytes()
    for length in range(1, len(line_of(opening(2)))):
        openings.path.write_bytes(whole + line_of(opening(2))[:length])
        assert len(openings) == len(Openings(tmp_path)) == 1
    openings.add(opening(3))
    assert openings.path.read_bytes() == whole + line_of(opening(3))


def test_a_disk_that_fails_adds_nothing(openings: Openings, monkeypatch: pytest.MonkeyPatch) -> None:
    openings.add(opening(1))
    before = openings.path.read_bytes()

    def refuse(descriptor: int) -> None:
        raise OSError(28, "no space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(durability, "write", lambda descriptor, data: refuse(descriptor))
        with pytest.raises(StorageError) as caught:
            openings.add(opening(2))
        assert caught.value.slug == "write-failed"
        with pytest.raises(StorageError):
            openings.leave_out([opening(1).outpoint], forgotten=5)
    assert openings.path.read_bytes() == before
    assert (openings.mark, len(openings)) == (0, 1)


def test_what_another_process_wrote_is_made_sure(
    openings: Openings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It may have died before its fsync; once is enough."""
    Openings(tmp_path).add(opening(1))
    synced: list[int] = []
    real = durability.sync
    monkeypatch.setattr(
        durability, "sync", lambda descriptor: (synced.append(descriptor), real(descriptor))[1]
    )
    openings.make_sure()
    openings.make_sure()
    assert len(synced) == 1
    openings.add(opening(2))
    openings.make_sure()
    assert len(synced) == 2


def test_the_mark_only_rises(openings: Openings) -> None:
    openings.add(opening(1))
    for mark, stands in ((100, 100), (50, 100), (0, 100), (200, 200)):
        openings.leave_out([], forgotten=mark)
        assert openings.mark == stands
    assert len(openings) == 1


def test_what_expires_never_is_never_due(openings: Openings) -> None:
    openings.add(opening(1, expires=0))
    openings.add(opening(2, expires=1_000))
    assert openings.expired_by(999) == {}
    assert openings.expired_by(1_000) == {opening(2).outpoint: 1_000}
    assert openings.expired_by(0xFFFF_FFFF) == {opening(2).outpoint: 1_000}


@pytest.mark.parametrize("bend", ["checksum", "version", "not json", "empty", "mark"])
def test_a_first_line_that_is_damaged(openings: Openings, bend: str) -> None:
    """Nothing is known then, and so nothing may be signed for the first time."""
    openings.add(opening(1))
    first, rest = openings.path.read_bytes().split(b"\n", 1)
    first = {
        "checksum": first.replace(b'"forgotten": 0', b'"forgotten": 1'),
        "version": first.replace(b'"mpchan_openings": 1', b'"mpchan_openings": 2'),
        "not json": b"{" + first,
        "empty": b"",
        "mark": first.replace(b'"forgotten": 0', b'"forgotten": -1'),
    }[bend]
    openings.path.write_bytes(first + b"\n" + rest)
    for act in (
        lambda: openings.mark,
        lambda: openings.find(opening(2).outpoint),
        lambda: openings.add(opening(2)),
    ):
        with pytest.raises(StorageError) as caught:
            act()
        assert caught.value.slug == "openings-damaged"
    assert "fsck --repair" in str(caught.value.hint)
    assert openings.mend() == (1, 1)
    assert openings.find(opening(1).outpoint) == opening(1)


@pytest.mark.parametrize("gone", [1, 2])
def test_a_file_that_is_replaced_while_it_is_asked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, gone: int
) -> None:
    """Between the index and the line another one leaves an opening out: never another opening, nor any damage."""
    first, second, third = opening(1), opening(2), opening(3)
    mine, others = Openings(tmp_path), Openings(tmp_path)
    for each in (first, second, third):
        mine.add(each)
    reading, opened = openings_module.reading, []  # type: ignore[attr-defined]

    def replaced_at_the_second(path: Path) -> object:
        opened.append(path)
        if len(opened) == 2:
            monkeypatch.setattr(openings_module, "reading", reading)
            others.leave_out([opening(gone).outpoint])
        return reading(path)

    monkeypatch.setattr(openings_module, "reading", replaced_at_the_second)
    assert mine.find(second.outpoint) == (second if gone == 1 else None)
    assert len(opened) == 2
