"""The address of a network camera, and its safe name without user, password and token.

Secrets are found by position before anything else parses the address: passwords may contain anything. Only known
harmless parts of a path and a query are shown.
"""

from __future__ import annotations

import dataclasses
import re
from dataclasses import dataclass
from urllib.parse import quote, unquote

from edgebone.core.errors import SourceError
from edgebone.sources.secrets import fill_one, fill_values

SCHEMES = ("rtsp", "rtsps", "rtsp+udp", "http", "https")
_HOST = re.compile(r"(\[[0-9A-Fa-f:.]+(?:%[\w.-]+)?\]|[\w.-]+)(?::(\d{1,5}))?(?=[/?#]|\Z)")
# Delimiters of settings in a path.
_MARKS = re.compile(r"([?&;#,])")
_HARMLESS = re.compile(
    r"(?:channel|chn|ch|camera|cam|stream|substream|subtype|profile|id|fps)=\d{1,3}|unicast=(?:true|false)|proto=onvif"
    r"|resolution=\d{2,4}x\d{2,4}",
    re.IGNORECASE,
)
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")
_HIDDEN = "***"
_AS_TYPED = "!$&'()*+,;=~"


@dataclass(frozen=True, repr=False)
class NetworkAddress:
    """A parsed camera address; created by :func:`read_address`.

    Attributes:
        scheme: One of ``SCHEMES``.
        user: The user's name, decoded; None if there is none.
        password: The password, decoded; None if there is none.
        host: Its name or IP address; IPv6 in brackets.
        port: The port; None for the scheme's own.
        path: The rest including the query, as written.
    """

    scheme: str
    user: str | None
    password: str | None
    host: str
    port: int | None
    path: str

    @property
    def name(self) -> str:
        """The camera's name without possible secrets: ``rtsp://cam:554/1?***&channel=2``."""
        return f"{self.scheme}://{self.host_and_port}{_harmless(self.path)}"

    @property
    def host_and_port(self) -> str:
        """``cam:554``, or ``cam``."""
        return self.host if self.port is None else f"{self.host}:{self.port}"

    @property
    def user_info(self) -> str:
        """User name and password encoded for a URL, with ``@``; empty if there are none."""
        if self.user is None:
            return ""
        password = "" if self.password is None else f":{quote(self.password, safe=_AS_TYPED)}"
        return f"{quote(self.user, safe=_AS_TYPED)}{password}@"

    def __repr__(self) -> str:
        """Return the name, without possible secrets."""
        return f"NetworkAddress({self.name})"


def read_address(text: str) -> NetworkAddress:
    """Parse an address, and fill in secrets from the environment.

    ``rtsp://$CAM_USER:$CAM_PASS@cam/1`` and ``http://cam/1?password=$CAM_PASS``: see :mod:`edgebone.sources.secrets`.
    Reserved characters in a password are accepted if the host is unambiguous.

    Raises:
        SourceError: The host is ambiguous, or a secret is missing.
    """
    address = _split(text)
    try:
        return dataclasses.replace(
            address,
            user=_filled_or_decoded(address.user),
            password=_filled_or_decoded(address.password),
            path=fill_values(address.path),
        )
    except SourceError as error:
        raise SourceError(f"{address.name}: {error}") from None


def redact(text: str) -> str:
    """Return the safe name of an address; ``rtsp://***`` if it cannot be parsed."""
    try:
        return _split(text).name
    except SourceError:
        return f"{text.partition(':')[0]}://{_HIDDEN}"


def redact_word(text: str) -> str:
    """Return an invalid source for a message, without secrets if it looks like a camera's address."""
    begins = re.match(r"(rtsp|http)s?\W", text, re.IGNORECASE)
    if begins:
        return begins[0] + _HIDDEN
    return _HIDDEN + text[text.rindex("@") :] if "@" in text else text


def _split(text: str) -> NetworkAddress:
    scheme, _, rest = text.partition("://")
    if _CONTROL.search(rest):
        raise SourceError(f"{scheme}://{_HIDDEN}: the address contains a line break or another control character")
    # A host is at the start of the address or after an @, and ends at the path.
    begins = [0, *(found.end() for found in re.finditer("@", rest))]
    hosts = [found for place in begins if (found := _HOST.match(rest, place)) and int(found[2] or 0) < 65536]
    if len(hosts) != 1:
        raise SourceError(
            f"{scheme}://{_HIDDEN}: it is not clear where the host begins: write {scheme}://USER:PASSWORD@HOST/PATH, "
            "and elsewhere @ as %40, / as %2F, ? as %3F, # as %23"
        )
    (host,) = hosts
    user, colon, password = rest[: max(0, host.start() - 1)].partition(":")
    return NetworkAddress(
        scheme.lower(),
        user if host.start() else None,
        password if colon else None,
        host[1],
        int(host[2]) if host[2] else None,
        rest[host.end() :],
    )


def _filled_or_decoded(text: str | None) -> str | None:
    if text is None:
        return None
    secret = fill_one(text)
    return unquote(text) if secret is None else secret


def _harmless(path: str) -> str:
    """Return the harmless part of a path and its query; after one secret part of a path everything is hidden."""
    route, *settings = _MARKS.split(path)
    shown: list[str] = []
    for part in route.split("/"):
        if "=" in part and not _HARMLESS.fullmatch(part):
            return "/".join([*shown, _HIDDEN])
        shown.append(part)
    text = "/".join(shown)
    for mark, setting in zip(settings[::2], settings[1::2], strict=True):
        if _HARMLESS.fullmatch(setting):
            text += mark + setting
        elif not text.endswith(_HIDDEN):
            text += mark + _HIDDEN
    return text
