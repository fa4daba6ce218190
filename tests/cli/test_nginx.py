"""nginx with the sample's settings in front of ``payee serve``: payments pass through it; the unit is valid."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.market.processes import awaited
from support.transcript import Shell
from test_serve_and_fetch import BUYER, ORIGIN_FILE, Service, free_port, opened
from test_serve_and_fetch import origin as origin

from mpchan.http.certificates import Certificate, own_certificate, pinned_url

SAMPLES = Path(__file__).parents[2] / "sample-configs"
NGINX = shutil.which("nginx")
AROUND = """daemon off;
pid {folder}/pid;
error_log {folder}/error.log;
events {{}}
http {{
    access_log off;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    {sample}
}}
"""


def configuration(folder: Path, port: int, behind: int, certificate: Certificate) -> str:
    """The sample as it is, but for its addresses and files."""
    text = (SAMPLES / "nginx.conf").read_text()
    for old, new in (
        ("listen 443 ssl", f"listen 127.0.0.1:{port} ssl"),
        ("proxy_pass http://127.0.0.1:8402", f"proxy_pass http://127.0.0.1:{behind}"),
        ("/etc/ssl/shop.example.pem", str(certificate.path)),
        ("/etc/ssl/shop.example.key", str(certificate.key)),
    ):
        assert text.count(old) == 1
        text = text.replace(old, new)
    return AROUND.format(folder=folder, sample=text)


@pytest.fixture
def certificate(tmp_path: Path) -> Certificate:
    folder = tmp_path / "nginx"
    folder.mkdir()
    return own_certificate(folder)


@pytest.fixture
def proxied(tmp_path: Path, certificate: Certificate) -> Iterator[tuple[int, int]]:
    """nginx; its port, and the one that it passes requests on to."""
    if NGINX is None:
        pytest.skip("nginx is not installed")
    folder = tmp_path / "nginx"
    port, behind = free_port(), free_port()
    path = folder / "nginx.conf"
    path.write_text(configuration(folder, port, behind, certificate))
    checked = subprocess.run(
        [NGINX, "-t", "-c", path, "-p", folder], capture_output=True, text=True, check=False
    )
    assert checked.returncode == 0, checked.stderr
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen([NGINX, "-c", path, "-p", folder], stdout=log, stderr=log)
    awaited((folder / "pid").exists, "nginx")
    yield port, behind
    process.terminate()
    process.wait()


@pytest.mark.parametrize("scheme", ["taproot", "decrementing", "both"])
def test_a_service_is_paid_through_nginx(
    wallets: Shell, origin: str, proxied: tuple[int, int], certificate: Certificate, scheme: str
) -> None:
    port, behind = proxied
    url = f"https://127.0.0.1:{port}/"
    words = ["--price", "10", "--scheme", scheme, "--plain", "--proxy", "127.0.0.1", "--url", url]
    service = Service(wallets, origin, *words, "--listen", f"127.0.0.1:{behind}")
    assert service.url == url
    asked = wallets.run(f"curl -sk -i {url}a.txt")
    assert asked.out.startswith("HTTP/1.1 402 ")
    assert asked.out.lower().count("www-authenticate: payment ") == (2 if scheme == "both" else 1)
    service.url = pinned_url(url, certificate)
    opened(service)
    for count in range(1, 4):
        answer = wallets.json(f"{BUYER} payer fetch '{service.at('a.txt')}' -o got")
        assert (answer["http_status"], answer["charged_sat"], answer["spent_sat"]) == (200, 10, 10 * count)
        assert wallets.text("got") == ORIGIN_FILE
    closed = wallets.json(f"{BUYER} payer fetch '{service.url}' --close")
    assert closed["paid_sat"] == 294
    assert service.program.ended(15) == 0


def test_the_unit_says_what_nginx_expects() -> None:
    """Both samples name the same address, and the unit is one."""
    unit = (SAMPLES / "mpchan-serve.service").read_text()
    [start] = [line for line in unit.splitlines() if line.startswith("ExecStart=")]
    settings = (SAMPLES / "nginx.conf").read_text()
    for words in ("--listen 127.0.0.1:8402", "--plain", "--proxy 127.0.0.1", "--url https://shop.example/"):
        assert words in start
        assert words in settings
    assert "proxy_pass http://127.0.0.1:8402;" in settings


def test_systemd_takes_the_unit(tmp_path: Path) -> None:
    """Where it is there; a machine without it has no use for the unit."""
    verify = shutil.which("systemd-analyze")
    if verify is None:
        return
    program = tmp_path / "mpchan"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    text = (SAMPLES / "mpchan-serve.service").read_text().replace("%h/.local/bin/mpchan", str(program))
    (tmp_path / "mpchan-serve.service").write_text(text)
    result = subprocess.run(
        [verify, "--user", "verify", tmp_path / "mpchan-serve.service"],
        capture_output=True,
        text=True,
        env={"XDG_RUNTIME_DIR": str(tmp_path), "HOME": str(tmp_path), "PATH": "/usr/bin:/bin"},
        check=False,
    )
    assert (result.returncode, result.stderr) == (0, "")
