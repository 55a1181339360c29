"""Any endpoint that speaks as OpenAI does: vLLM, Ollama, another relay. What it does not have, it answers with 404."""

from farebox.vendors.vendor import Vendor, openai_door

OPENAI_COMPATIBLE = Vendor(name="openai-compatible", base_url=None, doors=(openai_door(),))
