// Lists, conversations and history, as the plan rewrites them: participations with joins, all last messages in one query, a count of
// unread messages for each conversation, cursors, and pages kept in Redis.
import { Database, MESSAGE, PARTICIPANTS, USERS_OF, cursorAfter, newest, page, positionOf, unread } from '../database.mjs';

const COLUMNS = 'c.id, c.type, c.name, c.avatar_url, c.created_at, c.updated_at';

export const database = new Database({
  participants: USERS_OF,
  contacts: 'select contact_user_id from contacts where user_id = $1',
  setOnline: 'update users set is_online = $2, last_seen_at = now() where id = $1',
  send: `with moved as (update conversations set updated_at = now() where id = $1)
    insert into messages (conversation_id, sender_id, encrypted_content, content_type, nonce, ephemeral_public_key)
    values ($1, $2, $3, $4, $5, $6) returning ${MESSAGE}`,
  mark: `with read as (select id, sender_id, created_at from messages where id = $1 and conversation_id = $2),
      moved as (update conversation_participants p set last_read_at = greatest(p.last_read_at, read.created_at) from read
        where p.conversation_id = $2 and p.user_id = $3 returning read.sender_id),
      receipt as (insert into message_receipts (message_id, user_id, status, read_at)
        select read.id, $3, 'read', now() from read, moved
        on conflict (message_id, user_id) do update set status = 'read', read_at = excluded.read_at)
    select sender_id, now() as read_at from moved`,
  waiting: `select ${MESSAGE} from messages where id = any($1::uuid[]) and deleted_at is null order by created_at, id`,
  participations: `select ${COLUMNS}, c.last_read_at, ${PARTICIPANTS} as participants
    from (select c.*, mine.last_read_at from conversation_participants mine join conversations c on c.id = mine.conversation_id
          where mine.user_id = $1 order by c.updated_at desc limit $2 offset $3) c
    order by c.updated_at desc`,
  lastMessages: `select l.* from unnest($1::uuid[]) as wanted (id) cross join lateral (${newest('wanted.id')}) l`,
  unread: unread('$1', '$2', '$3::timestamptz'),
  conversation: `select ${COLUMNS}, ${PARTICIPANTS} as participants, (select row_to_json(l) from (${newest('c.id')}) l) as last_message,
      (${unread('c.id', '$2', 'mine.last_read_at')}) as unread_count
    from conversations c join conversation_participants mine on mine.conversation_id = c.id and mine.user_id = $2 where c.id = $1`,
  firstPage: page(true),
  laterPage: page(false),
});

export class NotParticipant extends Error {}

export class Conversations {
  #cache;

  constructor(cache) {
    this.#cache = cache;
  }

  /** The users of a conversation; refuses others. */
  async participants(conversation, user) {
    const load = async () => (await database.rows('participants', conversation)).map((row) => row.user_id);
    const participants = await this.#cache.participants(conversation, load);
    if (!participants.includes(user)) throw new NotParticipant('not a participant of this conversation');
    return participants;
  }

  async contacts(user) {
    return this.#cache.contacts(user, async () => (await database.rows('contacts', user)).map((row) => row.contact_user_id));
  }

  /** The user's conversations, as JSON. */
  async list(user, size, offset) {
    const build = () => this.#buildList(user, size, offset);
    return offset ? JSON.stringify(await build()) : this.#cache.body(`conversations:${user}`, size, build);
  }

  async #buildList(user, size, offset) {
    const rows = await database.rows('participations', user, size, offset);
    const [messages, ...counts] = await Promise.all([
      database.rows('lastMessages', rows.map((row) => row.id)),
      ...rows.map((row) => database.rows('unread', row.id, user, row.last_read_at)),
    ]);
    const last = new Map(messages.map((message) => [message.conversation_id, message]));
    const conversations = rows.map((row, place) => entry(row, user, last.get(row.id), counts[place][0].count));
    return { conversations, total: conversations.length };
  }

  /** One conversation, as JSON. */
  async one(conversation, user) {
    await this.participants(conversation, user);
    return this.#cache.body(`conversation:${conversation}`, user, async () => {
      const [row] = await database.rows('conversation', conversation, user);
      return entry(row, user, row.last_message, row.unread_count);
    });
  }

  /** A page of history, oldest message first. */
  async history(conversation, user, size, cursor) {
    await this.participants(conversation, user);
    const rows = await database.rows(cursor ? 'laterPage' : 'firstPage', conversation, size + 1, ...positionOf(cursor));
    const hasMore = rows.length > size;
    if (hasMore) rows.pop();
    return { messages: rows.toReversed(), hasMore, cursor: rows.length ? cursorAfter(rows.at(-1)) : null };
  }
}

function entry({ id, type, name, avatar_url, participants, created_at, updated_at }, user, last, unread) {
  if (type === 'direct') {
    const other = participants.find((participant) => participant.user_id !== user)?.user;
    name = other?.display_name ?? other?.username ?? 'Unknown';
    avatar_url = other?.avatar_url ?? null;
  }
  return { id, type, name, avatar_url, participants, last_message: last ?? null, unread_count: unread, created_at, updated_at };
}
