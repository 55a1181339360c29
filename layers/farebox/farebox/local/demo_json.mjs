// What the demo upstream says where JSON is asked for: as little as fits the schema, with its words as every string.

const of = (type, text) =>
  ({ string: text, number: 0, integer: 0, boolean: false, array: [] })[[type].flat()[0]] ?? null;

// JSON Schema as structured outputs have it. What only a real model could fit (patterns, lengths) is not tried.
function fitting(schema, text, root) {
  if (typeof schema?.$ref === "string") {
    const target = schema.$ref
      .split("/")
      .slice(1)
      .reduce((at, name) => at?.[name], root);
    return fitting(target, text, root);
  }
  if ("const" in schema) return schema.const;
  if (schema.enum) return schema.enum[0];
  const choices = schema.anyOf ?? schema.oneOf;
  if (choices) return fitting(choices.find((each) => each.type === "null") ?? choices[0], text, root);
  if (schema.allOf) return fitting(schema.allOf[0], text, root);
  if (!schema.properties) return schema.type === "object" ? {} : of(schema.type, text);
  return Object.fromEntries(Object.entries(schema.properties).map(([name, each]) => [name, fitting(each, text, root)]));
}

/** JSON that fits the schema, with `text` as every string. */
export function jsonFor(schema, text) {
  try {
    return JSON.stringify(fitting(schema, text, schema));
  } catch {
    return JSON.stringify({ answer: text }); // a schema that leads to itself, or to nowhere
  }
}

/** The answer in the format asked for (`response_format` of chat, `text.format` of responses); null where none is. */
export function jsonIn(format, text) {
  if (format?.type === "json_object") return JSON.stringify({ answer: text });
  return format?.type === "json_schema" ? jsonFor(format.schema ?? format.json_schema?.schema ?? {}, text) : null;
}
