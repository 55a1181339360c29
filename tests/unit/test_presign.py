"""Pre-signed URLs against AWS's published example, and against what AWS's own Python signer makes."""

from __future__ import annotations

from datetime import UTC, datetime

from farebox.adapters.presign import presigned
from farebox.adapters.sigv4 import Credentials

SECRET = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"


def ms(*when: int) -> int:
    return int(datetime(*when, tzinfo=UTC).timestamp() * 1000)  # type: ignore[arg-type, misc]


def test_the_example_of_the_documentation() -> None:
    """https://docs.aws.amazon.com/AmazonS3/latest/API/sigv4-query-string-auth.html"""
    url = presigned(
        "GET",
        "https://examplebucket.s3.amazonaws.com/test.txt",
        region="us-east-1",
        credentials=Credentials("AKIAIOSFODNN7EXAMPLE", SECRET),
        now_ms=ms(2013, 5, 24),
        life_s=86400,
    )
    assert url == (
        "https://examplebucket.s3.amazonaws.com/test.txt?X-Amz-Algorithm=AWS4-HMAC-SHA256"
        "&X-Amz-Credential=AKIAIOSFODNN7EXAMPLE%2F20130524%2Fus-east-1%2Fs3%2Faws4_request"
        "&X-Amz-Date=20130524T000000Z&X-Amz-Expires=86400&X-Amz-SignedHeaders=host"
        "&X-Amz-Signature=aeeed9bbccd4d02ee5c0109b86d86835f995330da4c265957d157751f604d404"
    )


def test_an_upload_with_a_session_token_is_signed_as_botocore_signs_it() -> None:
    """The signature is that of botocore 1.43.127, S3SigV4QueryAuth, which orders the query otherwise."""
    url = presigned(
        "PUT",
        "https://bucket.s3.eu-west-1.amazonaws.com/uploads/0a1b",
        region="eu-west-1",
        credentials=Credentials("ASIAEXAMPLE", SECRET, "IQoJb3JpZ2luX2Vj/+token=="),
        now_ms=ms(2026, 11, 23, 12, 34, 56),
        life_s=3600,
        headers={"x-amz-meta-filename": "%E4%BD%A0.mp3", "content-length": "12", "content-type": "audio/mpeg"},
    )
    assert "X-Amz-SignedHeaders=content-length%3Bcontent-type%3Bhost%3Bx-amz-meta-filename" in url
    assert "X-Amz-Security-Token=IQoJb3JpZ2luX2Vj%2F%2Btoken%3D%3D" in url
    assert url.endswith("&X-Amz-Signature=51ccd99906a9b8e21eb2fbcbbadb594876b3a9363d90ffdb7f5f41c5f408e900")


def test_another_length_method_or_name_is_another_signature() -> None:
    def signature(method: str = "PUT", name: str = "a", length: int = 1) -> str:
        url = presigned(
            method,
            f"https://bucket.s3.us-east-1.amazonaws.com/{name}",
            region="us-east-1",
            credentials=Credentials("AKIAIOSFODNN7EXAMPLE", SECRET),
            now_ms=ms(2026, 1, 1),
            life_s=60,
            headers={"content-length": str(length)},
        )
        return url.rpartition("=")[2]

    assert len({signature(), signature("GET"), signature(name="b"), signature(length=2)}) == 4
