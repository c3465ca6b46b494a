// Postgres: a pool whose connections prepare each statement once, and the pieces of SQL that both servers share.
import pg from 'pg';

// As text: a Date would drop the microseconds, without which pages of history would repeat or skip messages.
pg.types.setTypeParser(pg.types.builtins.TIMESTAMPTZ, (text) => `${text.replace(' ', 'T')}:00`);

export const MESSAGE = `id, conversation_id, sender_id, encrypted_content, content_type, nonce, ephemeral_public_key, status, created_at`;

const person = (columns) => `json_build_object(${columns.map((name) => `'${name}', u.${name}`).join(', ')})`;
export const PROFILE = person(['id', 'username', 'display_name', 'avatar_url', 'is_online', 'last_seen_at']);
const SENDER = person(['id', 'username', 'display_name']);
const PICTURED = person(['id', 'username', 'display_name', 'avatar_url']);

export const USERS_OF = 'select user_id from conversation_participants where conversation_id = $1';

/** The participants of conversation `c`, as JSON. */
export const PARTICIPANTS = `(select json_agg(json_build_object('user_id', p.user_id, 'last_read_at', p.last_read_at, 'user', ${PROFILE}))
  from conversation_participants p join users u on u.id = p.user_id where p.conversation_id = c.id)`;

/** The newest message of a conversation. */
export const newest = (conversation) => `
  select m.conversation_id, m.id, m.encrypted_content, m.content_type, m.sender_id, m.status, m.created_at, ${SENDER} as sender
  from (select * from messages where conversation_id = ${conversation} and deleted_at is null order by created_at desc limit 1) m
  join users u on u.id = m.sender_id`;

/** The number of messages that others wrote after the reader's mark. */
export const unread = (conversation, reader, mark) => `
  select count(*)::int from messages where conversation_id = ${conversation} and sender_id <> ${reader} and deleted_at is null
    and created_at > coalesce(${mark}, '-infinity')`;

/** A page of history, newest first: conversation $1, size $2; before time $3 and id $4 unless it is the first. */
export const page = (isFirst) => `
  select m.*, ${PICTURED} as sender, coalesce(a.files, '[]') as attachments
  from (select ${MESSAGE} from messages where conversation_id = $1 and deleted_at is null
          ${isFirst ? '' : 'and (created_at, id) < ($3::timestamptz, $4::uuid)'}
        order by created_at desc, id desc limit $2) m
  join users u on u.id = m.sender_id
  left join lateral (select json_agg(json_build_object('id', id, 'r2_key', r2_key, 'file_name', file_name, 'file_size', file_size,
      'mime_type', mime_type, 'thumbnail_r2_key', thumbnail_r2_key)) as files from attachments where message_id = m.id) a on true
  order by m.created_at desc, m.id desc`;

export class Database {
  #pool;
  #statements;

  /** @param statements texts by name */
  constructor(statements) {
    this.#statements = Object.fromEntries(Object.entries(statements).map(([name, text]) => [name, { name, text }]));
    this.#pool = new pg.Pool({
      connectionString: process.env.DATABASE_URL,
      max: Number(process.env.POSTGRES_CONNECTIONS ?? 10),
      options: '-c timezone=UTC',
    });
    this.#pool.on('error', (error) => console.error('Postgres', error.message));
  }

  /** Run a statement; returns its rows. */
  async rows(name, ...values) {
    return (await this.#pool.query({ ...this.#statements[name], values })).rows;
  }

  close() {
    return this.#pool.end();
  }
}

export const cursorAfter = (row) => Buffer.from(`${row.created_at} ${row.id}`).toString('base64url');

/** The time and the id of a cursor; none of no cursor. */
export const positionOf = (cursor) => (cursor ? Buffer.from(cursor, 'base64url').toString().split(' ') : []);

/** A page's size as a client asks for it: 1 to 100, or 50. */
export const sizeOf = (text) => Math.min(100, Math.max(1, Number.parseInt(text ?? 50, 10) || 50));
