"""What template.yaml promises, read off the CloudFormation that AWS makes of it."""

import copy
import importlib.util
import json
import re
import subprocess
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from farebox.adapters.uploads_s3 import FOLDER

ROOT = Path(__file__).resolve().parents[2]
TRANSFORM = ROOT / "scripts" / "transform_template.py"
FUNCTIONS = ["proxy", "keys", "billing", "schedule"]

Template = dict[str, Any]


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Template:
    out = tmp_path_factory.mktemp("template") / "template.json"
    python = ROOT / ".venv-aws" / "bin" / "python"
    assert python.exists(), "run `make .venv-aws/.ready` first"
    run = subprocess.run(
        [python, TRANSFORM, ROOT / "template.yaml", out], check=False, capture_output=True, text=True, cwd=ROOT
    )
    assert run.returncode == 0, run.stderr
    result: Template = json.loads(out.read_text())
    return result


@pytest.fixture(scope="module")
def rules() -> Any:
    spec = importlib.util.spec_from_file_location("transform_template", TRANSFORM)
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def function(template: Template, name: str) -> dict[str, Any]:
    found: dict[str, Any] = template["Resources"][f"{name.capitalize()}Function"]["Properties"]
    return found


def of_type(template: Template, kind: str) -> dict[str, Any]:
    return {name: resource for name, resource in template["Resources"].items() if resource["Type"] == kind}


# ---- Who may do what ------------------------------------------------------------------------------------------------

LOGS = {"CreateLogStream", "PutLogEvents"}
SECRETS = {"secret pepper": {"GetParameters"}, "secret signing-key": {"GetParameters"}}
ALLOWED = {
    "proxy": {
        "ProxyLogs": LOGS,
        "AccountsTable": {"GetItem", "UpdateItem"},
        "LedgerTable": {"GetItem", "Query", "PutItem"},
        "CountersTable": {"GetItem", "BatchGetItem", "PutItem", "UpdateItem"},
        "RegistryTable": {"GetItem"},
        "folder uploads of UploadsBucket": {"PutObject", "GetObject", "DeleteObject"},
        "ChannelSecretArns": {"GetParameters"},
        **SECRETS,
    },
    "keys": {
        "KeysLogs": LOGS,
        "AccountsTable": {"GetItem", "PutItem", "Scan", "UpdateItem"},
        "LedgerTable": {"GetItem", "Query", "PutItem"},
        "CountersTable": {"GetItem", "UpdateItem"},
        "RegistryTable": {"GetItem", "PutItem", "UpdateItem"},
        "ServiceSecretArns": {"GetParameters"},
        "secret admin-token": {"GetParameters"},
        **SECRETS,
    },
    "billing": {
        "BillingLogs": LOGS,
        "AccountsTable": {"GetItem"},
        "LedgerTable": {"GetItem", "Query"},
        "CountersTable": {"GetItem", "BatchGetItem"},
        "RegistryTable": {"GetItem"},
        **SECRETS,
    },
    "schedule": {
        "ScheduleLogs": LOGS,
        "AccountsTable": {"GetItem", "Scan", "UpdateItem"},
        "LedgerTable": {"Query", "PutItem"},
        "CountersTable": {"UpdateItem"},
        "RegistryTable": {"GetItem", "PutItem", "UpdateItem"},
        "ChannelSecretArns": {"GetParameters"},
        "ScheduleFailures": {"SendMessage"},
        **SECRETS,
    },
}
SERVICES = {"Table": "dynamodb", "Logs": "logs", "Arns": "ssm", "Failures": "sqs", "Bucket": "s3"}


def target(resource: dict[str, Any]) -> str:
    """A statement's resource in the words of the table above."""
    match resource:
        case {"Fn::GetAtt": [name, "Arn"]} | {"Ref": name}:
            return str(name)
        case {"Fn::Sub": arn} if found := re.fullmatch(r"\$\{(\w+Bucket)\.Arn\}/(\w+)/\*", arn):
            return f"folder {found[2]} of {found[1]}"
        case {"Fn::Sub": arn}:
            prefix = "arn:${AWS::Partition}:ssm:${AWS::Region}:${AWS::AccountId}:parameter${SecretsPrefix}/"
            assert arn.startswith(prefix)
            return f"secret {arn.removeprefix(prefix)}"
    raise AssertionError(resource)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_a_function_may_do_what_the_table_says_and_nothing_else(template: Template, rules: Any, name: str) -> None:
    role = template["Resources"][f"{name.capitalize()}Role"]["Properties"]
    assert function(template, name)["Role"] == {"Fn::GetAtt": [f"{name.capitalize()}Role", "Arn"]}
    allowed: dict[str, set[str]] = {}
    for statement in rules.statements(role):
        assert statement["Effect"] == "Allow"
        for resource in rules.as_list(statement["Resource"]):
            services, actions = zip(*(action.split(":") for action in rules.as_list(statement["Action"])), strict=True)
            expected = next((of for end, of in SERVICES.items() if target(resource).endswith(end)), "ssm")
            assert set(services) == {expected}
            allowed.setdefault(target(resource), set()).update(actions)
    assert allowed == ALLOWED[name]


def test_only_its_function_assumes_a_role_and_only_the_scheduler_the_others(template: Template) -> None:
    principals = {
        name: role["Properties"]["AssumeRolePolicyDocument"]["Statement"][0]["Principal"]["Service"]
        for name, role in of_type(template, "AWS::IAM::Role").items()
    }
    own = {f"{name.capitalize()}Role": "lambda.amazonaws.com" for name in FUNCTIONS}
    scheduler = {"ScheduleFunctionSweepRole": ["scheduler.amazonaws.com"]}
    assert principals == own | scheduler


# ---- Functions ------------------------------------------------------------------------------------------------------


def test_functions_run_where_the_wheels_do(template: Template) -> None:
    functions = of_type(template, "AWS::Lambda::Function")
    assert set(functions) == {f"{name.capitalize()}Function" for name in FUNCTIONS}
    for resource in functions.values():
        assert resource["Properties"]["Runtime"] == "python3.13"
        assert resource["Properties"]["Architectures"] == ["arm64"]
    for layer in of_type(template, "AWS::Lambda::LayerVersion").values():
        assert layer["Properties"]["CompatibleRuntimes"] == ["python3.13"]
        assert layer["Properties"]["CompatibleArchitectures"] == ["arm64"]


def test_only_the_proxy_streams(template: Template) -> None:
    urls = {
        url["Properties"]["TargetFunctionArn"]["Ref"]: url["Properties"]["InvokeMode"]
        for url in of_type(template, "AWS::Lambda::Url").values()
    }
    assert urls == {"ProxyFunction": "RESPONSE_STREAM", "KeysFunction": "BUFFERED", "BillingFunction": "BUFFERED"}
    handlers = {name: function(template, name)["Handler"] for name in FUNCTIONS}
    assert handlers == {"proxy": "run.sh", "keys": "app.handler", "billing": "app.handler", "schedule": "app.handler"}


def test_urls_are_open_and_say_so_twice(template: Template) -> None:
    """Without either permission AWS answers 403: one for the URL, one for the call that comes through it."""
    permissions = [each["Properties"] for each in of_type(template, "AWS::Lambda::Permission").values()]
    for name in ("proxy", "keys", "billing"):
        logical_id = f"{name.capitalize()}Function"
        assert template["Resources"][f"{logical_id}Url"]["Properties"]["AuthType"] == "NONE"
        mine = [each for each in permissions if each["FunctionName"] == {"Ref": logical_id}]
        assert {each["Action"] for each in mine} == {"lambda:InvokeFunctionUrl", "lambda:InvokeFunction"}
        assert any(each.get("InvokedViaFunctionUrl") is True for each in mine)
    assert not [each for each in permissions if each["FunctionName"] == {"Ref": "ScheduleFunction"}]


def test_layers(template: Template) -> None:
    def layers(name: str) -> list[str]:
        return [
            re.sub(r"[0-9a-f]{10}$", "", layer.get("Ref", "adapter")) for layer in function(template, name)["Layers"]
        ]

    assert layers("proxy") == ["FareboxLayer", "TiktokenLayer", "adapter"]
    assert layers("keys") == layers("billing") == layers("schedule") == ["FareboxLayer"]


ALL_VARIABLES = {
    "FAREBOX_ENV",
    "FAREBOX_TABLE_PREFIX",
    "FAREBOX_SECRETS_PREFIX",
    "FAREBOX_CONFIG",
    "POWERTOOLS_METRICS_NAMESPACE",
    "POWERTOOLS_SERVICE_NAME",
}
PROXY_VARIABLES = {
    "AWS_LAMBDA_EXEC_WRAPPER",
    "AWS_LWA_INVOKE_MODE",
    "AWS_LWA_PORT",
    "AWS_LWA_READINESS_CHECK_PATH",
    "PYTHONPATH",
    "PYTHONUNBUFFERED",
    "TIKTOKEN_CACHE_DIR",
    "FAREBOX_UPLOADS_BUCKET",
}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_environment(template: Template, name: str) -> None:
    variables = function(template, name)["Environment"]["Variables"]
    assert set(variables) == ALL_VARIABLES | (PROXY_VARIABLES if name == "proxy" else set())
    assert variables["FAREBOX_ENV"] == "production"
    assert variables["FAREBOX_TABLE_PREFIX"] == {"Fn::Sub": "${AWS::StackName}-"}
    assert variables["POWERTOOLS_SERVICE_NAME"] == f"farebox-{name}"


def test_the_adapter_streams_and_asks_for_nothing_that_touches_the_store(template: Template) -> None:
    variables = function(template, "proxy")["Environment"]["Variables"]
    assert variables["AWS_LAMBDA_EXEC_WRAPPER"] == "/opt/bootstrap"
    assert variables["AWS_LWA_INVOKE_MODE"] == "response_stream"
    assert variables["AWS_LWA_READINESS_CHECK_PATH"] == "/healthz"


def test_nothing_traces_what_passes_through_the_relay(template: Template) -> None:
    assert not [name for name in FUNCTIONS if "TracingConfig" in function(template, name)]


@pytest.mark.parametrize("name", FUNCTIONS)
def test_logs_have_an_end(template: Template, name: str) -> None:
    group = template["Resources"][function(template, name)["LoggingConfig"]["LogGroup"]["Ref"]]["Properties"]
    assert group["LogGroupName"] == {"Fn::Sub": f"/farebox/${{AWS::StackName}}/{name}"}
    assert group["RetentionInDays"] == {"Ref": "LogRetentionDays"}


# ---- Tables ---------------------------------------------------------------------------------------------------------


def documented_keys() -> dict[str, list[str]]:
    """Table → its key's attributes, as docs/architecture.md has them."""
    text = (ROOT / "docs" / "architecture.md").read_text().split("## What is stored", 1)[1]
    rows = re.findall(r"^\| (\w+) \| (`[^|]+) \|", text, re.MULTILINE)
    return {table: re.findall(r"`(\w+)`", key) for table, key in rows}


def test_tables_have_the_keys_that_the_design_gives_them(template: Template) -> None:
    built = {}
    for resource in of_type(template, "AWS::DynamoDB::Table").values():
        properties = resource["Properties"]
        key = sorted(properties["KeySchema"], key=lambda part: ["HASH", "RANGE"].index(part["KeyType"]))
        assert {each["AttributeType"] for each in properties["AttributeDefinitions"]} == {"S"}
        built[properties["TableName"]["Fn::Sub"].removeprefix("${AWS::StackName}-")] = [
            part["AttributeName"] for part in key
        ]
    assert len(built) == 4
    assert built == documented_keys()


def test_tables_outlive_a_mistake(template: Template) -> None:
    for resource in of_type(template, "AWS::DynamoDB::Table").values():
        assert resource["DeletionPolicy"] == "RetainExceptOnCreate"
        assert resource["UpdateReplacePolicy"] == "Retain"
        properties = resource["Properties"]
        assert properties["BillingMode"] == "PAY_PER_REQUEST"
        assert properties["DeletionProtectionEnabled"] == {"Fn::If": ["IsProd", True, False]}
        assert properties["PointInTimeRecoverySpecification"]["PointInTimeRecoveryEnabled"] is True


def test_only_counters_expire(template: Template) -> None:
    expiring = {
        name: resource["Properties"]["TimeToLiveSpecification"]
        for name, resource in of_type(template, "AWS::DynamoDB::Table").items()
        if "TimeToLiveSpecification" in resource["Properties"]
    }
    assert expiring == {"CountersTable": {"AttributeName": "ttl", "Enabled": True}}


# ---- Uploads --------------------------------------------------------------------------------------------------------


def test_uploads_lie_in_a_private_encrypted_bucket_for_a_day(template: Template) -> None:
    ((name, bucket),) = of_type(template, "AWS::S3::Bucket").items()
    properties = bucket["Properties"]
    assert function(template, "proxy")["Environment"]["Variables"]["FAREBOX_UPLOADS_BUCKET"] == {"Ref": name}
    assert set(properties["PublicAccessBlockConfiguration"].values()) == {True}
    assert len(properties["PublicAccessBlockConfiguration"]) == 4
    (rule,) = properties["BucketEncryption"]["ServerSideEncryptionConfiguration"]
    assert rule == {"ServerSideEncryptionByDefault": {"SSEAlgorithm": "AES256"}}
    (rule,) = properties["LifecycleConfiguration"]["Rules"]
    assert (rule["Status"], rule["ExpirationInDays"]) == ("Enabled", 1)
    assert not {"Prefix", "Filter", "TagFilters"} & rule.keys(), "the rule is for all that lies there"
    assert rule["AbortIncompleteMultipartUpload"] == {"DaysAfterInitiation": 1}
    assert not {"VersioningConfiguration", "BucketName", "CorsConfiguration"} & properties.keys()


def test_nothing_reaches_the_uploads_in_the_clear(template: Template) -> None:
    (policy,) = of_type(template, "AWS::S3::BucketPolicy").values()
    (statement,) = policy["Properties"]["PolicyDocument"]["Statement"]
    assert statement["Effect"] == "Deny"
    assert (statement["Principal"], statement["Action"]) == ("*", "s3:*")
    assert statement["Condition"] == {"Bool": {"aws:SecureTransport": "false"}}
    assert {json.dumps(each) for each in statement["Resource"]} == {
        json.dumps({"Fn::GetAtt": ["UploadsBucket", "Arn"]}),
        json.dumps({"Fn::Sub": "${UploadsBucket.Arn}/*"}),
    }


def test_the_folder_that_the_proxy_may_touch_is_the_one_it_uses(template: Template) -> None:
    assert f"${{UploadsBucket.Arn}}/{FOLDER}*" in json.dumps(properties_of(template, "ProxyRole"))


# ---- Schedule -------------------------------------------------------------------------------------------------------


def test_jobs_run_at_their_times(template: Template) -> None:
    jobs = {}
    for schedule in of_type(template, "AWS::Scheduler::Schedule").values():
        properties = schedule["Properties"]
        assert "Name" not in properties, "a second stack in the account would collide"
        when = (properties["ScheduleExpression"], properties.get("ScheduleExpressionTimezone"))
        jobs[json.loads(properties["Target"]["Input"])["job"]] = when
    assert jobs == {"sweep": ("rate(5 minutes)", None)}


def test_a_job_that_fails_is_kept_encrypted(template: Template) -> None:
    queue = {"Fn::GetAtt": ["ScheduleFailures", "Arn"]}
    for schedule in of_type(template, "AWS::Scheduler::Schedule").values():
        assert schedule["Properties"]["Target"]["DeadLetterConfig"] == {"Arn": queue}
        assert schedule["Properties"]["Target"]["RetryPolicy"]["MaximumRetryAttempts"] > 0
    [invoke] = of_type(template, "AWS::Lambda::EventInvokeConfig").values()
    assert invoke["Properties"]["DestinationConfig"]["OnFailure"]["Destination"] == queue
    assert template["Resources"]["ScheduleFailures"]["Properties"]["SqsManagedSseEnabled"] is True


# ---- For the operator -----------------------------------------------------------------------------------------------


def test_outputs(template: Template) -> None:
    outputs = {name: output["Value"] for name, output in template["Outputs"].items()}
    assert outputs == {
        "BaseUrl": {"Fn::Sub": "${ProxyFunctionUrl.FunctionUrl}v1"},
        "KeysUrl": {"Fn::GetAtt": ["KeysFunctionUrl", "FunctionUrl"]},
        "BillingUrl": {"Fn::GetAtt": ["BillingFunctionUrl", "FunctionUrl"]},
    }


def test_parameters_are_described_here_and_in_the_guide(template: Template) -> None:
    guide = (ROOT / "docs" / "deploy.md").read_text()
    for name, parameter in template["Parameters"].items():
        assert parameter["Description"]
        assert {"AllowedValues", "AllowedPattern", "MinValue"} & parameter.keys(), name
        assert f"`{name}`" in guide
    for secret in ("pepper", "signing-key", "admin-token"):
        assert f"`{secret}`" in guide


def test_both_stages_of_samconfig_name_parameters_that_exist(template: Template) -> None:
    config = tomllib.loads((ROOT / "samconfig.toml").read_text())
    stages = {}
    for environment in ("default", "prod"):
        overrides = config[environment]["deploy"]["parameters"]["parameter_overrides"]
        values = dict(pair.split("=") for pair in overrides.split())
        assert values.keys() <= template["Parameters"].keys()
        assert not config[environment]["build"]["parameters"].get("cached"), "locks and package lie outside CodeUri"
        stages[environment] = (config[environment]["global"]["parameters"]["stack_name"], values["Stage"])
    assert stages == {"default": ("farebox-dev", "dev"), "prod": ("farebox", "prod")}


# ---- The rules of scripts/transform_template.py bite ----------------------------------------------------------------


def statement_of(template: Template, role: str, at: int) -> dict[str, Any]:
    policy = template["Resources"][role]["Properties"]["Policies"][0]["PolicyDocument"]
    found: dict[str, Any] = policy["Statement"][at]
    return found


def properties_of(template: Template, name: str) -> dict[str, Any]:
    found: dict[str, Any] = template["Resources"][name]["Properties"]
    return found


def provision(template: Template) -> None:
    properties_of(template, "KeysFunction")["SnapStart"] = {"ApplyOn": "PublishedVersions"}
    template["Resources"]["KeysFunctionAliaslive"] = {
        "Type": "AWS::Lambda::Alias",
        "Properties": {"FunctionName": {"Ref": "KeysFunction"}, "ProvisionedConcurrencyConfig": {}},
    }


BROKEN: dict[str, Callable[[Template], object]] = {
    "ProxyRole: Action with a wildcard": lambda t: statement_of(t, "ProxyRole", 1).update(Action="dynamodb:*"),
    "KeysRole: Resource with a wildcard": lambda t: statement_of(t, "KeysRole", 1).update(Resource=["*"]),
    "ScheduleRole: Resource with a wildcard": lambda t: statement_of(t, "ScheduleRole", 6)["Fn::If"][1].update(
        Resource={"Fn::Sub": "arn:${AWS::Partition}:ssm:::parameter/*"}
    ),
    "ProxyRole: Resource with a wildcard": lambda t: statement_of(t, "ProxyRole", 5).update(
        Resource={"Fn::Sub": "${UploadsBucket.Arn}/*"}
    ),
    "BillingRole: allows all but": lambda t: statement_of(t, "BillingRole", 1).update(NotAction="dynamodb:Scan"),
    "BillingRole: AWS's managed policies": lambda t: properties_of(t, "BillingRole").update(ManagedPolicyArns=["arn"]),
    "ProxyFunction: Timeout": lambda t: properties_of(t, "ProxyFunction").update(Timeout=901),
    "ProxyFunctionUrl: InvokeMode": lambda t: properties_of(t, "ProxyFunctionUrl").update(InvokeMode="STREAM"),
    "KeysFunction: has no log group": lambda t: properties_of(t, "KeysFunction").pop("LoggingConfig"),
    "KeysFunction: its log group": lambda t: properties_of(t, "KeysLogs").pop("RetentionInDays"),
    "KeysFunction: SnapStart with provisioned concurrency": provision,
    "KeysFunction: SnapStart with over 512 MB": lambda t: properties_of(t, "KeysFunction").update(
        SnapStart={"ApplyOn": "PublishedVersions"}, EphemeralStorage={"Size": 1024}
    ),
}


def test_the_template_breaks_no_rule(template: Template, rules: Any) -> None:
    assert rules.violations(template) == []


@pytest.mark.parametrize("wrong", BROKEN)
def test_each_rule_finds_what_it_is_for(template: Template, rules: Any, wrong: str) -> None:
    broken = copy.deepcopy(template)
    BROKEN[wrong](broken)
    [line] = rules.violations(broken)
    assert line.startswith(wrong)
