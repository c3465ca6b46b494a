// Bytes in Redis of a BullMQ job that a worker has taken and not finished: node pending.mjs JOBS. Prints one JSON line.
// Redis: 127.0.0.1:REDIS_PORT, which it flushes. Runs in the folder of the peer's bench.mjs, with that program's jobs.
import { Queue, Worker } from 'bullmq';
import Redis from 'ioredis';

const jobs = Number(process.argv[2]);
const connection = { host: '127.0.0.1', port: Number(process.env.REDIS_PORT), maxRetriesPerRequest: null };
const redis = new Redis(connection.port);
await redis.flushall();
const figure = (info, name) => Number(new RegExp(`${name}:(\\d+)`).exec(info)[1]);
const memory = async () => {
  const info = await redis.info('memory');
  return figure(info, 'used_memory') - figure(info, 'mem_aof_buffer'); // as bench/queue_ours.py does
};
const data = { messageId: '00000002-0000-4000-8000-000000000001', userIds: ['00000000-0000-4000-8000-000000000001'] };
const queue = new Queue('bench', { connection, defaultJobOptions: { removeOnComplete: true, removeOnFail: 1000 } });
const worker = new Worker('bench', null, { connection, lockDuration: 600_000 });
await worker.waitUntilReady();
const before = await memory();
for (let i = 0; i < jobs; i += 1000) {
  await queue.addBulk(Array.from({ length: Math.min(1000, jobs - i) }, () => ({ name: 'noop', data })));
}
for (let i = 0; i < jobs; i++) await worker.getNextJob('token');
const bytes = ((await memory()) - before) / jobs;
console.log(JSON.stringify({ pending: await queue.getActiveCount(), bytes: +bytes.toFixed(1) }));
await redis.flushall();
process.exit(0);
