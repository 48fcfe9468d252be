"""Goal: what a scrape says of certificates is what their files say. Method: certificates made here, and broken ones."""

import ssl
import subprocess
from datetime import UTC, datetime
from pathlib import Path

import pytest

from common.config.sections.cluster import ClusterSection
from common.core.clock import ManualClock
from common.observe import catalogue
from common.observe.certificates import CertificateGauges, ends_at
from common.observe.metric import ProcessRole
from common.observe.registry import Metrics
from tests.rpc.certificates import Authority

DAY_S = 86_400.0


def gauges(own: Path, authority: Path, wall: float) -> tuple[Metrics, CertificateGauges]:
    metrics = Metrics(ProcessRole.ROUTER)
    cluster = ClusterSection(tls_cert_file=str(own), tls_key_file=str(own), tls_ca_file=str(authority))
    return metrics, CertificateGauges(metrics, cluster, ManualClock(wall))


def left_s(metrics: Metrics, kind: str) -> float:
    return metrics.value(catalogue.CERTIFICATE_LEFT_SECONDS, kind=kind)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An authority of a day, an identity of a day, and an authority that ends in 2061: a date of the other kind."""
    authority = Authority(tmp_path_factory.mktemp("tls") / "ca")
    authority.sign("router")
    late = ("-days", "13000", "-subj", "/CN=late", "-keyout", "late.key", "-out", "late.crt")
    authority._openssl("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", *late)
    return authority.folder


def openssl_end(file: Path) -> float:
    shown = subprocess.run(
        ["openssl", "x509", "-enddate", "-noout", "-in", str(file)], check=True, capture_output=True, timeout=30
    )
    date = shown.stdout.decode().strip().removeprefix("notAfter=")
    return datetime.strptime(date, "%b %d %H:%M:%S %Y GMT").replace(tzinfo=UTC).timestamp()


@pytest.mark.parametrize("name", ["router.crt", "ca.crt", "late.crt"])
def test_the_end_is_the_one_that_openssl_tells(folder: Path, name: str) -> None:
    assert ends_at((folder / name).read_bytes()) == openssl_end(folder / name)


def test_of_a_bundle_the_first_to_end_counts(folder: Path) -> None:
    bundle = (folder / "late.crt").read_bytes() + b"# comment\n" + (folder / "ca.crt").read_bytes()
    assert ends_at(bundle) == openssl_end(folder / "ca.crt")


def test_seconds_are_counted_down_to_the_end_and_not_below(folder: Path) -> None:
    end = openssl_end(folder / "router.crt")
    for wall, expected in ((end - 100.0, 100.0), (end + DAY_S, 0.0)):
        metrics, shown = gauges(folder / "router.crt", folder / "ca.crt", wall)
        shown.refresh()
        assert left_s(metrics, "own") == pytest.approx(expected)


def test_a_renewed_file_is_seen_at_the_next_scrape(folder: Path, tmp_path: Path) -> None:
    file = tmp_path / "tls.crt"
    file.write_bytes((folder / "router.crt").read_bytes())
    metrics, shown = gauges(file, folder / "ca.crt", openssl_end(file) - 50.0)
    shown.refresh()
    file.write_bytes((folder / "late.crt").read_bytes())
    shown.refresh()
    assert left_s(metrics, "own") > 365 * DAY_S


@pytest.mark.parametrize(
    "content", [b"", b"no certificate", b"-----BEGIN CERTIFICATE-----\nMAA=\n-----END CERTIFICATE-----\n"]
)
def test_what_cannot_be_read_shows_nothing_rather_than_an_end(folder: Path, tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "tls.crt"
    file.write_bytes(content)
    metrics, shown = gauges(file, folder / "ca.crt", 0.0)
    shown.refresh()
    assert b'kind="own"' not in metrics.render()
    assert b'kind="authority"' in metrics.render()


@pytest.mark.parametrize("cut", [1, 2, 40, 90, 200])
def test_a_cut_certificate_is_an_error_of_one_kind(folder: Path, cut: int) -> None:
    der = ssl.PEM_cert_to_DER_cert((folder / "ca.crt").read_text())
    with pytest.raises(ValueError, match=r"."):
        ends_at(ssl.DER_cert_to_PEM_cert(der[:cut]).encode())


def test_without_tls_there_is_no_series() -> None:
    metrics = Metrics(ProcessRole.DECODE)
    CertificateGauges(metrics, ClusterSection(), ManualClock()).refresh()
    assert b"baton_certificate_left_seconds{" not in metrics.render()
