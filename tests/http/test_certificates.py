"""The seller's certificate: made once, kept with its key, and refused where it is no good."""

from __future__ import annotations

import errno
import hashlib
import os
import ssl
import stat
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    PrivateFormat,
    load_pem_private_key,
)

from mpchan import durability
from mpchan.errors import ParseError, StorageError
from mpchan.http.certificates import given_certificate, own_certificate, pinned_url, read_pin, split_pin


def test_it_is_made_once(tmp_path: Path) -> None:
    made = own_certificate(tmp_path / "a" / "b")
    data = made.path.read_bytes()
    assert own_certificate(tmp_path / "a" / "b") == made
    assert made.path.read_bytes() == data
    assert os.listdir(tmp_path / "a" / "b") == [made.path.name]
    assert own_certificate(tmp_path / "other").fingerprint != made.fingerprint


def test_it_is_closed_to_others(tmp_path: Path) -> None:
    made = own_certificate(tmp_path / "new")
    assert stat.S_IMODE(made.path.stat().st_mode) == 0o600
    assert stat.S_IMODE(made.path.parent.stat().st_mode) == 0o700


def test_what_it_says(tmp_path: Path) -> None:
    """P-256, signed by itself, for ever; and nothing of the machine or the user."""
    made = own_certificate(tmp_path)
    certificate = x509.load_pem_x509_certificate(made.path.read_bytes())
    key = certificate.public_key()
    assert isinstance(key, EllipticCurvePublicKey)
    assert key.curve.name == "secp256r1"
    certificate.verify_directly_issued_by(certificate)
    assert certificate.subject.rfc4514_string() == "CN=mpchan"
    assert not list(certificate.extensions)
    der = certificate.public_bytes(Encoding.DER)
    assert made.fingerprint == hashlib.sha256(der).hexdigest()
    assert (
        ssl.PEM_cert_to_DER_cert(made.path.read_text()[made.path.read_text().index("-----BEGIN CERT") :])
        == der
    )


def test_the_first_of_two_at_once_decides(tmp_path: Path) -> None:
    """In processes, because of the temporary names, and in threads alike."""
    program = (
        "import sys; from pathlib import Path; from mpchan.http.certificates import own_certificate\n"
        "print(own_certificate(Path(sys.argv[1])).fingerprint)"
    )
    processes = [
        subprocess.Popen([sys.executable, "-c", program, str(tmp_path / "new")], stdout=subprocess.PIPE)
        for _ in range(3)
    ]
    found = {process.communicate()[0] for process in processes}
    assert len(found) == 1
    assert found == {own_certificate(tmp_path / "new").fingerprint.encode() + b"\n"}


def test_it_is_on_disk_before_it_has_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An offer that names it would be worthless without it."""
    real, seen = durability.step, []

    def step(kind: str, act: Callable[..., Any], *arguments: Any, **named: Any) -> Any:
        seen.append(kind)
        return real(kind, act, *arguments, **named)

    monkeypatch.setattr(durability, "step", step)
    own_certificate(tmp_path / "new")
    assert seen == [
        *("mkdir", "create", "write", "sync", "close", "link", "unlink", "sync-directory", "sync-directory")
    ]


@pytest.mark.parametrize("kind", ["mkdir", "create", "write", "sync", "link", "sync-directory"])
def test_a_disk_that_refuses(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    real = durability.step

    def step(name: str, act: Callable[..., Any], *arguments: Any, **named: Any) -> Any:
        if name == kind:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return real(name, act, *arguments, **named)

    monkeypatch.setattr(durability, "step", step)
    with pytest.raises(StorageError) as caught:
        own_certificate(tmp_path / "new")
    monkeypatch.undo()
    slug = "write-unsure" if kind == "sync-directory" else "write-failed"
    assert (caught.value.slug, caught.value.exit_code) == (slug, 7)
    assert own_certificate(tmp_path / "new") == own_certificate(tmp_path / "new")
    assert len(os.listdir(tmp_path / "new")) == 1


@pytest.mark.parametrize("mode", [0o644, 0o640, 0o604])
def test_a_key_that_others_can_read(tmp_path: Path, mode: int) -> None:
    path = own_certificate(tmp_path).path
    path.chmod(mode)
    with pytest.raises(StorageError) as caught:
        own_certificate(tmp_path)
    assert (caught.value.slug, caught.value.hint) == ("certificate-permissions", f"chmod 600 {path}")


def without_key(data: bytes) -> bytes:
    return data[data.index(b"-----BEGIN CERT") :]


def without_certificate(data: bytes) -> bytes:
    return data[: data.index(b"-----BEGIN CERT")]


def with_encrypted_key(data: bytes) -> bytes:
    """Nobody may be asked for its passphrase in the middle of a sale."""
    key = load_pem_private_key(data, None)
    sealed = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"secret"))
    return sealed + without_key(data)


DAMAGES: list[Callable[[bytes], bytes]] = [
    lambda data: b"",
    lambda data: b"\0" * len(data),
    lambda data: data[:100],
    lambda data: data[:-100],
    lambda data: data.replace(b"A", b"B"),
    without_key,
    without_certificate,
    with_encrypted_key,
]


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_one_is_named_and_left_in_place(tmp_path: Path, damage: Callable[[bytes], bytes]) -> None:
    path = own_certificate(tmp_path).path
    data = damage(path.read_bytes())
    path.write_bytes(data)
    with pytest.raises(StorageError) as caught:
        own_certificate(tmp_path)
    assert (caught.value.slug, caught.value.exit_code) == ("certificate-damaged", 7)
    assert str(path) in caught.value.message
    assert path.read_bytes() == data


def test_nobody_is_asked_for_a_passphrase(tmp_path: Path) -> None:
    """The library would, where there is a terminal."""
    path = own_certificate(tmp_path).path
    path.write_bytes(with_encrypted_key(path.read_bytes()))
    program = (
        "from pathlib import Path; from mpchan.errors import StorageError\n"
        "from mpchan.http.certificates import own_certificate\n"
        f"try: own_certificate(Path({str(tmp_path)!r}))\n"
        "except StorageError as error: print(error.slug)\n"
    )
    terminal = "import pty, sys; pty.spawn([sys.executable, '-c', sys.argv[1]])"
    done = subprocess.run(
        [sys.executable, "-c", terminal, program],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=60,
        check=True,
    )
    assert done.stdout.split() == [b"certificate-damaged"]


def test_a_key_of_another_certificate(tmp_path: Path) -> None:
    one, other = own_certificate(tmp_path / "one").path, own_certificate(tmp_path / "other").path
    one.write_bytes(without_certificate(other.read_bytes()) + without_key(one.read_bytes()))
    with pytest.raises(StorageError, match="no certificate with its key"):
        own_certificate(tmp_path / "one")


def test_what_is_no_file(tmp_path: Path) -> None:
    path = own_certificate(tmp_path / "one").path
    path.unlink()
    path.mkdir(mode=0o700)
    with pytest.raises(StorageError) as caught:
        own_certificate(tmp_path / "one")
    assert caught.value.slug in ("read-failed", "certificate-damaged")
    path.rmdir()
    path.symlink_to("nowhere")
    with pytest.raises(StorageError, match="no such file") as caught:
        own_certificate(tmp_path / "one")
    assert caught.value.slug == "read-failed"


def test_threads(tmp_path: Path) -> None:
    found: set[str] = set()
    own_certificate(tmp_path)
    threads = [
        threading.Thread(target=lambda: found.add(own_certificate(tmp_path).fingerprint)) for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 1


# one that an authority has made -------------------------------------------------------------------


def test_a_given_one_keeps_its_two_files(tmp_path: Path) -> None:
    own = own_certificate(tmp_path / "own")
    chain, key = tmp_path / "chain.pem", tmp_path / "key.pem"
    data, other = own.path.read_bytes(), own_certificate(tmp_path / "other").path.read_bytes()
    chain.write_bytes(without_key(data) + without_key(other))  # its authority's behind it
    key.write_bytes(without_certificate(data))
    given = given_certificate(chain, key)
    assert (given.path, given.key, given.fingerprint, given.is_own) == (chain, key, own.fingerprint, False)
    assert pinned_url("https://shop.example", given) == "https://shop.example"


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_given_one_that_is_none(tmp_path: Path, damage: Callable[[bytes], bytes]) -> None:
    path = own_certificate(tmp_path).path
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(ParseError) as caught:
        given_certificate(path, path)
    assert (caught.value.slug, caught.value.exit_code) == ("malformed-certificate", 3)
    assert str(path) in caught.value.message


def test_a_given_one_whose_key_is_of_another(tmp_path: Path) -> None:
    one, other = own_certificate(tmp_path / "one").path, own_certificate(tmp_path / "other").path
    with pytest.raises(ParseError, match="not its key"):
        given_certificate(one, other)


@pytest.mark.parametrize("missing", [0, 1])
def test_a_given_one_that_cannot_be_read(tmp_path: Path, missing: int) -> None:
    files = [own_certificate(tmp_path).path] * 2
    files[missing] = tmp_path / "nothing.pem"
    with pytest.raises(ParseError) as caught:
        given_certificate(*files)
    assert (caught.value.slug, caught.value.message) == (
        "unreadable-file",
        f"{tmp_path / 'nothing.pem'}: no such file or directory",
    )


# how an address names it --------------------------------------------------------------------------

PIN = "0123456789abcdef" * 4


def test_an_address_with_a_pin_is_what_it_was(tmp_path: Path) -> None:
    own = own_certificate(tmp_path)
    url = pinned_url("https://shop.example:8402/film.mkv", own)
    assert url == f"https://shop.example:8402/film.mkv#pin-sha256={own.fingerprint}"
    assert split_pin(url) == ("https://shop.example:8402/film.mkv", own.fingerprint)


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("https://a.example/x?y=1", ("https://a.example/x?y=1", None)),
        ("https://a.example/x#chapter", ("https://a.example/x", None)),
        ("http://127.0.0.1:8000/", ("http://127.0.0.1:8000/", None)),
        (f"https://a.example/#PIN-SHA256={PIN.upper()}", ("https://a.example/", PIN)),
    ],
)
def test_addresses(url: str, expected: tuple[str, str | None]) -> None:
    assert split_pin(url) == expected


@pytest.mark.parametrize(
    "url",
    [
        f"https://a.example/#pin-sha256={PIN[:-1]}",
        f"https://a.example/#pin-sha256={PIN}0",
        f"https://a.example/#pin-sha256={PIN}&more",
        f"https://a.example/#pin-sha1={PIN}",
        f"https://a.example/#pin_sha256={PIN}",
        f"https://a.example/#pin={PIN}",
        "https://a.example/#pin-sha256=" + "g" * 64,
        "https://a.example/#pin-sha256=" + "\N{ARABIC-INDIC DIGIT ONE}" * 64,
        f"http://a.example/#pin-sha256={PIN}",
    ],
)
def test_a_pin_that_is_none_is_never_dropped(url: str) -> None:
    """Else a mistake in copying would let anybody stand in between."""
    with pytest.raises(ParseError) as caught:
        split_pin(url)
    assert (caught.value.slug, caught.value.exit_code) == ("malformed-pin", 3)


def test_a_pin_as_openssl_writes_it() -> None:
    assert read_pin(":".join(PIN[at : at + 2] for at in range(0, 64, 2)).upper()) == PIN
    for text in ("", PIN[:-1], PIN + "#", "sha256:" + PIN):
        with pytest.raises(ParseError):
            read_pin(text)
