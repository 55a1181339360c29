// The demo upstream's HTTP: requests read whole, JSON or a form; answers as JSON, bytes, or server-sent events.

const BODY_BYTES_MAX = 64 * 1024 * 1024;
export const now = () => Math.floor(Date.now() / 1000);
const pause = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

async function bytesOf(request) {
  const pieces = [];
  let size = 0;
  for await (const piece of request) {
    size += piece.length;
    if (size > BODY_BYTES_MAX) throw new Error("too large");
    pieces.push(piece);
  }
  return Buffer.concat(pieces);
}

// A form's fields as the members they stand for: "name[]" is a list, a file is {filename, bytes}.
async function formOf(bytes, contentType) {
  const form = await new Response(bytes, { headers: { "content-type": contentType } }).formData();
  const body = {};
  for (const [name, value] of form) {
    const read =
      typeof value === "string" ? value : { filename: value.name, bytes: Buffer.from(await value.arrayBuffer()) };
    if (name.endsWith("[]")) (body[name.slice(0, -2)] ??= []).push(read);
    else body[name] = read;
  }
  return body;
}

async function bodyOf(request) {
  const contentType = request.headers["content-type"] ?? "";
  const bytes = await bytesOf(request);
  return contentType.startsWith("multipart/form-data")
    ? formOf(bytes, contentType)
    : JSON.parse(bytes.toString("utf8"));
}

/** What aimock mounts at a path: `answer(body, response)` gets what was sent, read. What cannot be read is 400. */
export function mounted(answer) {
  return {
    async handleRequest(request, response) {
      try {
        await answer(await bodyOf(request), response);
      } catch {
        if (response.headersSent) response.destroy();
        else
          sendJson(
            response,
            { error: { message: "bad request", type: "invalid_request_error", param: null, code: null } },
            400,
          );
      }
      return true;
    },
  };
}

export function sendJson(response, document, status = 200) {
  response.writeHead(status, { "content-type": "application/json" });
  response.end(JSON.stringify(document));
}

/** Without a length, as speech comes: in pieces while it is made. */
export function sendBytes(response, contentType, bytes) {
  response.writeHead(200, { "content-type": contentType });
  const piece = 16 * 1024;
  for (let start = 0; start < bytes.length; start += piece) response.write(bytes.subarray(start, start + piece));
  response.end();
}

/** Events, each in its turn; `named`: their type stands in front of them as well; `end`: what comes last. */
export async function sendEvents(response, events, { named = false, end = "" } = {}) {
  response.writeHead(200, { "content-type": "text/event-stream" });
  for (const event of events) {
    if (response.destroyed) return;
    response.write(`${named ? `event: ${event.type}\n` : ""}data: ${JSON.stringify(event)}\n\n`);
    await pause(10);
  }
  response.end(end);
}
