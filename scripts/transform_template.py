"""Turns template.yaml into the plain CloudFormation that AWS makes of it, and holds that against our own rules.

cfn-lint misses in a SAM template what it finds in the transformed one (a timeout that is too long, an unknown invoke
mode), and neither SAM nor cfn-lint knows what `violations` knows. Runs in .venv-aws, which only `transform` needs:
python scripts/transform_template.py TEMPLATE OUT.
"""

import json
import os
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

Template = dict[str, Any]
Resource = dict[str, Any]


class Part(NamedTuple):
    """One resource, as a rule sees it."""

    name: str
    properties: dict[str, Any]
    resources: dict[str, Resource]


# Where the transform wants uploaded code; what it says is not looked at.
PLACEHOLDER = "s3://bucket/key"
CODE_PROPERTIES = {"AWS::Serverless::Function": "CodeUri", "AWS::Serverless::LayerVersion": "ContentUri"}

MAX_TIMEOUT_S = 900
SNAPSTART_MAX_STORAGE_MB = 512
FOLDER = re.compile(r"\$\{[A-Za-z]+Bucket\.Arn\}/[a-z]+/\*")
INVOKE_MODES = {"BUFFERED", "RESPONSE_STREAM"}


def transform(path: Path) -> Template:
    """What AWS::Serverless makes of the template at `path`, computed here, without credentials."""
    from samtranslator.parser.parser import Parser
    from samtranslator.translator.translator import Translator
    from samtranslator.yaml_helper import yaml_parse

    # The transform asks for a region, though nothing here depends on which.
    os.environ.setdefault("AWS_DEFAULT_REGION", "us-east-1")
    source = yaml_parse(path.read_text())
    for resource in source["Resources"].values():
        if place := CODE_PROPERTIES.get(resource["Type"]):
            resource["Properties"][place] = PLACEHOLDER
    # An empty map of managed policies: the template names none, and fetching the real one needs an account.
    transformed: Template = Translator(managed_policy_map={}, sam_parser=Parser()).translate(
        source, parameter_values={}
    )
    return transformed


def violations(template: Template) -> list[str]:
    """What is wrong with a transformed template, one line each; nothing when all is well."""
    resources: dict[str, Resource] = template["Resources"]
    return [
        f"{name}: {wrong}"
        for name, resource in resources.items()
        for rule in RULES.get(resource["Type"], ())
        for wrong in rule(Part(name, resource.get("Properties", {}), resources))
    ]


def of_type(resources: dict[str, Resource], kind: str) -> Iterator[tuple[str, dict[str, Any]]]:
    for name, resource in resources.items():
        if resource["Type"] == kind:
            yield name, resource.get("Properties", {})


def as_list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def branches(value: Any) -> list[Any]:
    """The values that an Fn::If may stand for, or the value itself."""
    if isinstance(value, dict) and "Fn::If" in value:
        return [leaf for option in value["Fn::If"][1:] for leaf in branches(option)]
    return [] if value == {"Ref": "AWS::NoValue"} else [value]


def statements(role: dict[str, Any]) -> list[dict[str, Any]]:
    """The statements of a role's inline policies, whatever the conditions of the stack."""
    return [
        statement
        for policy in role.get("Policies", [])
        for listed in as_list(policy["PolicyDocument"]["Statement"])
        for statement in branches(listed)
    ]


def is_folder(resource: Any) -> bool:
    """Whether it is the objects in one folder of a bucket of this template, which have no other name."""
    text = resource.get("Fn::Sub") if isinstance(resource, dict) else None
    return isinstance(text, str) and FOLDER.fullmatch(text) is not None


def names_everything(role: dict[str, Any]) -> Iterator[str]:
    for statement in statements(role):
        for field in ("Action", "Resource"):
            wild = [each for each in as_list(statement[field]) if "*" in json.dumps(each) and not is_folder(each)]
            if wild:
                yield f"{field} with a wildcard: {json.dumps(wild)}"
        if {"NotAction", "NotResource"} & statement.keys():
            yield "allows all but what it names"


def check_role(part: Part) -> Iterator[str]:
    yield from names_everything(part.properties)
    if managed := part.properties.get("ManagedPolicyArns"):
        yield f"AWS's managed policies name whole services: {json.dumps(managed)}"


def check_logs(part: Part) -> Iterator[str]:
    group = part.properties.get("LoggingConfig", {}).get("LogGroup", {}).get("Ref")
    if part.resources.get(group, {}).get("Type") != "AWS::Logs::LogGroup":
        yield "has no log group of this template, so Lambda would make one that is kept forever"
    elif "RetentionInDays" not in part.resources[group]["Properties"]:
        yield f"its log group {group} is kept forever"


def check_timeout(part: Part) -> Iterator[str]:
    if part.properties.get("Timeout", 3) > MAX_TIMEOUT_S:
        yield f"Timeout is over {MAX_TIMEOUT_S} s"


def check_snapstart(part: Part) -> Iterator[str]:
    """Both are refused only when the stack is deployed."""
    if part.properties.get("SnapStart", {}).get("ApplyOn", "None") == "None":
        return
    if part.properties.get("EphemeralStorage", {}).get("Size", SNAPSTART_MAX_STORAGE_MB) > SNAPSTART_MAX_STORAGE_MB:
        yield f"SnapStart with over {SNAPSTART_MAX_STORAGE_MB} MB of /tmp"
    for kind in ("AWS::Lambda::Alias", "AWS::Lambda::Version"):
        for other, properties in of_type(part.resources, kind):
            if properties.get("FunctionName") == {"Ref": part.name} and "ProvisionedConcurrencyConfig" in properties:
                yield f"SnapStart with provisioned concurrency ({other})"


def check_url(part: Part) -> Iterator[str]:
    mode = part.properties.get("InvokeMode", "BUFFERED")
    if mode not in INVOKE_MODES:
        yield f"InvokeMode is {mode!r}"


Rule = Callable[[Part], Iterator[str]]
RULES: dict[str, tuple[Rule, ...]] = {
    "AWS::IAM::Role": (check_role,),
    "AWS::Lambda::Function": (check_logs, check_timeout, check_snapstart),
    "AWS::Lambda::Url": (check_url,),
}


def main(source: str, out: str) -> int:
    template = transform(Path(source))
    Path(out).parent.mkdir(parents=True, exist_ok=True)
    Path(out).write_text(json.dumps(template, indent=1))
    wrong = violations(template)
    for line in wrong:
        print(f"{source}: {line}", file=sys.stderr)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
