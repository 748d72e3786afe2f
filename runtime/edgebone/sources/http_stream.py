"""A camera's stream over HTTP, read here and passed to FFmpeg as a file.

FFmpeg's own HTTP follows a camera's redirects anywhere, and its playlists open any address. Here every connection is to
the camera's own host, with limits of time and size.
"""

from __future__ import annotations

import contextlib
import http.client
import io
import re
import socket
import ssl
import urllib.error
import urllib.request
from functools import partial
from typing import Any
from urllib.parse import quote, urlsplit

from edgebone.core import limits
from edgebone.core.bounded_socket import Allowance, BoundedSocket, TooMuchError
from edgebone.core.errors import SourceError
from edgebone.core.reading import in_words
from edgebone.sources.camera import RefusedError
from edgebone.sources.network_address import NetworkAddress

_AS_TYPED = "!$%&'()*+,/:;=?@[]~"


class HttpStream:
    """The body of a camera's response, as a file for FFmpeg.

    Credentials are sent on the camera's request, by Basic or Digest. Certificates are not verified: cameras use
    self-signed ones.

    Args:
        address: ``http://…`` or ``https://…``.
        timeout_s: The limit until the end of the response's header.
        first_byte: Request the body from this byte on; None for a camera's stream.

    Attributes:
        name: The camera's name, without credentials.
        multipart: Whether it is declared as Motion JPEG.
        picture: Whether it is declared as a single picture, a camera's snapshot.
        partial: Whether the response starts at ``first_byte``.
        whole_bytes: The size of the whole body; None if not stated, as for live streams.
        failure: Why reading ended early: the connection is lost, or the camera sends too slowly, or too much for one
            packet. None without a failure.

    Raises:
        RefusedError: The camera answers, but not with a stream: wrong credentials, or nothing at this address.
        SourceError: It does not answer.
    """

    def __init__(self, address: NetworkAddress, timeout_s: float, first_byte: int | None = None) -> None:
        self.name = address.name
        self._headers = {"User-Agent": "edgebone", "Accept": "*/*"}
        if first_byte is not None:
            self._headers["Range"] = f"bytes={first_byte}-"
        self._timeout_s = timeout_s
        self._allowance = Allowance(timeout_s, limits.PACKET_BYTES)
        self._answers: list[_Response] = []
        self.failure: SourceError | None = None
        self._response = self._open(address)
        kind = self._response.headers.get_content_maintype()
        self.multipart = kind == "multipart"
        self.picture = kind == "image"
        said = re.fullmatch(r"bytes (\d{1,18})-\d{1,18}/(\d{1,18})", self._response.headers.get("Content-Range", ""))
        self.partial = self._response.status == 206 and said is not None and int(said[1]) == first_byte
        self.whole_bytes: int | None = int(said[2]) if self.partial and said else self._response.length

    def _open(self, address: NetworkAddress) -> Any:
        opener = urllib.request.OpenerDirector()
        passwords = urllib.request.HTTPPasswordMgrWithDefaultRealm()
        if address.user is not None:
            # The second one is the allowed redirect target.
            places = [f"{address.scheme}://{address.host_and_port}", f"https://{address.host}"]
            passwords.add_password(None, places, address.user, address.password or "")
        response = partial(_Response, self._answers, self._allowance)
        for handler in (
            urllib.request.ProxyHandler(),
            _Http(response),
            _Https(response),
            _SameHost(),
            urllib.request.HTTPBasicAuthHandler(passwords),
            urllib.request.HTTPDigestAuthHandler(passwords),
            urllib.request.HTTPDefaultErrorHandler(),
            urllib.request.HTTPErrorProcessor(),
        ):
            opener.add_handler(handler)
        url = f"{address.scheme}://{address.host_and_port}{quote(address.path, safe=_AS_TYPED)}"
        request = urllib.request.Request(url, headers=self._headers)
        try:
            return opener.open(request, timeout=self._timeout_s)
        except Exception as error:
            failure = self._explain(error, "cannot connect")
        # Raised outside the handler, whose traceback contains the whole address.
        self.close()
        raise failure

    def grant(self, seconds: float) -> None:
        """Allow another packet within the given seconds."""
        self._timeout_s = seconds
        self._allowance.grant(seconds, limits.PACKET_BYTES)

    def read(self, size: int) -> bytes:
        """Wait for bytes.

        Args:
            size: The largest number of bytes.

        Returns:
            The bytes; empty at the end and after a failure: FFmpeg, the caller, would lose an exception or report it
            itself.
        """
        try:
            return b"" if self.failure else self._response.read1(size)
        except Exception as error:
            self.failure = self._explain(error, "the connection is lost")
            return b""

    def _explain(self, error: Exception, what: str) -> SourceError:
        """Return our own error, without the whole address or any text from the camera."""
        if isinstance(error, _RedirectError):
            return RefusedError(f"{self.name}: it redirects to another host, which is not followed")
        if isinstance(error, urllib.error.HTTPError):
            error.close()
            if error.code in (401, 403):
                return RefusedError(f"{self.name}: {refusal(error.code)}")
            kind = SourceError if error.code >= 500 else RefusedError
            return kind(f"{self.name}: no video there (HTTP {error.code}); is the path right?")
        reason = error.reason if isinstance(error, urllib.error.URLError) else error
        if isinstance(reason, UnicodeEncodeError):
            return RefusedError(f"{self.name}: user name and password for Digest must be ASCII")
        if isinstance(reason, TooMuchError):
            return SourceError(f"{self.name}: it sends more than {in_words(limits.PACKET_BYTES)} for one picture")
        if isinstance(reason, TimeoutError):
            return SourceError(f"{self.name}: no data for {self._timeout_s:g} s")
        text = reason.strerror if isinstance(reason, OSError) else None
        return SourceError(f"{self.name}: {what} ({text or f'no HTTP: {type(reason).__name__}'})")

    def interrupt(self) -> None:
        """End a ``read`` in another thread."""
        for answer in self._answers:
            with contextlib.suppress(OSError):
                # Past TLS, whose state is the reading thread's.
                socket.socket.shutdown(answer.connection, socket.SHUT_RDWR)

    def close(self) -> None:
        """Disconnect."""
        for answer in self._answers:
            answer.close()
            answer.connection.close()


def refusal(reason: object) -> str:
    """Return the message for a rejected user name or password."""
    return (
        f"the camera refuses the user name or password ({reason}); write them as USER:PASSWORD@ before the host, "
        "special characters as %40 and so on"
    )


class _Response(http.client.HTTPResponse):
    """A response that is read within an allowance, from its first line on."""

    def __init__(
        self, answers: list[_Response], allowance: Allowance, sock: socket.socket, *args: Any, **more: Any
    ) -> None:
        super().__init__(sock, *args, **more)
        self.fp.close()
        self.fp = io.BufferedReader(BoundedSocket(sock, allowance))
        self.connection = sock
        answers.append(self)


class _Http(urllib.request.HTTPHandler):
    """HTTP with our response class."""

    def __init__(self, response: Any) -> None:
        super().__init__()
        self._response = response

    def http_open(self, req: urllib.request.Request) -> Any:
        """Send a request; called by urllib."""
        return self.do_open(partial(_connect, http.client.HTTPConnection, self._response), req)


class _Https(urllib.request.HTTPSHandler):
    """HTTPS with our response class."""

    def __init__(self, response: Any) -> None:
        super().__init__()
        self._response = response

    def https_open(self, req: urllib.request.Request) -> Any:
        """Send a request; called by urllib."""
        context = ssl.create_default_context()
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        kind = partial(http.client.HTTPSConnection, context=context)
        return self.do_open(partial(_connect, kind, self._response), req)


def _connect(kind: Any, response: Any, host: str, **more: Any) -> Any:
    connection = kind(host, **more)
    connection.response_class = response
    return connection


class _RedirectError(Exception):
    """The camera redirects to another host."""


class _SameHost(urllib.request.HTTPRedirectHandler):
    """Follows redirects within the same host and port, or to the same host's HTTPS."""

    def redirect_request(self, req: Any, fp: Any, code: Any, msg: Any, headers: Any, newurl: str) -> Any:
        """Return the request for a redirect; called by urllib."""
        here, there = _place(req.full_url), _place(newurl)
        if there not in (here, ("https", here[1], 443)):
            raise _RedirectError
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def _place(url: str) -> tuple[str, str | None, int]:
    parts = urlsplit(url)
    return parts.scheme, parts.hostname, parts.port or (443 if parts.scheme == "https" else 80)
