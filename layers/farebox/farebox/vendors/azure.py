"""Azure OpenAI: OpenAI's dialect, the deployment's name in the path, the API's version in the query.

A channel's `rename` maps public names to deployments; base_url is the resource, https://NAME.openai.azure.com.
https://learn.microsoft.com/azure/ai-foundry/openai/reference
"""

from farebox.vendors.vendor import OPENAI_PATHS, Door, Vendor, header

VERSION = "?api-version={api_version}"
BY_DEPLOYMENT = {
    name: f"/openai/deployments/{{model}}{path}{VERSION}"
    for name, path in OPENAI_PATHS.items()
    if name not in ("responses", "moderations", "images.variations")
}

AZURE = Vendor(
    name="azure",
    base_url=None,
    doors=(
        Door(
            "openai",
            paths={**BY_DEPLOYMENT, "responses": "/openai/v1/responses"},
            auth=header("api-key"),
        ),
    ),
    sells="openai",
    reasoning_limit_param="max_completion_tokens",
    api_version="2024-10-21",
)
