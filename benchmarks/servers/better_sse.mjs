// better-sse on Node's own http server; with a certificate and its key on its http2 server.
//
//     node better_sse.mjs PORT [CERTIFICATE KEY]

import { readFileSync } from "node:fs";
import { createServer } from "node:http";
import { createSecureServer } from "node:http2";
import { createInterface } from "node:readline";
import { createChannel, createSession } from "better-sse";

const MARKER = "~";
const channel = createChannel();
let number = 0;

// The text as it is, as for every other server: better-sse's default would make JSON of it.
const asIs = { serializer: (text) => text };

const [port, certificate, key] = process.argv.slice(2);

async function answer(request, response) {
	channel.register(await createSession(request, response, asIs));
}

function createSealed() {
	const files = { cert: readFileSync(certificate), key: readFileSync(key) };
	return createSecureServer({ ...files, allowHTTP1: true }, answer);
}

const server = certificate ? createSealed() : createServer(answer);

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

server.listen({ port: Number(port), host: "127.0.0.1", backlog: 4096 });
