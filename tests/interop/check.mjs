// The second judge: for each stream on standard input, what eventsource-parser makes of it.
//
// In, one a line:  {"chunks": [base64, …]}: the bytes of a stream, as they were cut.
// Out, one a line: {"events": [[type, data, id or null], …], "retries": […], "comments": […],
//                   "errors": […]}.

import { createInterface } from "node:readline";
import { createParser } from "eventsource-parser";

function read(chunks) {
  const seen = { events: [], retries: [], comments: [], errors: [] };
  const parser = createParser({
    onEvent: ({ event, data, id }) => seen.events.push([event ?? "message", data, id ?? null]),
    onRetry: (retry) => seen.retries.push(retry),
    onComment: (comment) => seen.comments.push(comment),
    onError: (error) => seen.errors.push(error.type),
  });
  const decoder = new TextDecoder();
  for (const chunk of chunks) {
    parser.feed(decoder.decode(Buffer.from(chunk, "base64"), { stream: true }));
  }
  return seen;
}

for await (const line of createInterface({ input: process.stdin })) {
  console.log(JSON.stringify(read(JSON.parse(line).chunks)));
}
