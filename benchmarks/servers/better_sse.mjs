// better-sse on Node's own http server.
//
//     node better_sse.mjs PORT

import { createServer } from "node:http";
import { createInterface } from "node:readline";
import { createChannel, createSession } from "better-sse";

const MARKER = "~";
const channel = createChannel();
let number = 0;

// The text as it is, as for every other server: better-sse's default would make JSON of it.
const asIs = { serializer: (text) => text };

const server = createServer(async (request, response) => {
	channel.register(await createSession(request, response, asIs));
});

function payload(size) {
	const order = String(number++).padStart(10, "0");
	const time = String(process.hrtime.bigint()).padStart(20, "0");
	return `${order} ${time} `.padEnd(size - 1, "x") + MARKER;
}

function publish(count, size) {
	for (let i = 0; i < count; i++) channel.broadcast(payload(size), "message");
}

createInterface({ input: process.stdin }).on("line", (line) => {
	const [, count, size] = line.split(" ");
	publish(Number(count), Number(size));
});

server.listen({ port: Number(process.argv[2]), host: "127.0.0.1", backlog: 4096 });
