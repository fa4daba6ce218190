"""The keys of requests: known for a day, or as long as the channel; none is looked at again and again."""

from __future__ import annotations

from mpchan.party.register.keys import KEY_SECONDS, LASTING, Ended, Keys

DIGEST = "ab" * 32
MANY = 1_000


class Seen(str):
    """A key that counts how often somebody asks what kind it is."""

    asked = 0

    def startswith(self, *args: object) -> bool:
        Seen.asked += 1
        return super().startswith(*args)  # type: ignore[arg-type]


def test_a_key_is_known_for_a_day_and_a_lasting_one_for_good() -> None:
    keys = Keys(())
    for name in ("key/a", LASTING + "a"):
        keys.add(name, DIGEST, 5, 100)
    keys.add("key/b", DIGEST, 5, 100 + KEY_SECONDS)
    assert keys.find("key/a") == Ended(DIGEST, 5, 100)
    keys.add("key/c", DIGEST, 5, 101 + KEY_SECONDS)
    assert keys.find("key/a") is None
    assert keys.find("key/b") == Ended(DIGEST, 5, 100 + KEY_SECONDS)
    assert keys.find(LASTING + "a") == Ended(DIGEST, 5, 100)


def test_a_clock_that_is_set_back_forgets_nothing() -> None:
    keys = Keys(())
    keys.add("key/a", DIGEST, 5, 10 * KEY_SECONDS)
    keys.add("key/b", DIGEST, 5, 1)
    keys.add("key/c", DIGEST, 5, 10 * KEY_SECONDS + 1)
    assert all(keys.find(f"key/{name}") for name in "abc")


def test_each_key_is_looked_at_once_however_many_last() -> None:
    """A channel of many pieces, days later: what lasts is not gone through with every request."""
    keys = Keys(())
    Seen.asked = 0
    for number in range(MANY):
        keys.add(Seen(f"{LASTING}{number}"), DIGEST, 1, 1)
    for number in range(MANY):
        keys.add(Seen(f"key/{number}"), DIGEST, 1, 10 * KEY_SECONDS)
    assert Seen.asked == 2 * MANY


def test_what_is_old_takes_no_room() -> None:
    keys = Keys(())
    for number in range(MANY):
        keys.add(f"key/{number}", DIGEST, 1, number * KEY_SECONDS)
    assert len(keys._ended) == 2
