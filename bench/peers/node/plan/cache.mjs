// Redis as the plan uses it: participants, contacts and pages are kept there, which users are online, and what waits for offline ones.
import Redis from 'ioredis';

const MINUTE_S = 60;
const PARTICIPANTS_S = 5 * MINUTE_S;
const CONTACTS_S = 10 * MINUTE_S;
const PAGES_S = 5 * MINUTE_S;
const ONLINE_S = 2 * MINUTE_S; // users of a process that died are offline after this time
const INBOX_S = 30 * 24 * 60 * MINUTE_S;
const INBOX_MESSAGES = 1000;

const online = (user) => `presence:${user}`;
const inbox = (user) => `offline:${user}`;
const failed = (error) => console.error('Redis', error.message);

export class Cache {
  #redis = new Redis(process.env.REDIS_URL, { enableAutoPipelining: true });

  constructor() {
    this.#redis.on('error', failed);
    // Counts a user's sockets over all processes; true (1) of the last.
    this.#redis.defineCommand('leave', {
      numberOfKeys: 1,
      lua: "if redis.call('decr', KEYS[1]) > 0 then return 0 end redis.call('del', KEYS[1]) return 1",
    });
  }

  /** A connection to the same Redis, once it is ready: a subscription during ioredis' ready check would break that check. */
  async connection() {
    const made = this.#redis.duplicate({ enableAutoPipelining: false, lazyConnect: true });
    made.on('error', failed);
    await made.connect();
    return made;
  }

  participants(conversation, load) {
    return this.#ids(`conversation:participants:${conversation}`, PARTICIPANTS_S, load);
  }

  contacts(user, load) {
    return this.#ids(`contacts:${user}`, CONTACTS_S, load);
  }

  async #ids(key, seconds, load) {
    const kept = await this.#redis.get(key);
    if (kept !== null) return kept.split(' ');
    const ids = await load();
    if (ids.length) this.#redis.setex(key, seconds, ids.join(' ')).catch(failed);
    return ids;
  }

  /** An answer's body. All variants are fields of one key, so one deletion drops them; no key is searched by a pattern. */
  async body(key, variant, build) {
    const kept = await this.#redis.hget(key, variant);
    if (kept !== null) return kept;
    const body = JSON.stringify(await build());
    this.#redis.multi().hset(key, variant, body).expire(key, PAGES_S).exec().catch(failed);
    return body;
  }

  /** Drop the pages that show this conversation to these users. */
  changed(conversation, users) {
    this.#redis.unlink(`conversation:${conversation}`, ...users.map((user) => `conversations:${user}`)).catch(failed);
  }

  /** A socket of the user has come; returns whether it is the first, and the ids of the messages that waited. */
  async join(user) {
    const key = online(user);
    const replies = await this.#redis.multi().incr(key).expire(key, ONLINE_S).lrange(inbox(user), 0, -1).del(inbox(user)).exec();
    return { isFirst: replies[0][1] === 1, waiting: replies[2][1] };
  }

  /** A socket of the user has gone; returns whether it was the last. */
  async leave(user) {
    return (await this.#redis.leave(online(user))) === 1;
  }

  /** Keep these users online. */
  async refresh(users) {
    const pipeline = this.#redis.pipeline();
    for (const user of users) pipeline.expire(online(user), ONLINE_S);
    await pipeline.exec();
  }

  /** Which of these users have a socket on any process. */
  async areOnline(users) {
    return users.length ? (await this.#redis.mget(users.map(online))).map((sockets) => sockets !== null) : [];
  }

  async keepFor(users, message) {
    const pipeline = this.#redis.pipeline();
    for (const user of users) pipeline.rpush(inbox(user), message).ltrim(inbox(user), -INBOX_MESSAGES, -1).expire(inbox(user), INBOX_S);
    await pipeline.exec();
  }

  async takeInbox(user) {
    const [[, messages]] = await this.#redis.multi().lrange(inbox(user), 0, -1).del(inbox(user)).exec();
    return messages;
  }
}
