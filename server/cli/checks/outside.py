"""Checks of what clients meet: the certificate in front, and whether `web` answers behind it."""

from __future__ import annotations

import ssl
import time
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Final
from urllib.parse import SplitResult, urlsplit

import trio
from cryptography import x509

from runtime.config import Config
from server.cli.checks.finding import Finding, error, ok, warning
from server.cli.checks.processes import parse_health
from server.cli.shown import shown_span

ENDS_S: Final = 14 * 86400.0
"""Certificates of 90 days are renewed 30 days before their end; one with less than this was not. AloCertificateEnds."""

PATIENCE_S: Final = 10.0
MAX_ANSWER_BYTES: Final = 8192

_RENEW: Final = "renew it, reload the proxy (nginx -s reload), and look why the renewal did not do that by itself"


async def check_outside(config: Config) -> AsyncIterator[Finding]:
    """Findings about the URLs that clients use, as far as this machine can reach them."""
    urls = {urlsplit(url)._replace(path="", query="") for url in (config.public_url, config.public_files_url) if url}
    public = urlsplit(config.public_url)
    if not urls:
        yield ok("certificate", "not known: PUBLIC_URL is empty")
    for url in sorted(urls):
        if url.scheme == "https":
            yield await check_certificate(url.hostname or "", url.port or 443)
    if public.hostname:
        yield await check_answer(public)


async def check_certificate(host: str, port: int) -> Finding:
    """The certificate that a client gets there: whether it trusts it, and for how long."""
    name = "certificate"
    try:
        with trio.fail_after(PATIENCE_S):
            found = await _shown(host, port, ssl.create_default_context())
    except ssl.SSLCertVerificationError as fault:
        return await _not_trusted(host, port, fault)
    except (OSError, trio.TooSlowError, trio.BrokenResourceError) as fault:
        advice = "start the proxy, or correct its address in PUBLIC_URL, the name service or the firewall"
        return error(name, f"{host}:{port} takes no connection with TLS: {_reason(fault)}", advice)
    return judge_end(host, found.not_valid_after_utc, datetime.now(UTC))


def judge_end(host: str, end: datetime, now: datetime) -> Finding:
    """
    :param end: of a certificate that is good now.
    """
    left_s = (end - now).total_seconds()
    text = f"that of {host} ends in {shown_span(left_s)}, at {end:%Y-%m-%dT%H:%MZ}"
    if left_s >= ENDS_S:
        return ok("certificate", text)
    return warning("certificate", text, _RENEW)


async def _not_trusted(host: str, port: int, fault: ssl.SSLCertVerificationError) -> Finding:
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    try:
        with trio.fail_after(PATIENCE_S):
            shown = await _shown(host, port, context)
    except (OSError, trio.TooSlowError, trio.BrokenResourceError):
        shown = None
    found = f"clients do not trust that of {host}: {fault.verify_message.rstrip('.')}"
    advice = "give the proxy the certificate of this name with its whole chain, and reload it (nginx -s reload)"
    if shown is not None:
        found += f"; it is for {_names(shown)}, until {shown.not_valid_after_utc:%Y-%m-%dT%H:%MZ}"
        if shown.not_valid_after_utc.timestamp() < time.time():
            advice = _RENEW
    return error("certificate", found, advice)


async def _shown(host: str, port: int, context: ssl.SSLContext) -> x509.Certificate:
    """
    :raises ssl.SSLCertVerificationError: if the context does not trust it.
    """
    tls = trio.SSLStream(await trio.open_tcp_stream(host, port), context, server_hostname=host, https_compatible=True)
    async with tls.transport_stream:
        try:
            await tls.do_handshake()
        except trio.BrokenResourceError as broken:
            if isinstance(broken.__cause__, ssl.SSLCertVerificationError):
                raise broken.__cause__ from None
            raise
        return x509.load_der_x509_certificate(tls.getpeercert(binary_form=True))


def _names(certificate: x509.Certificate) -> str:
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return "no name"
    shown = [str(each.value) for each in names]
    return ", ".join(shown[:3]) + (f" and {len(shown) - 3} more" if len(shown) > 3 else "")


async def check_answer(url: SplitResult) -> Finding:
    """Whether a `web` process answers there, whatever the certificate."""
    name, host = "outside", url.hostname or ""
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    try:
        with trio.fail_after(PATIENCE_S):
            answer = await _get_ready(url, host, context)
    except (OSError, trio.TooSlowError, trio.BrokenResourceError) as fault:
        advice = "look at the proxy: its configuration (nginx -t), its error log, and whether it runs"
        return error(name, f"{url.netloc} does not answer: {_reason(fault)}", advice)
    status = answer.split(maxsplit=2)[1:2]
    if status == [b"200"]:
        return ok(name, f"{url.netloc} answers")
    health = parse_health(answer)
    found = f"{url.netloc} answers {status[0].decode(errors='replace') if status else 'no HTTP'}"
    found += f": {health.reason}" if health else ""
    return error(name, found, "look at the processes (above); if they are ready, at the proxy's own error log")


async def _get_ready(url: SplitResult, host: str, context: ssl.SSLContext) -> bytes:
    stream: trio.abc.Stream = await trio.open_tcp_stream(host, url.port or (443 if url.scheme == "https" else 80))
    async with stream:
        if url.scheme == "https":
            stream = trio.SSLStream(stream, context, server_hostname=host, https_compatible=True)
        request = f"GET /readyz HTTP/1.1\r\nHost: {url.netloc}\r\nConnection: close\r\n\r\n"
        await stream.send_all(request.encode())
        answer = b""
        while len(answer) <= MAX_ANSWER_BYTES and (piece := await stream.receive_some()):
            answer += piece
        return answer


def _reason(fault: Exception) -> str:
    if isinstance(fault, trio.TooSlowError):
        return f"no answer within {PATIENCE_S:g} s"
    cause = fault.__cause__ or fault
    while isinstance(cause, BaseExceptionGroup):  # one for each address of the name
        cause = cause.exceptions[0]
    return getattr(cause, "strerror", None) or str(cause) or "it breaks off the connection"
