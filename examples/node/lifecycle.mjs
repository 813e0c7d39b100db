// Walk one service through its whole life over the socket of `reeve serve`, and print every answer and event.
//
// Needs Node 18 and the package @msgpack/msgpack. Start a server and run this:
//
//     reeve serve --dev &
//     cd examples/node && npm install && node lifecycle.mjs ../../reeve-dev/reeve.sock
//
// The socket may be named by REEVE_SOCKET too; the organization is REEVE_ORG_ID, or a new one.

import { decodeMultiStream, encode } from "@msgpack/msgpack";
import { once } from "node:events";
import net from "node:net";
import process from "node:process";

// MessagePack-RPC: request [0, id, method, [params]], response [1, id, error, result], notification [2, method, [params]].
class Client {
  #socket;
  #lastId = 0;
  #closed = false;
  #waiting = new Map(); // id -> { resolve, reject }
  onEvent = () => {};

  async connect(path) {
    this.#socket = net.connect(path);
    await once(this.#socket, "connect");
    this.#receive().catch((error) => this.#closed || fail(error));
  }

  async #receive() {
    for await (const [kind, ...rest] of decodeMultiStream(this.#socket)) {
      if (kind === 1) {
        const [id, error, result] = rest;
        const { resolve, reject } = this.#waiting.get(id);
        this.#waiting.delete(id);
        if (error) reject(Object.assign(new Error(`${error.code}: ${error.field ?? ""} ${error.message}`), error));
        else resolve(result);
      } else if (rest[0] === "events") {
        for (const event of rest[1][0].events) this.onEvent(event);
      }
    }
    if (!this.#closed) fail(new Error("the server has closed the connection"));
  }

  call(method, params = {}) {
    const id = ++this.#lastId;
    this.#socket.write(encode([0, id, method, [params]]));
    return new Promise((resolve, reject) => this.#waiting.set(id, { resolve, reject }));
  }

  close() {
    this.#closed = true;
    this.#socket.destroy();
  }
}

function fail(error) {
  console.error(error.message);
  process.exit(1);
}

const client = new Client();
try {
  await client.connect(process.argv[2] ?? process.env.REEVE_SOCKET);
  const hello = await client.call("hello");
  console.log(`${hello.product} ${hello.version}, protocol ${hello.protocol}, ${hello.methods.length} methods`);
  const organizationId =
    process.env.REEVE_ORG_ID ?? (await client.call("organization.create", { name: "example" })).id;

  // Events say when a state is reached; nobody asks again and again.
  const reached = [];
  let wake = () => {};
  client.onEvent = (event) => {
    console.log(`   ${event.sequence} ${event.type}: ${event.from ?? ""} -> ${event.to ?? ""}`);
    reached.push(event.to);
    wake();
  };
  const until = async (state) => {
    while (!reached.includes(state)) await new Promise((resolve) => (wake = resolve));
    reached.length = 0;
  };
  await client.call("event.watch", { organizationId, from: hello.lastSequence + 1 });

  const { service } = await client.call("service.create", {
    organizationId,
    name: "example",
    provider: "aws",
    region: "us-east-1",
    tier: "development",
    idempotencyKey: `example-node-${process.pid}`,
  });
  await until("running");
  const steps = { stop: "stopped", start: "running" };
  for (const [method, state] of [...Object.entries(steps), ["stop", "stopped"], ["delete", "gone"]]) {
    console.log(`-> service.${method}`);
    await client.call(`service.${method}`, { organizationId, serviceId: service.id });
    await until(state);
  }
  client.close();
} catch (error) {
  fail(error);
}
