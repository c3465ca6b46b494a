// What happens on a Socket.IO connection: presence, sends, read marks, and the jobs for users who are offline.
import { database } from './conversations.mjs';

const REFRESH_MS = 60_000;
const room = (user) => `user:${user}`;
const failed = (error) => console.error(error);

export class Gateway {
  #io;
  #cache;
  #conversations;
  #queue;

  constructor(io, cache, conversations, queue) {
    this.#io = io;
    this.#cache = cache;
    this.#conversations = conversations;
    this.#queue = queue;
    io.use((socket, next) => {
      socket.data.user = socket.handshake.auth?.userId;
      next(socket.data.user ? undefined : new Error('unauthorized'));
    });
    io.on('connection', (socket) => this.#connected(socket));
    setInterval(() => this.#refresh(), REFRESH_MS).unref();
  }

  #connected(socket) {
    const { user } = socket.data;
    socket.join(room(user)); // before anything waits: from now on the user misses nothing
    const answered = (answer) => async (data, reply) => {
      try {
        reply({ success: true, ...(await answer(user, socket, data)) });
      } catch (error) {
        reply({ success: false, error: error.message });
      }
    };
    socket.on('message:send', answered((...asked) => this.#send(...asked)));
    socket.on('message:read', answered((...asked) => this.#mark(...asked)));
    socket.on('disconnect', () => this.#left(user).catch(failed));
    this.#joined(user).catch(failed);
  }

  async #send(user, _, { conversationId, encryptedContent, contentType = 'text', tempId, nonce = null, ephemeralPublicKey = null }) {
    if (typeof encryptedContent !== 'string') throw new Error('encryptedContent must be a string');
    const participants = await this.#conversations.participants(conversationId, user);
    const [[message], { online, offline }] = await Promise.all([
      database.rows('send', conversationId, user, encryptedContent, contentType, nonce, ephemeralPublicKey),
      this.#byPresence(participants),
    ]);
    this.#cache.changed(conversationId, participants);
    // To all rooms at once: the adapter encodes and publishes the event once.
    this.#io.to(online.map(room)).emit('message:new', { ...message, tempId, ephemeralPublicKey });
    if (offline.length) this.#queue.add('deliver-offline-message', { message: message.id, users: offline }).catch(failed);
    return { message };
  }

  async #mark(user, socket, { conversationId, messageId }) {
    const [read] = await database.rows('mark', messageId, conversationId, user);
    if (!read) throw new Error('no such message, or not a participant');
    this.#cache.changed(conversationId, [user]);
    const event = { conversationId, messageId, userId: user, readAt: read.read_at };
    socket.to([room(read.sender_id), room(user)]).emit('message:read', event);
  }

  /** A job: keep the message for these users, and give it to those who have come meanwhile. */
  async deliverLater({ message, users }) {
    await this.#cache.keepFor(users, message);
    const { online } = await this.#byPresence(users);
    for (const user of online) await this.#deliver(user, await this.#cache.takeInbox(user));
  }

  /** Users with a socket on this process are online; the others cost one command. */
  async #byPresence(users) {
    const { rooms } = this.#io.of('/').adapter;
    const away = users.filter((user) => !rooms.has(room(user)));
    if (!away.length) return { online: users, offline: away };
    const areOnline = await this.#cache.areOnline(away);
    const offline = away.filter((_, place) => !areOnline[place]);
    const isOffline = new Set(offline);
    return { online: users.filter((user) => !isOffline.has(user)), offline };
  }

  async #joined(user) {
    const { isFirst, waiting } = await this.#cache.join(user);
    if (isFirst) await this.#announce(user, true);
    await this.#deliver(user, waiting);
  }

  async #left(user) {
    if (await this.#cache.leave(user)) await this.#announce(user, false);
  }

  async #announce(user, isOnline) {
    const [contacts] = await Promise.all([this.#conversations.contacts(user), database.rows('setOnline', user, isOnline)]);
    const event = { userId: user, isOnline, lastSeenAt: new Date().toISOString() };
    if (contacts.length) this.#io.to(contacts.map(room)).emit('presence:update', event);
  }

  async #deliver(user, messages) {
    if (!messages.length) return;
    for (const message of await database.rows('waiting', messages)) {
      this.#io.to(room(user)).emit('message:new', { ...message, ephemeralPublicKey: message.ephemeral_public_key, offline: true });
    }
  }

  #refresh() {
    const users = new Set([...this.#io.of('/').sockets.values()].map((socket) => socket.data.user));
    this.#cache.refresh([...users]).catch(failed);
  }
}
