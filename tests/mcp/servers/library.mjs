// A server of plain JavaScript, without any package: JSON-RPC, a line each, over stdin and stdout.
import { appendFileSync, readFileSync } from "node:fs";
import { createInterface } from "node:readline";

const tools = [
  {
    name: "find",
    description: "Find a book.",
    inputSchema: {
      type: "object",
      properties: { title: { type: "string" } },
      required: ["title"],
    },
    annotations: { readOnlyHint: true },
  },
  {
    name: "lend",
    description: "Lend a book.",
    inputSchema: {
      type: "object",
      properties: { title: { type: "string" }, days: { type: "integer", default: 14 } },
      required: ["title"],
    },
  },
];

if (process.env.ACTS) {
  tools.push({ name: "hold", description: "Hold it, at first for ever.", inputSchema: { type: "object" } });
}

const send = (message) => process.stdout.write(JSON.stringify({ jsonrpc: "2.0", ...message }) + "\n");

const act = (what) => process.env.ACTS && appendFileSync(process.env.ACTS, what + "\n");

const call = ({ name, arguments: given, _meta: meta }) => {
  const isFirst = name === "hold" && !readFileSync(process.env.ACTS, "utf8").includes("hold");
  act(name);
  if (isFirst) return undefined;
  if (name === "hold") return { content: [{ type: "text", text: `held by ${meta["crew/idempotency-key"]}` }] };
  if (typeof given?.title !== "string") {
    return { content: [{ type: "text", text: "which title?" }], isError: true };
  }
  if (meta?.progressToken !== undefined) {
    send({ method: "notifications/progress", params: { progressToken: meta.progressToken, progress: 1 } });
  }
  const found = { title: given.title, days: given.days ?? null };
  return { content: [], structuredContent: found };
};

const answers = {
  initialize: ({ protocolVersion }) => ({
    protocolVersion,
    capabilities: { tools: {} },
    serverInfo: { name: "library", version: process.version },
  }),
  "tools/list": () => ({ tools }),
  "tools/call": call,
  ping: () => ({}),
};

createInterface({ input: process.stdin }).on("line", (line) => {
  const { id, method, params } = JSON.parse(line);
  if (id === undefined) return;
  const answer = answers[method];
  const result = answer?.(params ?? {});
  if (result) send({ id, result });
  else if (!answer) send({ id, error: { code: -32601, message: `no method ${method}` } });
});
