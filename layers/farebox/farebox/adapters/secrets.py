"""Secrets by reference: "env:NAME" from the environment, "ssm:/path" from SSM Parameter Store, else the text itself.

SSM is asked once per name at start-up, with our own signature: boto3 would cost half a second of every cold start.
"""

from __future__ import annotations

import http.client
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from urllib.parse import urlsplit

import orjson

from farebox.adapters.sigv4 import Credentials, Signer
from farebox.settings import EmptySecret

TIMEOUT_S = 5
CONTAINER_URL = "AWS_CONTAINER_CREDENTIALS_FULL_URI"


def resolver(environ: Mapping[str, str]) -> Callable[[str], str]:
    """A function from reference to value. It raises LookupError with a sentence that names the reference, no value."""
    known: dict[str, str] = {}

    def resolve(reference: str) -> str:
        scheme, colon, name = reference.partition(":")
        if not colon or scheme not in ("env", "ssm"):
            return reference
        if reference not in known:
            known[reference] = _environment(environ, name) if scheme == "env" else _parameter(environ, name)
        return known[reference]

    return resolve


def _environment(environ: Mapping[str, str], name: str) -> str:
    value = environ.get(name)
    if value is None:
        raise LookupError(f"the environment variable {name} is not set")
    if not value:
        raise EmptySecret(f"the environment variable {name} is empty")
    return value


def _parameter(environ: Mapping[str, str], name: str) -> str:
    region = environ.get("AWS_REGION") or environ.get("AWS_DEFAULT_REGION")
    if not region:
        raise LookupError(f"ssm:{name} needs AWS_REGION")
    endpoint = environ.get("AWS_ENDPOINT_URL_SSM") or f"https://ssm.{region}.amazonaws.com"
    body = orjson.dumps({"Names": [name], "WithDecryption": True})
    headers = Signer(region, "ssm", "application/x-amz-json-1.1").headers(
        host=urlsplit(endpoint).netloc,
        target="AmazonSSM.GetParameters",
        body=body,
        credentials=_credentials(environ),
        now_ms=time.time_ns() // 1_000_000,
    )
    request = urllib.request.Request(endpoint + "/", data=body, headers=headers, method="POST")  # noqa: S310
    try:
        with urllib.request.urlopen(request, timeout=TIMEOUT_S) as response:  # noqa: S310
            answer = orjson.loads(response.read())
    except (urllib.error.URLError, http.client.HTTPException, OSError) as error:
        raise LookupError(f"ssm:{name} could not be read ({type(error).__name__})") from None
    if not answer.get("Parameters"):
        raise LookupError(f"ssm:{name} does not exist")
    return str(answer["Parameters"][0]["Value"])


def _credentials(environ: Mapping[str, str]) -> Credentials:
    if key := environ.get("AWS_ACCESS_KEY_ID"):
        return Credentials(key, environ.get("AWS_SECRET_ACCESS_KEY", ""), environ.get("AWS_SESSION_TOKEN"))
    if not (url := environ.get(CONTAINER_URL)):
        raise LookupError("there are no AWS credentials")
    token = environ.get("AWS_CONTAINER_AUTHORIZATION_TOKEN", "")
    request = urllib.request.Request(url, headers={"authorization": token})  # noqa: S310
    with urllib.request.urlopen(request, timeout=TIMEOUT_S) as response:  # noqa: S310
        answer = orjson.loads(response.read())
    return Credentials(answer["AccessKeyId"], answer["SecretAccessKey"], answer["Token"])
