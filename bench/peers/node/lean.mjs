// Lean Node: ws and pg in one process, JSON, participants in memory, no Redis. As little work for a message as Node allows, and no
// more promises: no order among conversations' messages, no marks, nothing is sent again.
// BATCH=1: sends that wait while a statement is under way share the next one (same promise to each: committed before its ack).
import { randomUUID } from 'node:crypto';
import { createServer } from 'node:http';
import { WebSocketServer } from 'ws';
import { Database, MESSAGE, PARTICIPANTS, USERS_OF, cursorAfter, newest, page, positionOf, sizeOf, unread } from './database.mjs';

const COLUMNS = 'id, conversation_id, sender_id, encrypted_content, content_type, nonce, ephemeral_public_key';
const asText = (select) => `select x.id, x.created_at::text as created_at, row_to_json(x)::text as body from (${select}) x`;
const database = new Database({
  participants: USERS_OF,
  send: `with moved as (update conversations set updated_at = now() where id = $2)
    insert into messages (${COLUMNS}) values ($1, $2, $3, $4, $5, $6, $7) returning id, created_at`,
  // Rows of one statement differ by a microsecond, so that their order is that of their arrival.
  sendAll: `with theirs as (select id from conversations where id = any($2::uuid[]) order by id for no key update),
      moved as (update conversations c set updated_at = now() from theirs where c.id = theirs.id)
    insert into messages (${COLUMNS}, created_at)
    select i, c, s, e, t, n, k, now() + place * interval '1 microsecond'
    from unnest($1::uuid[], $2::uuid[], $3::uuid[], $4::text[], $5::text[], $6::text[], $7::text[])
      with ordinality as sent (i, c, s, e, t, n, k, place)
    returning id, created_at`,
  firstPage: asText(page(true)),
  laterPage: asText(page(false)),
  list: `select coalesce(json_agg(x), '[]')::text as body from (
    select c.id, c.type, case c.type when 'group' then c.name else coalesce(o.display_name, o.username, 'Unknown') end as name,
      case c.type when 'group' then c.avatar_url else o.avatar_url end as avatar_url, ${PARTICIPANTS} as participants,
      (select row_to_json(l) from (${newest('c.id')}) l) as last_message,
      (${unread('c.id', '$1', 'c.last_read_at')}) as unread_count, c.created_at, c.updated_at
    from (select c.*, mine.last_read_at from conversation_participants mine join conversations c on c.id = mine.conversation_id
          where mine.user_id = $1 order by c.updated_at desc limit $2) c
    left join lateral (select u.* from conversation_participants p join users u on u.id = p.user_id
      where c.type = 'direct' and p.conversation_id = c.id and p.user_id <> $1 limit 1) o on true
    order by c.updated_at desc) x`,
});

const KEPT_MS = 300_000;
const participants = new Map(); // conversation -> { users, until }
async function participantsOf(conversation, user) {
  let kept = participants.get(conversation);
  if (kept === undefined || kept.until < Date.now()) {
    const users = new Set((await database.rows('participants', conversation)).map((row) => row.user_id));
    kept = { users, until: Date.now() + KEPT_MS };
    if (users.size) participants.set(conversation, kept);
  }
  if (!kept.users.has(user)) throw new Error('not a participant of this conversation');
  return kept.users;
}

const MOST_AT_ONCE = 500;
let queued = [];
let isStoring = false;
const store =
  process.env.BATCH === '1'
    ? (values) =>
        new Promise((resolve, reject) => {
          queued.push({ values, resolve, reject });
          if (!isStoring) {
            isStoring = true;
            setImmediate(storeAll);
          }
        })
    : async (values) => (await database.rows('send', ...values))[0].created_at;

async function storeAll() {
  while (queued.length) {
    const sends = queued.slice(0, MOST_AT_ONCE);
    queued = queued.slice(MOST_AT_ONCE);
    try {
      const columns = sends[0].values.map((_, column) => sends.map((send) => send.values[column]));
      const times = new Map((await database.rows('sendAll', ...columns)).map((row) => [row.id, row.created_at]));
      for (const send of sends) send.resolve(times.get(send.values[0]));
    } catch (error) {
      for (const send of sends) send.reject(error);
    }
  }
  isStoring = false;
}

/** A text message as bytes on the wire, the same for any number of recipients: a server's frames are not masked. */
function frameOf(text) {
  const bytes = Buffer.byteLength(text);
  const head = bytes < 126 ? 2 : bytes < 65536 ? 4 : 10;
  const frame = Buffer.allocUnsafe(head + bytes);
  frame[0] = 0x81;
  if (head === 2) frame[1] = bytes;
  else if (head === 4) {
    frame[1] = 126;
    frame.writeUInt16BE(bytes, 2);
  } else {
    frame[1] = 127;
    frame.writeBigUInt64BE(BigInt(bytes), 2);
  }
  frame.write(text, head);
  return frame;
}

// All frames for a socket from one turn of the event loop leave in one write.
let unflushed = new Set();
function write(socket, frame) {
  if (socket.unsent.push(frame) > 1) return;
  if (unflushed.add(socket).size === 1) setImmediate(flush);
}
function flush() {
  const sockets = unflushed;
  unflushed = new Set();
  for (const socket of sockets) {
    const frames = socket.unsent;
    socket.unsent = [];
    if (socket.readyState === 1) socket.stream.write(frames.length === 1 ? frames[0] : Buffer.concat(frames));
  }
}

const sockets = new Map(); // user -> Set of sockets
const answers = {
  __proto__: null,

  async send(socket, { conversationId, encryptedContent, contentType = 'text', tempId, nonce = null, ephemeralPublicKey = null }) {
    if (typeof encryptedContent !== 'string') throw new Error('encryptedContent must be a string');
    const users = await participantsOf(conversationId, socket.user);
    const id = randomUUID();
    const at = await store([id, conversationId, socket.user, encryptedContent, contentType, nonce, ephemeralPublicKey]);
    const message = {
      id, conversation_id: conversationId, sender_id: socket.user, encrypted_content: encryptedContent,
      content_type: contentType, nonce, ephemeral_public_key: ephemeralPublicKey, status: 'sent', created_at: at,
    };
    const body = JSON.stringify(message);
    const frame = frameOf(`{"t":"new","message":${body.slice(0, -1)},${JSON.stringify({ tempId, ephemeralPublicKey }).slice(1)}}`);
    for (const user of users) for (const device of sockets.get(user) ?? []) write(device, frame);
    return `"message":${body}`;
  },
  async history(socket, { conversationId, limit, cursor }) {
    return (await history(socket.user, conversationId, limit, cursor)).slice(1, -1);
  },
  async list(socket, { limit }) {
    return (await list(socket.user, limit)).slice(1, -1);
  },
};

async function history(user, conversation, limit, cursor) {
  await participantsOf(conversation, user);
  const size = sizeOf(limit);
  const rows = await database.rows(cursor ? 'laterPage' : 'firstPage', conversation, size + 1, ...positionOf(cursor));
  const hasMore = rows.length > size;
  if (hasMore) rows.pop();
  const next = rows.length ? `"${cursorAfter(rows.at(-1))}"` : null;
  return `{"messages":[${rows.reverse().map((row) => row.body)}],"hasMore":${hasMore},"cursor":${next}}`;
}

async function list(user, limit) {
  return `{"conversations":${(await database.rows('list', user, sizeOf(limit)))[0].body}}`;
}

/** The same pages over HTTP, for benchmarks of reads; without compression. */
async function read(request, response) {
  const user = request.headers['x-user-id'];
  const { pathname, searchParams } = new URL(request.url, 'http://peer');
  const conversation = /^\/conversations\/([0-9a-f-]{36})\/messages$/.exec(pathname)?.[1];
  if (!user || (!conversation && pathname !== '/conversations')) return response.writeHead(404).end();
  try {
    const size = searchParams.get('limit');
    const body = conversation ? await history(user, conversation, size, searchParams.get('cursor')) : await list(user, size);
    response.writeHead(200, { 'content-type': 'application/json; charset=utf-8', 'content-length': Buffer.byteLength(body) }).end(body);
  } catch (error) {
    response.writeHead(403).end(error.message);
  }
}

const server = createServer(read);
const listener = new WebSocketServer({ server, perMessageDeflate: false, maxPayload: 65536, skipUTF8Validation: true });
listener.on('connection', (socket, request) => {
  const user = new URL(request.url, 'http://peer').searchParams.get('userId');
  if (!user) return socket.close(4401);
  Object.assign(socket, { user, stream: request.socket, unsent: [] });
  const devices = sockets.get(user) ?? new Set();
  sockets.set(user, devices.add(socket));
  socket.on('error', () => {});
  socket.on('close', () => {
    devices.delete(socket);
    if (!devices.size && sockets.get(user) === devices) sockets.delete(user);
  });
  socket.on('message', async (data) => {
    let asked;
    try {
      asked = JSON.parse(data);
      write(socket, frameOf(`{"t":"ack","id":${asked.id | 0},"success":true,${await answers[asked.t](socket, asked)}}`));
    } catch (error) {
      write(socket, frameOf(JSON.stringify({ t: 'ack', id: asked?.id | 0, success: false, error: error.message })));
    }
  });
});
server.listen(Number(process.env.PORT), '127.0.0.1');
process.once('SIGTERM', () => process.exit(0));
