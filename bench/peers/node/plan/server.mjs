// The plan: the service before ours as its own improvement plan wants it. Socket.IO with the Redis adapter, Express, pg, ioredis and
// BullMQ, without NestJS, which would only cost more. Each process takes sockets, answers HTTP and works off jobs.
import { createServer } from 'node:http';
import { createAdapter } from '@socket.io/redis-adapter';
import { Queue, Worker } from 'bullmq';
import compression from 'compression';
import express from 'express';
import { Server } from 'socket.io';
import { sizeOf } from '../database.mjs';
import { Cache } from './cache.mjs';
import { Conversations, NotParticipant } from './conversations.mjs';
import { Gateway } from './gateway.mjs';

const WORTH_COMPRESSING_BYTES = 1024;
const JOBS_AT_ONCE = 10;

const cache = new Cache();
const conversations = new Conversations(cache);
const jobs = new URL(process.env.REDIS_URL);
const connection = { host: jobs.hostname, port: Number(jobs.port || 6379), password: jobs.password || undefined };
const queue = new Queue('messages', {
  connection,
  defaultJobOptions: { attempts: 3, backoff: { type: 'exponential', delay: 1000 }, removeOnComplete: true, removeOnFail: 1000 },
});

const app = express();
app.disable('etag');
app.disable('x-powered-by');
app.use(compression({ threshold: WORTH_COMPRESSING_BYTES }));
app.use((request, response, next) => {
  request.user = request.headers['x-user-id'];
  if (request.user) next();
  else response.sendStatus(401);
});
const json = (response, text) => response.set('content-type', 'application/json; charset=utf-8').send(text);
app.get('/conversations', async ({ user, query }, response) => {
  json(response, await conversations.list(user, sizeOf(query.limit), Number(query.offset ?? 0)));
});
app.get('/conversations/:id', async ({ user, params }, response) => json(response, await conversations.one(params.id, user)));
app.get('/conversations/:id/messages', async ({ user, params, query }, response) => {
  response.json(await conversations.history(params.id, user, sizeOf(query.limit), query.cursor));
});
app.use((error, _request, response, _next) => {
  response.status(error instanceof NotParticipant ? 403 : 500).json({ error: error.message });
});

const server = createServer(app);
const io = new Server(server, {
  adapter: createAdapter(await cache.connection(), await cache.connection()),
  perMessageDeflate: false,
  serveClient: false,
  transports: ['websocket'],
});
const gateway = new Gateway(io, cache, conversations, queue);
const worker = new Worker('messages', (job) => gateway.deliverLater(job.data), { connection, concurrency: JOBS_AT_ONCE });
worker.on('error', (error) => console.error('BullMQ', error.message));

server.listen(Number(process.env.PORT), '127.0.0.1');
process.once('SIGTERM', () => process.exit(0));
