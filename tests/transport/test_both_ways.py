"""What holds on every way between a buyer and a seller."""

from __future__ import annotations

import threading
import time
from contextlib import ExitStack, closing, suppress
from pathlib import Path

import pytest
from support.transport.ways import (
    OTHER,
    PATIENCE,
    SESSION,
    SHORT,
    Way,
    asked,
    asking,
    awaited,
    echo,
    one_request,
    piece_of,
    refused,
    selling,
    some_bytes,
    whole,
)

from mpchan.errors import NotPossible, TooEarly
from mpchan.transport.base import (
    CHUNK_BYTES,
    KINDS,
    Answer,
    Message,
    Piece,
    Refusal,
    Request,
    new_session,
    refusal,
)
from mpchan.units import MAX_MESSAGE_BYTES

# what is said -------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_a_request_and_its_message(way: Way, kind: str) -> None:
    with selling(way.inbox()) as seller, closing(way.line()) as line:
        assert asked(line, kind, b"\x00what\xff") == ("message", kind.encode() + b" \x00what\xff")
    [request] = seller.asked
    assert (request.session, request.kind, request.body) == (SESSION, kind, b"\x00what\xff")


@pytest.mark.parametrize("size", [0, 1, MAX_MESSAGE_BYTES])
def test_bodies_of_every_size(way: Way, size: int) -> None:
    body = some_bytes(size)
    with (
        selling(way.inbox(), lambda request: Message(request.body)) as seller,
        closing(way.line()) as line,
    ):
        assert asked(line, "funding", body) == ("message", body)
    assert seller.asked[0].body == body


@pytest.mark.parametrize("make", [Message, Refusal, lambda body: Request(SESSION, 1, "offer", body)])
def test_nothing_larger_is_sent(make: type[Message]) -> None:
    make(bytes(MAX_MESSAGE_BYTES))
    with pytest.raises(ValueError, match="400001 bytes"):
        make(bytes(MAX_MESSAGE_BYTES + 1))


@pytest.mark.parametrize(
    ("session", "number", "kind"),
    [
        (SESSION.upper(), 1, "offer"),
        (SESSION + "0", 1, "offer"),
        (SESSION + "\n", 1, "offer"),
        ("../../" + SESSION[6:], 1, "offer"),
        (SESSION, 0, "offer"),
        (SESSION, 1, "message"),
        (SESSION, 1, ""),
    ],
)
def test_a_request_that_nobody_could_read_is_never_made(session: str, number: int, kind: str) -> None:
    with pytest.raises(ValueError, match=r"session|number|kind"):
        Request(session, number, kind, b"")


def test_no_line_sends_one(way: Way) -> None:
    with closing(way.line()) as line, pytest.raises(ValueError, match="kind"):
        asked(line, "message")
    with closing(way.line("x" * 32)) as line, pytest.raises(ValueError, match="session"):
        asked(line)


def test_sessions_are_of_128_bits() -> None:
    sessions = {new_session() for _ in range(100)}
    assert len(sessions) == 100
    assert all(len(bytes.fromhex(session)) == 16 for session in sessions)


def test_a_refusal_tells_all_of_an_error(way: Way) -> None:
    error = NotPossible("sold-out", "gone — \ud800", hint="ask élsewhere")
    with selling(way.inbox(), lambda _: refusal(error)), closing(way.line()) as line:
        kind, body = asked(line)
    assert refused((kind, body)) == ("sold-out", 5)
    assert "gone — ?" in body.decode()
    assert "ask élsewhere" in body.decode()


# pieces -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [1, 2, 4095, CHUNK_BYTES, CHUNK_BYTES + 1, 3 * CHUNK_BYTES + 12345])
def test_a_piece(way: Way, tmp_path: Path, size: int) -> None:
    data = some_bytes(size)
    piece = piece_of(tmp_path / "file", data)
    with (
        selling(way.inbox(), lambda _: piece),
        closing(way.line()) as line,
        line.ask("update", b"", PATIENCE) as arrival,
    ):
        assert (arrival.kind, arrival.length, arrival.body) == ("piece", size, b"")
        assert whole(arrival) == data
        assert arrival.is_taken


@pytest.mark.parametrize(("offset", "length"), [(0, 1), (1, 1), (99_999, 1), (17, 70_000), (65_536, 34_464)])
def test_a_part_of_a_file(way: Way, tmp_path: Path, offset: int, length: int) -> None:
    data = some_bytes(100_000)
    piece = piece_of(tmp_path / "file", data, offset, length)
    with selling(way.inbox(), lambda _: piece), closing(way.line()) as line:
        for _ in range(2):  # and nothing behind it, where the next answer begins
            assert asked(line, "piece") == ("piece", data[offset : offset + length])


@pytest.mark.parametrize("size", [1, 1000, 65_536, CHUNK_BYTES])
def test_chunks_are_of_the_size_that_was_asked_for(way: Way, tmp_path: Path, size: int) -> None:
    count = 5000 if size == 1 else 100_001
    data = some_bytes(count)
    piece = piece_of(tmp_path / "file", data)
    with (
        selling(way.inbox(), lambda _: piece),
        closing(way.line()) as line,
        line.ask("piece", b"", PATIENCE) as arrival,
    ):
        sizes, found = [], b""
        for chunk in arrival.chunks(size):
            sizes.append(len(chunk))
            found += chunk
    assert found == data
    assert set(sizes[:-1]) <= {size}
    assert 1 <= sizes[-1] <= size


def test_a_chunk_stays_while_the_next_one_comes(way: Way, tmp_path: Path) -> None:
    """It can be hashed and written meanwhile; and two are all the memory that a piece takes."""
    data = some_bytes(10_000)
    piece = piece_of(tmp_path / "file", data)
    with (
        selling(way.inbox(), lambda _: piece),
        closing(way.line()) as line,
        line.ask("piece", b"", PATIENCE) as arrival,
    ):
        chunks = list(arrival.chunks(1000))
    assert [bytes(chunk) for chunk in chunks[-2:]] == [data[8000:9000], data[9000:]]
    assert len({id(chunk.obj) for chunk in chunks}) == 2


def test_chunks_come_once_and_in_the_block_alone(way: Way, tmp_path: Path) -> None:
    """Behind it the file or the connection is another's."""
    piece = piece_of(tmp_path / "file", some_bytes(3000))
    with selling(way.inbox(), lambda _: piece), closing(way.line()) as line:
        with line.ask("piece", b"", PATIENCE) as arrival:
            assert len(whole(arrival, 1 << 60)) == 3000, "memory is taken for what there is"
            assert list(arrival.chunks()) == []
        with line.ask("piece", b"", PATIENCE) as arrival:
            chunks = arrival.chunks(1000)
            next(chunks)
        with pytest.raises(ValueError, match="not at hand"):
            next(chunks)


def test_what_is_left_of_a_piece_is_in_nobodys_way(way: Way, tmp_path: Path) -> None:
    data = some_bytes(4 * CHUNK_BYTES)
    piece = piece_of(tmp_path / "file", data)

    def answering(request: Request) -> Answer:
        return piece if request.kind == "piece" else echo(request)

    with selling(way.inbox(), answering), closing(way.line()) as line:
        for taken in (0, 1, CHUNK_BYTES, CHUNK_BYTES + 1):
            with line.ask("piece", b"", PATIENCE) as arrival:
                for chunk in arrival.chunks(taken) if taken else ():
                    assert chunk == data[:taken]
                    break
            assert asked(line, "offer", b"1") == ("message", b"offer 1")
        with pytest.raises(ZeroDivisionError), line.ask("piece", b"", PATIENCE) as arrival:
            raise ZeroDivisionError
        assert asked(line, "piece") == ("piece", data)


@pytest.mark.parametrize("length", [0, 99_999, 12])
def test_a_file_that_has_become_too_short(way: Way, tmp_path: Path, length: int) -> None:
    """Not a short piece, and no wait either."""
    piece = piece_of(tmp_path / "file", some_bytes(100_000))
    piece.path.write_bytes(some_bytes(length))
    with selling(way.inbox(), lambda _: piece), closing(way.line()) as line:
        answer = asked(line, "piece")
    assert refused(answer) == ("file-changed", 5)
    assert str(tmp_path).encode() not in answer[1], "where it lies is no buyer's business"


@pytest.mark.parametrize("stands_there", ["nothing", "folder"])
def test_a_file_that_is_gone(way: Way, tmp_path: Path, stands_there: str) -> None:
    piece = Piece(tmp_path / "file", 0, 1 << 20)
    if stands_there == "folder":
        piece.path.mkdir()
    with selling(way.inbox(), lambda _: piece), closing(way.line()) as line:
        answer = asked(line, "piece")
        assert asked(line, "piece")[0] == "refusal", "and again"
    assert refused(answer)[0] in ("file-changed", "piece-not-copied")
    assert str(tmp_path).encode() not in answer[1]


@pytest.mark.parametrize(("offset", "length"), [(-1, 5), (0, 0), (3, -1)])
def test_a_part_that_is_none_is_never_made(offset: int, length: int) -> None:
    with pytest.raises(ValueError, match="no part of a file"):
        Piece(Path("file"), offset, length)


# order and repetition -----------------------------------------------------------------------------


def test_one_after_the_other(way: Way) -> None:
    with selling(way.inbox()) as seller, closing(way.line()) as line:
        for number in range(50):
            body = str(number).encode()
            assert asked(line, "update", body) == ("message", b"update " + body)
    assert [request.body for request in seller.asked] == [str(number).encode() for number in range(50)]
    numbers = [request.number for request in seller.asked]
    assert numbers == sorted(set(numbers))


def test_the_same_again(way: Way, tmp_path: Path) -> None:
    """Each asking reaches the seller, who knows that it is the same one."""
    piece = piece_of(tmp_path / "file", some_bytes(70_000))
    with selling(way.inbox(), lambda _: piece) as seller, closing(way.line()) as line:
        answers = {asked(line, "update", b"pay") for _ in range(5)}
    assert answers == {("piece", some_bytes(70_000))}
    assert [(request.kind, request.body) for request in seller.asked] == 5 * [("update", b"pay")]


def test_a_request_is_handed_out_once(way: Way) -> None:
    with closing(way.inbox()) as inbox, closing(way.line()) as line, asking(line) as found:
        request = one_request(inbox)
        for _ in range(20):
            assert inbox.waiting() == []
            time.sleep(0.001)
        inbox.answer(request, Message(b"one"))
    assert found == [("message", b"one")]


def test_an_answer_is_given_once(way: Way) -> None:
    """A second one to the same request changes nothing, and is nobody's answer later."""
    with closing(way.inbox()) as inbox, closing(way.line()) as line:
        with asking(line) as found:
            first = one_request(inbox)
            inbox.answer(first, Message(b"one"))
        with asking(line) as next_found:
            second = one_request(inbox)
            inbox.answer(first, Message(b"another"))
            inbox.answer(second, Message(b"two"))
    assert (found, next_found) == ([("message", b"one")], [("message", b"two")])


def test_two_sessions_at_once(way: Way) -> None:
    """Answered in whatever order; each gets its own."""
    with (
        closing(way.inbox()) as inbox,
        closing(way.line(SESSION)) as one,
        closing(way.line(OTHER)) as other,
        asking(one, "offer", b"1") as ones,
        asking(other, "offer", b"2") as others,
    ):
        requests: list[Request] = []
        awaited(lambda: requests.extend(inbox.waiting()) or len(requests) == 2, "both requests")
        assert {request.session: request.body for request in requests} == {SESSION: b"1", OTHER: b"2"}
        inbox.answer(requests[1], Message(requests[1].body))
        inbox.answer(requests[0], Message(requests[0].body))
    assert (ones, others) == ([("message", b"1")], [("message", b"2")])


def test_many_sessions_at_once(way: Way, tmp_path: Path) -> None:
    data = some_bytes(300_000)
    piece = piece_of(tmp_path / "file", data)

    def answering(request: Request) -> Answer:
        return piece if request.kind == "piece" else echo(request)

    problems: list[object] = []

    def buy(number: int) -> None:
        with closing(way.line(new_session())) as line:
            for step in range(4):
                body = f"{number} {step}".encode()
                for kind, expected in (("offer", b"offer " + body), ("piece", data)):
                    if asked(line, kind, body)[1] != expected:
                        problems.append((number, step, kind))
            problems.append(None)

    with selling(way.inbox(), answering) as seller:
        threads = [threading.Thread(target=buy, args=(number,)) for number in range(12)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert problems == [None] * 12
    assert len(seller.asked) == 12 * 4 * 2


# silence, and new beginnings ----------------------------------------------------------------------


def test_silence(way: Way) -> None:
    with closing(way.inbox()) as inbox, closing(way.line()) as line:
        with pytest.raises(TooEarly, match=r"0\.05 s") as caught:
            asked(line, patience=SHORT)
        assert (caught.value.slug, caught.value.exit_code) == ("peer-silent", 6)
        assert len(inbox.waiting()) <= 1


def test_nobody_is_there(way: Way) -> None:
    with closing(way.line()) as line:
        with pytest.raises(TooEarly) as caught:
            asked(line, patience=SHORT)
        assert caught.value.slug == "peer-silent"
        with selling(way.inbox()):
            assert asked(line, "offer", b"2") == ("message", b"offer 2")


def test_the_seller_comes_later(way: Way) -> None:
    with closing(way.line()) as line, asking(line, "offer", b"1") as found:
        time.sleep(SHORT)
        with selling(way.inbox()):
            awaited(lambda: found, "the answer")
    assert found == [("message", b"offer 1")]


def test_the_seller_starts_again_before_it_answers(way: Way) -> None:
    with closing(way.line()) as line, asking(line, "settlement", b"1") as found:
        with closing(way.inbox()) as inbox:
            before = one_request(inbox)
        with closing(way.inbox()) as inbox:
            again = one_request(inbox)
            assert (again.session, again.kind, again.body) == (before.session, "settlement", b"1")
            inbox.answer(again, Message(b"now"))
            awaited(lambda: found, "the answer")
    assert found == [("message", b"now")]


def test_the_seller_starts_again_while_a_piece_is_taken(way: Way, tmp_path: Path) -> None:
    """The buyer takes it to the end, or hears that it has to ask again; a part never counts as the whole."""
    data = some_bytes(20 * CHUNK_BYTES)
    piece = piece_of(tmp_path / "file", data)
    with closing(way.line()) as line:
        with ExitStack() as first:
            first.enter_context(selling(way.inbox(), lambda _: piece))
            with line.ask("piece", b"", PATIENCE) as arrival:
                chunks = arrival.chunks()
                found = bytes(next(chunks))
                first.close()
                with suppress(TooEarly):
                    found += b"".join(bytes(chunk) for chunk in chunks)
                assert found == data if arrival.is_taken else len(found) < len(data)
        with selling(way.inbox(), lambda _: piece):
            assert asked(line, "piece") == ("piece", data)


def test_the_buyer_starts_again(way: Way) -> None:
    """What it asked before is answered to nobody, or to a number that is over."""
    with closing(way.inbox()) as inbox:
        with closing(way.line()) as line, pytest.raises(TooEarly):
            asked(line, "offer", b"before", SHORT)
        early = inbox.waiting()
        with closing(way.line()) as line, asking(line, "offer", b"after") as found:
            late = one_request(inbox)
            assert late.body == b"after"
            for request in early:
                inbox.answer(request, Message(b"of before"))
            time.sleep(SHORT)
            inbox.answer(late, Message(b"of after"))
    assert found == [("message", b"of after")]


def test_an_answer_that_comes_too_late_is_not_the_next_ones(way: Way) -> None:
    with closing(way.inbox()) as inbox, closing(way.line()) as line:
        with pytest.raises(TooEarly):
            asked(line, "offer", b"first", SHORT)
        early = inbox.waiting()
        for request in early:
            inbox.answer(request, Message(b"of first"))
        with asking(line, "offer", b"second") as found:
            inbox.answer(one_request(inbox), Message(b"of second"))
    assert found == [("message", b"of second")]


def test_a_line_that_was_closed_opens_again(way: Way) -> None:
    with selling(way.inbox()), closing(way.line()) as line:
        for body in (b"1", b"2"):
            assert asked(line, "offer", body) == ("message", b"offer " + body)
            line.close()


# the end ------------------------------------------------------------------------------------------


def test_the_last_message_arrives_though_its_session_is_forgotten(way: Way) -> None:
    with closing(way.inbox()) as inbox, closing(way.line()) as line:
        with asking(line, "settlement") as found:
            request = one_request(inbox)
            inbox.answer(request, Message(b"closing"))
            inbox.forget(SESSION)
            assert inbox.waiting() == []
        assert found == [("message", b"closing")]
        inbox.forget(OTHER)
        assert inbox.waiting() == []


def test_busy_until_a_piece_has_gone(way: Way, tmp_path: Path) -> None:
    data = some_bytes(8 * CHUNK_BYTES)
    piece = piece_of(tmp_path / "file", data)
    with closing(way.inbox()) as inbox, closing(way.line()) as line:
        assert not inbox.busy()
        with asking(line, "piece") as found:
            inbox.answer(one_request(inbox), piece)
            awaited(lambda: not inbox.busy(), "the end of the copying")
        assert found == [("piece", data)]


def test_the_inbox_closes_in_the_middle(way: Way, tmp_path: Path) -> None:
    """Of a piece, and of a request without an answer: who waits for it hears nothing more, and no thread stays."""
    data = some_bytes(30 * CHUNK_BYTES)
    piece = piece_of(tmp_path / "file", data)
    with (
        closing(way.line(SESSION)) as one,
        closing(way.line(OTHER)) as other,
        asking(one, "piece", patience=0.3) as ones,
        asking(other, "piece", patience=0.3) as others,
        closing(way.inbox()) as inbox,
    ):
        inbox.answer(awaited(inbox.waiting, "a request")[0], piece)
    found = {answer for [answer] in (ones, others)}
    assert found <= {("piece", data), ("peer-silent", b"")}
    assert ("peer-silent", b"") in found
