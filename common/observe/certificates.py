"""How long this process's certificate and its authority still hold, read from their files at each scrape.

Only the end of the validity is taken out of the DER, as its place is fixed: RFC 5280, section 4.1. Nothing is verified
here; grpc does that.
"""

import ssl
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

from common.config.sections.cluster import ClusterSection
from common.core.clock import Clock
from common.observe import catalogue
from common.observe.registry import Metrics

END_LINE = "-----END CERTIFICATE-----"
EXPLICIT_VERSION, UTC_TIME, GENERALIZED_TIME = 0xA0, 0x17, 0x18

MAX_ELEMENTS = 8
"""Chosen: more than are looked at of any; validity is the fifth of what is signed."""


class CertificateGauges:
    """Looks at the files when asked. Writer: whoever renders the metrics. Without TLS there is nothing to show."""

    def __init__(self, metrics: Metrics, cluster: ClusterSection, clock: Clock) -> None:
        self._metrics = metrics
        self._clock = clock
        self._files = {"own": cluster.tls_cert_file, "authority": cluster.tls_ca_file}

    def refresh(self) -> None:
        """Seconds left, 0 after the end. A file that cannot be read has no series: unknown is not far away."""
        for kind, file in self._files.items():
            if not file:
                continue
            try:
                left_s = ends_at(Path(file).read_bytes()) - self._clock.wall()
            except (OSError, ValueError):
                self._metrics.clear(catalogue.CERTIFICATE_LEFT_SECONDS, kind=kind)
            else:
                self._metrics.set(catalogue.CERTIFICATE_LEFT_SECONDS, max(0.0, left_s), kind=kind)


def ends_at(pem: bytes) -> float:
    """When the first of the certificates in `pem` ends, in seconds since 1970. Raises ValueError for anything else."""
    parts = pem.decode("ascii", "strict").split(END_LINE)[:-1]
    if not parts:
        raise ValueError("no certificate in this file")
    return min(_end_of(ssl.PEM_cert_to_DER_cert(_stripped(part))) for part in parts)


def _stripped(part: str) -> str:
    return part[part.index("-----BEGIN CERTIFICATE-----") :] + END_LINE


def _end_of(der: bytes) -> float:
    signed = _inside(_inside(der))
    # version (may be absent), serial number, signature algorithm, issuer, validity
    _serial, _algorithm, _issuer, validity, *_ = [value for tag, value in _elements(signed) if tag != EXPLICIT_VERSION]
    _begin, (tag, end) = _elements(validity)
    text = end.decode("ascii")
    if tag == UTC_TIME:  # two digits of a year: 50 to 99 are of the last century
        text = ("19" if text[:2] >= "50" else "20") + text
    elif tag != GENERALIZED_TIME:
        raise ValueError(f"validity ends with a value of tag {tag:#x}")
    return datetime.strptime(text, "%Y%m%d%H%M%SZ").replace(tzinfo=UTC).timestamp()


def _inside(der: bytes) -> bytes:
    """What the first element holds."""
    for _tag, content in _elements(der):
        return content
    raise ValueError("the certificate is empty")


def _elements(der: bytes) -> Iterator[tuple[int, bytes]]:
    """Tags and contents, one after the other. Raises ValueError where lengths and bytes do not agree."""
    at = 0
    for _ in range(MAX_ELEMENTS):
        if at == len(der):
            return
        if at + 2 > len(der):
            raise ValueError("the certificate is cut")
        tag, length, at = der[at], der[at + 1], at + 2
        if length & 0x80:
            size = length & 0x7F
            length, at = int.from_bytes(der[at : at + size], "big"), at + size
        if at + length > len(der):
            raise ValueError("the certificate is cut")
        yield tag, der[at : at + length]
        at += length
