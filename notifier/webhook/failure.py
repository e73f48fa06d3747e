"""From what broke to a class for filters and one line for people. No line holds a secret, a path or a query."""

from __future__ import annotations

import errno
import os
import re
import socket
import ssl
from urllib.parse import urlsplit

import aiohttp
from aiohttp.http_exceptions import HttpProcessingError

from notifier.domain.outcome import ErrorClass
from notifier.errors import EgressRefused
from notifier.sections import Egress
from notifier.webhook.exchange import Exchange
from notifier.webhook.wire import AnswerTooLarge

_NO_ROUTE = (errno.EHOSTUNREACH, errno.ENETUNREACH)
_OWN_FAULT = (errno.EMFILE, errno.ENFILE)
#: What aiohttp's parser says when a header or their number is over its bound.
_OVER_BOUND = ("Got more than", "Too many headers")
#: What Python writes around OpenSSL's words.
_OF_SSL = re.compile(r"^\[SSL[^]]*\] | ?\(_ssl\.c:\d+\)$")
_LONGEST_LINE = 200
#: What stands for the host of a url in which none can be read.
_UNREAD = "the host"
#: Addresses that a line names.
_MOST_NAMED = 3

Failure = tuple[ErrorClass, str]


def explain(error: Exception, url: str, exchange: Exchange, egress: Egress) -> Failure | None:
    """Class and line for an exception of an exchange; None for one that neither merchant nor network can cause.

    Marks the exchange where the fault is notifier's own.
    """
    host = _host(url)
    match error:
        case EgressRefused():
            return ErrorClass.GUARD, _line(str(error))
        case aiohttp.InvalidURL():
            return _unusable_url(error, host)
        case TimeoutError():
            return _too_slow(error, host, exchange, egress)
        case aiohttp.ClientConnectorCertificateError():
            return ErrorClass.TLS, f"certificate of {host} is not valid: {_certificate_fault(error.certificate_error)}"
        case aiohttp.ClientConnectorSSLError():
            return ErrorClass.TLS, f"TLS with {_reached(exchange, host)} failed: {_tls_fault(error.os_error)}"
        case aiohttp.ClientConnectorDNSError():
            reason = error.os_error.strerror or str(error.os_error)
            return ErrorClass.DNS, _line(f"{host} has no address: {reason}")
        case aiohttp.ClientConnectorError():
            return _not_connected(error.os_error, url, host, exchange)
        case AnswerTooLarge():
            return ErrorClass.TOO_LARGE, str(error)
        case aiohttp.ClientResponseError() | HttpProcessingError():
            return _not_http(error.message)
        case aiohttp.ClientPayloadError() | aiohttp.ClientConnectionError() | OSError():
            return _broken(error, host, exchange)
    return None


def _host(url: str) -> str:
    try:
        return urlsplit(url).hostname or _UNREAD
    except ValueError:
        return _UNREAD


def _unusable_url(error: aiohttp.InvalidURL, host: str) -> Failure:
    if error.description and "IPv4" in error.description:  # 127.1, 2130706433: spellings that hide where they lead
        return ErrorClass.GUARD, _line(f"the guard refused {host}: it {error.description}")
    if host == _UNREAD:
        return ErrorClass.DNS, "the url cannot be read"
    return ErrorClass.DNS, _line(f"the url's host {host!r} cannot be used")


def _too_slow(error: TimeoutError, host: str, exchange: Exchange, egress: Egress) -> Failure:
    within = egress.timeout
    if exchange.peer is None:
        if isinstance(error, aiohttp.ConnectionTimeoutError):
            within = egress.connect_timeout
        if not exchange.dialled:
            return ErrorClass.DNS, f"looking up {host} took longer than {within:.1f} s"
        return ErrorClass.TIMEOUT, f"no connection to {_reached(exchange, host)} within {within:.1f} s"
    if exchange.status is None:
        return ErrorClass.TIMEOUT, f"no answer within {within:.1f} s"
    return ErrorClass.TIMEOUT, f"answered {exchange.status}, but not completely within {within:.1f} s"


def _not_connected(error: OSError, url: str, host: str, exchange: Exchange) -> Failure:
    where = _reached(exchange, host)
    if error.errno == errno.ECONNREFUSED:
        return ErrorClass.CONNECT, f"connection refused by {where}"
    if error.errno in _NO_ROUTE:
        return ErrorClass.CONNECT, f"no route to {where}"
    if error.errno in _OWN_FAULT:
        exchange.ours = True
        return ErrorClass.CONNECT, "notifier itself has no file descriptor left: raise `ulimit -n`"
    # Once TCP is up, what breaks a TLS handshake comes as a plain connection error without a number, or a reset.
    if url.lower().startswith("https:") and error.errno in (None, errno.ECONNRESET, errno.EPIPE):
        return ErrorClass.TLS, f"TLS with {where} failed: the connection broke during the handshake"
    return ErrorClass.CONNECT, _line(f"cannot connect to {where}: {_reason(error)}")


def _not_http(message: str) -> Failure:
    if message.startswith(_OVER_BOUND):
        said, _, _ = message.partition(" when reading")  # what was read follows, a line of up to 8 KiB
        return ErrorClass.TOO_LARGE, f"the head of the answer is too large: {_lowered(said)}"
    return ErrorClass.WRONG_ANSWER, _line(f"the answer is not HTTP/1.1: {_lowered(message).rstrip(' ^')}")


def _broken(error: Exception, host: str, exchange: Exchange) -> Failure:
    where = _reached(exchange, host)
    if exchange.status is not None:
        return ErrorClass.RESET, f"answered {exchange.status}, but {where} broke off before the answer was complete"
    if isinstance(error, OSError):
        return ErrorClass.RESET, _line(f"the connection to {where} broke before an answer: {_reason(error)}")
    return ErrorClass.RESET, f"{where} closed the connection before an answer"


def _reached(exchange: Exchange, host: str) -> str:
    if exchange.peer is not None:
        return exchange.peer
    dialled = list(dict.fromkeys(exchange.dialled))
    more = f" and {len(dialled) - _MOST_NAMED} more" if len(dialled) > _MOST_NAMED else ""
    return ", ".join(dialled[:_MOST_NAMED]) + more or host


def _certificate_fault(error: Exception) -> str:
    return getattr(error, "verify_message", "") or _line(str(error))


def _tls_fault(error: OSError) -> str:
    if not isinstance(error, ssl.SSLError):
        return _reason(error)
    if error.reason:
        return error.reason.replace("_", " ").lower()
    # not `_reason`: the number in there is OpenSSL's, and the kernel means something else by it
    return _line(_OF_SSL.sub("", error.strerror or "")).lower() or "the handshake failed"


def _reason(error: OSError) -> str:
    if isinstance(error, socket.gaierror):  # its numbers are not the kernel's either
        return (error.strerror or "the address is unknown").lower()
    return os.strerror(error.errno).lower() if error.errno else "the connection was lost"


def _lowered(text: str) -> str:
    return text[:1].lower() + text[1:]


def _line(text: str) -> str:
    joined = " ".join(text.split())
    return joined if len(joined) <= _LONGEST_LINE else joined[: _LONGEST_LINE - 1] + "…"
