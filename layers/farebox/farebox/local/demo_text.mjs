// The demo upstream's words: what it says, how many tokens that is, and the doors that answer with text or numbers.
import { createHash, randomUUID } from "node:crypto";
import { now, sendEvents, sendJson } from "./demo_http.mjs";
import { jsonFor, jsonIn } from "./demo_json.mjs";

const DIMENSIONS = 256;
const HEARD_CHARS = 80;
const BYTES_PER_TOKEN = 4;
const CATEGORIES = [
  "harassment",
  "harassment/threatening",
  "hate",
  "hate/threatening",
  "illicit",
  "illicit/violent",
  "self-harm",
  "self-harm/instructions",
  "self-harm/intent",
  "sexual",
  "sexual/minors",
  "violence",
  "violence/graphic",
];

export const IS_A_DEMO =
  "这是 Farebox 内置的演示上游，不是真实模型。 This is Farebox's built-in demo upstream, not a model.";
export const tokens = (text) => Math.max(1, Math.ceil(Buffer.byteLength(text) / BYTES_PER_TOKEN));
export const words = (text) => text.split(/(?<=[ 。，！…])/u);

/** A list of content parts, or a string, as text. */
export const textOf = (content) =>
  typeof content === "string" ? content : (content ?? []).map((part) => part.text ?? "").join(" ");

const usage = (prompt, completion) => ({
  prompt_tokens: prompt,
  completion_tokens: completion,
  total_tokens: prompt + completion,
});

/** The answer to what was said, no longer than `limit` tokens, as text or JSON. `whole`: whether it was not cut. */
function answerTo(said, limit, format) {
  const letters = [...said.trim()];
  const heard = letters.length > HEARD_CHARS ? `${letters.slice(0, HEARD_CHARS).join("")}…` : letters.join("");
  const spoken = `你好！${IS_A_DEMO} You said: ${heard}`;
  const all = jsonIn(format, spoken) ?? spoken;
  let text = "";
  for (const letter of all) {
    if (limit && tokens(text + letter) > limit) return { text, whole: false };
    text += letter;
  }
  return { text, whole: true };
}

// The tool that must be called, if one must. Left to itself the demo calls none.
function forcedTool({ tool_choice: choice, tools }) {
  const named = choice?.function?.name;
  const functions = (tools ?? []).map((tool) => tool.function).filter(Boolean);
  return choice === "required" ? functions[0] : named && functions.find((each) => each.name === named);
}

/** Chat, for aimock to send. */
export function chat(request) {
  const said = textOf(request.messages.findLast((message) => message.role === "user")?.content);
  const prompt = request.messages.reduce((sum, message) => sum + 4 + tokens(textOf(message.content)), 3);
  const tool = forcedTool(request);
  if (tool) {
    const call = { name: tool.name, arguments: jsonFor(tool.parameters ?? {}, IS_A_DEMO) };
    return { toolCalls: [call], usage: usage(prompt, tokens(call.name + call.arguments)) };
  }
  const { text, whole } = answerTo(said, request.max_completion_tokens ?? request.max_tokens, request.response_format);
  return { content: text, finishReason: whole ? "stop" : "length", usage: usage(prompt, tokens(text)) };
}

export async function completions(body, response) {
  const prompt = typeof body.prompt === "string" ? body.prompt : JSON.stringify(body.prompt);
  const { text, whole } = answerTo(prompt, body.max_tokens);
  const head = { id: `cmpl-demo-${randomUUID()}`, object: "text_completion", created: now(), model: body.model };
  const used = usage(tokens(prompt), tokens(text));
  const choice = (text, finish_reason) => [{ text, index: 0, logprobs: null, finish_reason }];
  const reason = whole ? "stop" : "length";
  if (!body.stream) return sendJson(response, { ...head, choices: choice(text, reason), usage: used });
  const chunks = words(text).map((word) => ({ ...head, choices: choice(word, null) }));
  chunks.push({ ...head, choices: choice("", reason) });
  if (body.stream_options?.include_usage) chunks.push({ ...head, choices: [], usage: used });
  await sendEvents(response, chunks, { end: "data: [DONE]\n\n" });
}

// ── Responses ───────────────────────────────────────────────────────────────────────────────────────────────────────

const itemText = (item) => textOf(item.content ?? item.output) + (item.arguments ?? "");

function responseTo(body) {
  const items = typeof body.input === "string" ? [{ role: "user", content: body.input }] : body.input;
  const said = textOf(items.findLast((item) => item.role === "user")?.content);
  const { text, whole } = answerTo(said, body.max_output_tokens, body.text?.format);
  const sent =
    items.reduce((sum, item) => sum + 4 + tokens(itemText(item)), 3) +
    (body.instructions ? tokens(body.instructions) : 0);
  const came = tokens(text);
  const part = { type: "output_text", annotations: [], logprobs: [], text };
  const status = whole ? "completed" : "incomplete";
  const item = { id: `msg_demo_${randomUUID()}`, type: "message", status, role: "assistant", content: [part] };
  return {
    id: `resp_demo_${randomUUID()}`,
    object: "response",
    created_at: now(),
    status,
    background: false,
    error: null,
    incomplete_details: whole ? null : { reason: "max_output_tokens" },
    instructions: body.instructions ?? null,
    max_output_tokens: body.max_output_tokens ?? null,
    max_tool_calls: body.max_tool_calls ?? null,
    model: body.model,
    output: [item],
    parallel_tool_calls: body.parallel_tool_calls ?? true,
    previous_response_id: null,
    reasoning: { effort: body.reasoning?.effort ?? null, summary: null },
    service_tier: "default",
    store: false,
    temperature: body.temperature ?? 1,
    text: body.text ?? { format: { type: "text" } },
    tool_choice: body.tool_choice ?? "auto",
    tools: body.tools ?? [],
    top_p: body.top_p ?? 1,
    truncation: body.truncation ?? "disabled",
    usage: {
      input_tokens: sent,
      input_tokens_details: { cached_tokens: 0 },
      output_tokens: came,
      output_tokens_details: { reasoning_tokens: 0 },
      total_tokens: sent + came,
    },
    user: body.user ?? null,
    metadata: body.metadata ?? {},
  };
}

function responseEvents(whole) {
  const [item] = whole.output;
  const [part] = item.content;
  const begun = { ...whole, status: "in_progress", incomplete_details: null, output: [], usage: null };
  const at = { item_id: item.id, output_index: 0, content_index: 0 };
  return [
    { type: "response.created", response: begun },
    { type: "response.in_progress", response: begun },
    { type: "response.output_item.added", output_index: 0, item: { ...item, status: "in_progress", content: [] } },
    { type: "response.content_part.added", ...at, part: { ...part, text: "" } },
    ...words(part.text).map((delta) => ({ type: "response.output_text.delta", ...at, delta, logprobs: [] })),
    { type: "response.output_text.done", ...at, text: part.text, logprobs: [] },
    { type: "response.content_part.done", ...at, part },
    { type: "response.output_item.done", output_index: 0, item },
    { type: `response.${whole.status}`, response: whole },
  ].map((event, sequence_number) => ({ ...event, sequence_number }));
}

export async function responses(body, response) {
  const whole = responseTo(body);
  if (body.stream) await sendEvents(response, responseEvents(whole), { named: true });
  else sendJson(response, whole);
}

// ── Numbers ─────────────────────────────────────────────────────────────────────────────────────────────────────────

function vectorOf(text, dimensions) {
  const vector = new Float32Array(dimensions);
  for (let index = 0; index < dimensions; index += 8) {
    const digest = createHash("sha256").update(`${index}|${text}`).digest();
    for (let offset = 0; offset < 8 && index + offset < dimensions; offset++) {
      vector[index + offset] = digest.readInt32LE(offset * 4) / 2 ** 31;
    }
  }
  const norm = Math.hypot(...vector);
  return vector.map((value) => value / norm);
}

export async function embeddings(body, response) {
  const inputs = Array.isArray(body.input) && typeof body.input[0] !== "number" ? body.input : [body.input];
  const counts = inputs.map((input) => (Array.isArray(input) ? input.length : tokens(input)));
  const data = inputs.map((input, index) => {
    const vector = vectorOf(JSON.stringify(input), body.dimensions ?? DIMENSIONS);
    const embedding = body.encoding_format === "base64" ? Buffer.from(vector.buffer).toString("base64") : [...vector];
    return { object: "embedding", index, embedding };
  });
  const prompt_tokens = counts.reduce((sum, count) => sum + count, 0);
  sendJson(response, {
    object: "list",
    data,
    model: body.model,
    usage: { prompt_tokens, total_tokens: prompt_tokens },
  });
}

/** Nothing is ever flagged. A list of parts (objects) is one input, a list of texts is as many. */
export async function moderations(body, response) {
  const several = Array.isArray(body.input) && typeof body.input[0] === "string";
  const each = (value) => Object.fromEntries(CATEGORIES.map((category) => [category, value]));
  const result = () => ({
    flagged: false,
    categories: each(false),
    category_scores: each(0),
    category_applied_input_types: each([]),
  });
  sendJson(response, {
    id: `modr-demo-${randomUUID()}`,
    model: body.model ?? "omni-moderation-latest",
    note: IS_A_DEMO,
    results: Array.from({ length: several ? body.input.length : 1 }, result),
  });
}
