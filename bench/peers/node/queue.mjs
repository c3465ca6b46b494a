// The cost of a BullMQ job: node queue.mjs CASE JOBS. Prints one JSON line; bench/queue_ours.py explains the cases and the fields.
// The environment gives Redis (REDIS_URL), which this program empties, and its process id (REDIS_PID). Jobs do nothing.
// Queue and worker are in this process: CPU of Node is that of the client in `add*` and `bulk`, that of the worker in `proc*`, and of
// both in `lat`.
import { readFileSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { Queue, Worker } from 'bullmq';
import Redis from 'ioredis';

const [kind, jobs] = [process.argv[2], Number(process.argv[3])];
const BULK = 1000;
const WARM_JOBS = 500;
const SETTLE_MS = 1500;
const PAUSE_MS = 8;
const TICKS_PER_S = 100;
const LOCK_MS = 600_000; // of a job that is taken and never finished
const DATA = { messageId: '00000002-0000-4000-8000-000000000001', userIds: ['00000000-0000-4000-8000-000000000001'] };

const { hostname: host, port, password } = new URL(process.env.REDIS_URL);
const connection = { host, port: Number(port || 6379), password: password || undefined, maxRetriesPerRequest: null };
const redis = new Redis(connection);
await redis.flushall();
const queue = new Queue('bench', { connection, defaultJobOptions: { removeOnComplete: true, removeOnFail: 1000 } });
await queue.waitUntilReady();

function redisSeconds() {
  const stat = readFileSync(`/proc/${process.env.REDIS_PID}/stat`, 'utf8');
  const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
  return (Number(fields[11]) + Number(fields[12])) / TICKS_PER_S;
}

/** Figures of a stretch of work on `count` jobs; `role` is the field for the CPU of this process. */
async function measured(role, count, work) {
  const before = { node: process.cpuUsage(), redis: redisSeconds(), at: performance.now() };
  await work();
  const seconds = (performance.now() - before.at) / 1000;
  const node = process.cpuUsage(before.node);
  const [own, theirs] = [(node.user + node.system) / count, ((redisSeconds() - before.redis) * 1e6) / count];
  return {
    jobs: count, jobs_per_s: Math.round(count / seconds),
    [role]: rounded(own), redis_us: rounded(theirs), total_us: rounded(own + theirs),
  };
}
const rounded = (value, digits = 1) => Number(value.toFixed(digits));

async function oneByOne(count, inFlight) {
  let left = count;
  const add = async () => {
    while (left-- > 0) await queue.add('noop', DATA);
  };
  await Promise.all(Array.from({ length: inFlight }, add));
}

async function inBulk(count) {
  for (let at = 0; at < count; at += BULK) {
    await queue.addBulk(Array.from({ length: Math.min(BULK, count - at) }, () => ({ name: 'noop', data: DATA })));
  }
}

async function add(inFlight) {
  await oneByOne(WARM_JOBS, inFlight);
  await redis.flushall();
  return measured('client_us', jobs, () => oneByOne(jobs, inFlight));
}

async function bulk() {
  await inBulk(WARM_JOBS);
  await redis.flushall();
  return measured('client_us', jobs, () => inBulk(jobs));
}

/** A worker works off jobs that were added before it began. */
async function work(concurrency) {
  await inBulk(WARM_JOBS + jobs);
  let done = 0;
  let isWarm, isOver;
  const warm = new Promise((resolve) => (isWarm = resolve));
  const over = new Promise((resolve) => (isOver = resolve));
  const worker = new Worker('bench', async () => {}, { connection, concurrency, autorun: false });
  worker.on('error', (error) => console.error(error));
  worker.on('completed', () => {
    done += 1;
    if (done === WARM_JOBS) isWarm();
    if (done === WARM_JOBS + jobs) isOver();
  });
  await worker.waitUntilReady();
  worker.run();
  await warm;
  return measured('worker_us', jobs, () => over);
}

/** Jobs one at a time for a worker that waits. */
async function latency() {
  let begun;
  const worker = new Worker('bench', async () => begun(performance.now()), { connection, concurrency: 1 });
  worker.on('error', (error) => console.error(error));
  await worker.waitUntilReady();
  const starts = [];
  const calls = [];
  const one = async () => {
    const start = new Promise((resolve) => (begun = resolve));
    const at = performance.now();
    const called = queue.add('noop', DATA).then(() => performance.now());
    starts.push((await start) - at);
    calls.push((await called) - at);
    await sleep(PAUSE_MS);
  };
  for (let warm = 0; warm < 10; warm++) await one();
  await sleep(SETTLE_MS);
  starts.length = calls.length = 0;
  const figures = await measured('client_us', jobs, async () => {
    for (let number = 0; number < jobs; number++) await one();
  });
  return {
    ...figures,
    start_p50_ms: percentile(starts, 50), start_p99_ms: percentile(starts, 99),
    enqueue_p50_ms: percentile(calls, 50), enqueue_p99_ms: percentile(calls, 99),
  };
}
const percentile = (values, percent) =>
  rounded(values.toSorted((a, b) => a - b)[Math.max(1, Math.ceil((values.length * percent) / 100)) - 1], 3);

/** Bytes in Redis of a job that waits, and of one that a worker has taken. */
async function memory() {
  const worker = new Worker('bench', null, { connection, lockDuration: LOCK_MS });
  await worker.waitUntilReady();
  const before = await usedMemory();
  await inBulk(jobs);
  const waiting = await usedMemory();
  for (let taken = 0; taken < jobs; taken++) await worker.getNextJob('bench');
  if ((await queue.getActiveCount()) !== jobs) throw new Error('not all jobs are taken');
  const pending = await usedMemory();
  return { jobs, waiting_bytes: rounded((waiting - before) / jobs), pending_bytes: rounded((pending - before) / jobs) };
}

async function usedMemory() {
  const info = await redis.info('memory');
  const figure = (name) => Number(new RegExp(`${name}:(\\d+)`).exec(info)[1]);
  return figure('used_memory') - figure('mem_aof_buffer'); // the buffer grows with writes, not with jobs
}

const cases = {
  add1: () => add(1), add64: () => add(64), bulk,
  proc1: () => work(1), proc32: () => work(32),
  lat: latency, memory,
};
console.log(JSON.stringify(await cases[kind]()));
await redis.flushall();
process.exit(0);
