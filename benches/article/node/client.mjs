// A pool of connections, and an item: a line to the server and one back. "no" is a failure.
import fs from 'node:fs';
import net from 'node:net';

let idle = [];
let port;
export let begun = 0;

export async function connect(count, at) {
  port = at;
  for (let i = 0; i < count; i++) {
    const socket = net.connect({ port, host: '127.0.0.1', noDelay: true });
    await new Promise((resolve, reject) => socket.once('connect', resolve).once('error', reject));
    idle.push(socket);
  }
}

export async function item(n) {
  begun++;
  const socket = idle.pop();
  const answer = new Promise((resolve) => socket.once('data', resolve));
  socket.write(`${n}\n`);
  const line = (await answer).toString();
  idle.push(socket);
  if (line !== 'ok\n') throw new Error(`item ${n}: ${line.trim()}`);
}

export function* numbers(count) {
  for (let n = 0; n < count; n++) yield n;
}

// Runs the work, and tells how long it took, how many items were begun, and what came of it.
export async function main(work) {
  const [limit, count, port] = process.argv.slice(2).map(Number);
  await connect(limit, port);
  const start = process.hrtime.bigint();
  let told = 'done';
  try {
    await work(count, limit);
  } catch (error) {
    told = error.message;
  }
  const seconds = Number(process.hrtime.bigint() - start) / 1e9;
  await new Promise((resolve) => setTimeout(resolve, told === 'done' ? 0 : 100)); // the others
  const peak = fs.readFileSync('/proc/self/status', 'utf8').match(/VmHWM:\s*(\d+)/)[1];
  console.log(`${seconds} ${begun} ${peak} ${told}`);
  process.exit(0);
}
