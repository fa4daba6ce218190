"""What a browser shows of a 402: plain HTML and CSS, nothing that runs, nothing that is loaded from elsewhere."""

from __future__ import annotations

from html import escape
from shlex import quote

from mpchan.http.server.prices import Price

_STYLE = """
body { font-family: system-ui, sans-serif; max-width: 42rem; margin: 3rem auto; padding: 0 1rem; color: #222;
  background: #fff; line-height: 1.5 }
h1 { font-size: 1.4rem; overflow-wrap: anywhere }
pre { background: #f2f2f2; padding: .8rem; white-space: pre-wrap; overflow-wrap: anywhere; border-radius: .3rem }
figure { margin: 1.5rem 0; background: #fff; display: inline-block }
figcaption { color: #555; font-size: .9rem }
@media (prefers-color-scheme: dark) { body { background: #181818; color: #ddd } pre { background: #2a2a2a }
  figcaption { color: #aaa } }
"""

HEADERS = (
    (b"content-type", b"text/html; charset=utf-8"),
    (b"content-security-policy", b"default-src 'none'; style-src 'unsafe-inline'"),
)
"""Of every page; the challenges beside them leave little room."""

MOST_CODE_LENGTH = 1_000
"""Characters of an address that a QR code is made of: it holds not much more, and no camera reads it then."""


def wants_page(accept: str) -> bool:
    """Whether HTML is asked for by its name, as browsers do it (RFC 9110, section 12.5.1)."""
    for part in accept.lower().split(","):
        name, *parameters = (each.strip() for each in part.split(";"))
        if name == "text/html":
            weights = [each[2:] for each in parameters if each.startswith("q=")]
            return not weights or weights[0].strip("0.") != ""
    return False


def price_text(price: Price) -> str:
    """What a unit costs, in words."""
    most = "" if price.per_bytes is None else f", {price.reserved:,} sat at the most"
    return f"{price.amount:,} sat for each {price.unit}{most}"


def page(realm: str, url: str, price: Price, deposit: int) -> bytes:
    """The page.

    Args:
        url: of what was asked for, as a client needs it: with the pin of an own certificate.
        deposit: satoshi, as it is suggested.
    """
    import segno

    shown = url.partition("://")[2].partition("#")[0].partition("?")[0]
    command = f"mpchan payer fetch {quote(url)} --deposit {deposit}"
    figure = ""
    if len(url) <= MOST_CODE_LENGTH:
        code = segno.make_qr(url, error="l", boost_error=False).svg_inline(scale=4, border=4, light="#fff")
        figure = (
            f"<figure>{code}<figcaption>This address, for a wallet or another device.</figcaption></figure>"
        )
    sale = "" if price.sale is None else f"<p>It is sold in {price.sale.pieces:,} pieces.</p>"
    described = "" if price.description is None else f"<p>{escape(price.description)}</p>"
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{escape(realm)}: payment required</title>
<style>{_STYLE}</style>
</head>
<body>
<h1>{escape(shown)}</h1>
<p>This costs <strong>{escape(price_text(price))}</strong>, paid in bitcoin over a payment channel.</p>
{described}{sale}<p>A program that speaks the &ldquo;Payment&rdquo; scheme of HTTP pays for it. The command is</p>
<pre>{escape(command)}</pre>
{figure}
</body>
</html>
""".encode(errors="replace")
