"""What `sam build` makes: for Lambda, looked at from outside; for this machine, run.

A door gets what Lambda would give it and nothing else: its own folder, its layers under one root, the variables of the
template, and parameters from a store that answers only what the function's role may read.
"""

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
AWS_PYTHON = ROOT / ".venv-aws" / "bin" / "python"
FUNCTIONS = {
    "proxy": "ProxyFunction",
    "keys": "KeysFunction",
    "billing": "BillingFunction",
    "schedule": "ScheduleFunction",
}
LAYERS = ["FareboxLayer", "TiktokenLayer"]
SERVER = "proxy"

UNZIPPED_LIMIT = 250 * 2**20  # a function with all its layers
ADAPTER_ALLOWANCE = 15 * 2**20

CONFIG = """\
[catalog]
files = ["prices/own.toml"]

[admin]
token = "ssm:/farebox/admin-token"

[[channel]]
name = "openai-1"
vendor = "openai"
base_url = "https://api.openai.com/v1"
keys = ["ssm:/farebox/channels/openai"]
models = ["gpt-4o-mini"]

[github]
client_id = "client"
client_secret = "ssm:/farebox/github"

[stripe]
api_key = "ssm:/farebox/stripe-key"
webhook_secret = "ssm:/farebox/stripe-webhook"
"""
PRICES = """\
vendor = "openai"
tier = "official"
tokenizer = "o200k_base"
input_margin_percent = 0

[[model]]
id = "of-our-own"
kind = "embedding"
context_tokens = 8192

[[model.price]]
from = "2025-05-01"
per_1k_tokens = "0.001"
"""
OPERATORS_SECRETS = {
    "ChannelSecretArns": ["/farebox/channels/openai"],
    "ServiceSecretArns": ["/farebox/github", "/farebox/stripe-key", "/farebox/stripe-webhook"],
}
# 32 bytes in hex, as docs/deploy.md makes them.
SECRET = bytes(range(32)).hex()

pytestmark = pytest.mark.timeout(600)


# ---- Building -------------------------------------------------------------------------------------------------------


def build(platform: str, out: Path) -> Path:
    assert AWS_PYTHON.exists(), "run `make .venv-aws/.ready` first"
    config = out.with_name("farebox.toml")
    config.write_text(CONFIG)
    (out.parent / "prices").mkdir()
    (out.parent / "prices" / "own.toml").write_text(PRICES)
    # Host wheels must suit the Python that runs them below.
    python = sys.executable if platform == "host" else str(AWS_PYTHON)
    values = {"FAREBOX_BUILD_PLATFORM": platform, "FAREBOX_TOML": config, "BUILD_DIR": out, "BUILD_PYTHON": python}
    command = ["make", "build", *(f"{name}={value}" for name, value in values.items())]
    run = subprocess.run(command, check=False, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    assert run.returncode == 0, run.stdout
    return out


@contextmanager
def built(platform: str, factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Removed afterwards: pytest would keep three runs' worth of wheels."""
    folder = factory.mktemp(platform)
    yield build(platform, folder / "build")
    shutil.rmtree(folder)


@pytest.fixture(scope="module")
def for_lambda(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    with built("lambda", tmp_path_factory) as folder:
        yield folder


@pytest.fixture(scope="module")
def for_host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    with built("host", tmp_path_factory) as folder:
        yield folder


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    out = tmp_path_factory.mktemp("template") / "template.json"
    script = ROOT / "scripts" / "transform_template.py"
    subprocess.run([AWS_PYTHON, script, ROOT / "template.yaml", out], check=True, cwd=ROOT)
    result: dict[str, Any] = json.loads(out.read_text())
    return result


# ---- For Lambda -----------------------------------------------------------------------------------------------------


def size(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def test_compiled_code_is_for_lambdas_machine(for_lambda: Path) -> None:
    binaries = [path for path in for_lambda.rglob("*") if path.is_file() and ".so" in path.suffixes]
    assert len(binaries) > 20
    for path in binaries:
        header = path.read_bytes()[:20]
        assert header[:4] == b"\x7fELF"
        assert int.from_bytes(header[18:20], "little") == 183, f"{path} is not for arm64"
        assert "cpython" not in path.name or "cpython-313" in path.name, path


@pytest.mark.parametrize("name", FUNCTIONS)
def test_a_function_carries_its_door_and_other_peoples_packages(for_lambda: Path, name: str) -> None:
    folder = for_lambda / FUNCTIONS[name]
    assert (folder / "app.py").read_text() == (ROOT / "functions" / name / "app.py").read_text()
    server, web = {"uvicorn", "uvloop"}, {"fastapi", "mangum"}
    wanted, others = (server, web) if name == SERVER else (web, server)
    assert {path.name for path in folder.iterdir()} >= wanted | {"aiohttp", "app.py"}
    assert not {path.name for path in folder.iterdir()} & (others | {"farebox", "tiktoken", "bin", "Makefile"})


def test_lambda_can_run_the_proxys_handler(for_lambda: Path) -> None:
    assert os.access(for_lambda / FUNCTIONS[SERVER] / "run.sh", os.X_OK)


def test_the_layer_holds_the_package_without_what_stays_at_home(for_lambda: Path) -> None:
    source, shipped = (ROOT / "layers" / "farebox" / "farebox", for_lambda / "FareboxLayer" / "python" / "farebox")
    for path in source.glob("catalog/*.toml"):
        assert (shipped / "catalog" / path.name).read_bytes() == path.read_bytes()
    assert (shipped / "errors.py").is_file()
    assert not [name for name in ("cli.py", "local", "demo") if (shipped / name).exists()]
    assert (for_lambda / "FareboxLayer" / "farebox.toml").read_text() == CONFIG
    assert (for_lambda / "FareboxLayer" / "prices" / "own.toml").read_text() == PRICES


def test_the_tokenizers_layer_holds_its_rank_files(for_lambda: Path) -> None:
    ranks = list((for_lambda / "TiktokenLayer" / "tiktoken").iterdir())
    assert len(ranks) >= 2
    for path in ranks:
        assert len(path.name) == 40
        assert path.stat().st_size > 2**20
        assert path.stat().st_mode & 0o444 == 0o444
    assert (for_lambda / "TiktokenLayer" / "python" / "tiktoken").is_dir()


@pytest.mark.parametrize("name", FUNCTIONS)
def test_a_function_with_its_layers_is_small_enough(for_lambda: Path, name: str) -> None:
    layers = LAYERS if name == SERVER else LAYERS[:1]
    total = sum(size(for_lambda / part) for part in [FUNCTIONS[name], *layers])
    assert total + ADAPTER_ALLOWANCE < UNZIPPED_LIMIT


def test_byte_code_is_everywhere_and_never_checked_or_nowhere(for_lambda: Path) -> None:
    compiled = list(for_lambda.rglob("*.pyc"))
    if not compiled:
        pytest.skip("no python3.13 on this machine")
    for path in compiled:
        assert path.name.endswith(".cpython-313.pyc")
        assert int.from_bytes(path.read_bytes()[4:8], "little") == 0b01, f"{path} would be checked against its source"
    for artefact in [*FUNCTIONS.values(), *LAYERS]:
        assert any((for_lambda / artefact).rglob("*.pyc"))


# ---- On this machine ------------------------------------------------------------------------------------------------


@dataclass
class ParameterStore:
    """SSM as a function's role sees it: GetParameters of the names that it may read, and nothing else."""

    readable: set[str]
    url: str = ""

    def answer(self, operation: str, body: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        denied = [name for name in body.get("Names", []) if name not in self.readable]
        if operation != "AmazonSSM.GetParameters" or denied:
            return 400, {"__type": "AccessDeniedException", "Message": f"{operation} is not allowed on {denied}"}
        values = [{"Name": name, "Type": "SecureString", "Value": SECRET} for name in body["Names"]]
        return 200, {"Parameters": values, "InvalidParameters": []}


@contextmanager
def serving(store: ParameterStore) -> Iterator[ParameterStore]:
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            status, answer = store.answer(self.headers.get("X-Amz-Target", ""), body)
            content = json.dumps(answer).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/x-amz-json-1.1")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    store.url = f"http://127.0.0.1:{server.server_port}"
    try:
        yield store
    finally:
        server.shutdown()
        server.server_close()


def readable(template: dict[str, Any], name: str) -> set[str]:
    """The names of the parameters that the function's role may read."""
    role = json.dumps(template["Resources"][f"{name.capitalize()}Role"])
    own = {f"/farebox/{name}" for name in re.findall(r"parameter\$\{SecretsPrefix\}/([a-z-]+)", role)}
    return own.union(*(names for parameter, names in OPERATORS_SECRETS.items() if parameter in role))


def variable(template: dict[str, Any], value: Any) -> str:
    match value:
        case {"Ref": name} if name in template["Parameters"]:
            return str(template["Parameters"][name]["Default"])
        case {"Ref": resource}:
            return f"farebox-test-{resource.lower()}"
        case {"Fn::Sub": text}:
            return str(text).replace("${AWS::StackName}", "farebox-test")
    return str(value)


@dataclass
class Sandbox:
    """What Lambda gives a function: /var/task, /opt and the environment."""

    task: Path
    opt: Path
    environment: dict[str, str]


@pytest.fixture
def sandbox(
    request: pytest.FixtureRequest, template: dict[str, Any], for_host: Path, tmp_path: Path
) -> Iterator[Sandbox]:
    name = request.param
    function = template["Resources"][FUNCTIONS[name]]["Properties"]
    task, opt = for_host / FUNCTIONS[name], tmp_path / "opt"
    for layer in LAYERS:
        if any(used.get("Ref", "").startswith(layer) for used in function["Layers"]):
            shutil.copytree(for_host / layer, opt, dirs_exist_ok=True)
    declared = {key: variable(template, value) for key, value in function["Environment"]["Variables"].items()}
    with serving(ParameterStore(readable(template, name))) as store:
        yield Sandbox(
            task=task,
            opt=opt,
            environment={key: value.replace("/opt/", f"{opt}/") for key, value in declared.items()}
            | runtime_variables(name, task)
            | {"AWS_ENDPOINT_URL_SSM": store.url},
        )
    shutil.rmtree(opt)


def runtime_variables(name: str, task: Path) -> dict[str, str]:
    """What the runtime itself sets, apart from the handler's own business."""
    return {
        "PATH": "/usr/local/bin:/usr/bin:/bin",
        "LANG": "C.UTF-8",
        "TZ": ":UTC",
        "LAMBDA_TASK_ROOT": str(task),
        "AWS_LAMBDA_FUNCTION_NAME": f"farebox-test-{name}",
        "AWS_LAMBDA_INITIALIZATION_TYPE": "on-demand",
        "AWS_REGION": "us-east-1",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_ACCESS_KEY_ID": "AKIAEXAMPLE",
        "AWS_SECRET_ACCESS_KEY": "secret",
        "AWS_SESSION_TOKEN": "token",
    }


IMPORT = """
import sys
sys.path[:0] = sys.argv[1:]
import app
assert callable(app.handler)
import farebox
print(farebox.__file__)
"""


@pytest.mark.parametrize("sandbox", ["keys", "billing", "schedule"], indirect=True)
def test_a_door_opens_in_a_clean_interpreter(sandbox: Sandbox) -> None:
    # -I: no variables, no user's packages, no current folder; -S: no site-packages at all.
    command = [sys.executable, "-I", "-S", "-c", IMPORT, str(sandbox.task), str(sandbox.opt / "python")]
    run = subprocess.run(
        command, check=False, env=sandbox.environment, cwd=sandbox.task, capture_output=True, text=True, timeout=60
    )
    assert run.returncode == 0, run.stderr
    assert Path(run.stdout.strip()).is_relative_to(sandbox.opt)


@pytest.mark.parametrize("sandbox", [SERVER], indirect=True)
def test_the_proxys_handler_starts_a_server_that_is_ready(sandbox: Sandbox, tmp_path: Path) -> None:
    port = free_port()
    environment = sandbox.environment | {
        "AWS_LWA_PORT": str(port),
        "PATH": f"{clean_python(tmp_path)}:{sandbox.environment['PATH']}",
    }
    path = environment["AWS_LWA_READINESS_CHECK_PATH"]
    server = subprocess.Popen(
        [sandbox.task / "run.sh"], env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    try:
        assert answers(f"http://127.0.0.1:{port}{path}", server), server.communicate(timeout=5)[0]
    finally:
        server.send_signal(signal.SIGTERM)
        output, _ = server.communicate(timeout=10)
    assert path not in output, "the server logs requests"


def free_port() -> int:
    with closing(socket.socket()) as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def clean_python(folder: Path) -> Path:
    """A folder with a `python` that sees no site-packages."""
    python = folder / "bin" / "python"
    python.parent.mkdir()
    python.write_text(f'#!/bin/sh\nexec {sys.executable} -S "$@"\n')
    python.chmod(0o755)
    return python.parent


def answers(url: str, server: "subprocess.Popen[str]", within_s: float = 30) -> bool:
    deadline = time.monotonic() + within_s
    while server.poll() is None and time.monotonic() < deadline:
        try:
            with urllib.request.urlopen(url, timeout=5) as response:
                return bool(response.status == 200)
        except (urllib.error.URLError, ConnectionError):
            time.sleep(0.05)
    if server.poll() is None:
        server.kill()
    return False
