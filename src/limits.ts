/** Every bound in the system, each with its reason. Sizes in bytes, times in milliseconds or as named. */

const KiB = 1024;
const MiB = 1024 * KiB;

/** A decoded body. A gradient of 400 M float32 parameters is 1.6 GB; twice that leaves room for F64. Set by BODY_BYTES_MAX. */
export const bodyBytesMaxDefault = 4096 * MiB;
/** A decoded JSON body: parsing holds the event loop for about 10 ms a MiB, so larger tensors travel as safetensors. */
export const jsonBodyBytesMax = 16 * MiB;
/** Buffers of bodies that are kept for the next request: smaller ones come cheap. */
export const pooledBytesMin = MiB;
/** All such buffers together: the body and the reply of a push of 25 M float32 parameters, and as much again in reserve. */
export const pooledBytesMax = 512 * MiB;
/** A body or reply from this size on is counted among the memory in use; all smaller ones together are little. */
export const lentBytesMin = 64 * KiB;
/** A buffer that nobody needed for so long, or twice as long, is let go. */
export const pooledIdleMs = 60_000;
/** A record's data from this size on have a file of their own: below it, making one takes longer than lmdb's copy. */
export const dataFileBytesMin = MiB;
/** Threads that share large steps: memory is the limit long before that many. */
export const threadsMax = 16;
/** A safetensors header; the format's own libraries refuse longer ones. */
export const safetensorsHeaderBytesMax = 100_000_000;
/** Dimensions of a tensor: NumPy's and TensorFlow's own bounds lie between 32 and 255. */
export const rankMax = 32;
/** Elements of one tensor: a float64 counts integers exactly up to here, so sizes never lose a bit. */
export const elementsMax = Number.MAX_SAFE_INTEGER / 8;
/** Variables of a session: large models have a few thousand tensors. */
export const variablesMax = 65_536;
/** Sessions: each takes an address range of its own, and the address space holds about 13,000. */
export const sessionsMax = 4_096;
/** A session's `metadata`, as JSON text: notes, not data. */
export const metadataBytesMax = 64 * KiB;
/** Levels of `metadata`: whatever writes or merges it calls itself once a level, and the stack ends at some thousands. */
export const metadataDepthMax = 64;
/** Requests that wait for one session. Beyond it a queue is delay, not throughput. */
export const queuedRequestsMax = 1_024;
/** Gradients that make a step of mode `sync`: each waits with a request of its own. */
export const replicasMax = 1_024;
/** Workers of a session that are remembered: some hundred bytes each, in every checkpoint too. */
export const workersMax = 4_096;
/** What a push may wait for other workers: an hour, for steps of minutes. */
export const aggregationTimeoutMsMax = 3_600_000;
/** Silence after which a worker counts no more: a day. */
export const workerTimeoutMsMax = 86_400_000;
/** Idempotency keys of a session: at 100 steps a second, those of the last 100 s. Set by IDEMPOTENCY_KEYS. */
export const keysMaxDefault = 10_000;
/** Each takes about 300 bytes of memory. */
export const keysMaxMax = 1_000_000;
/** Events that a session keeps for those who come back: at 100 steps a second, those of the last 10 s. Some 200 KiB. */
export const eventsKeptMax = 1_024;
/** Who can listen to events at a time: each holds a connection, and a few KiB of memory. */
export const listenersMax = 4_096;
/** What may wait for a listener that reads slowly, before it is cut off: some thousand events. */
export const listenerBufferBytesMax = MiB;
/** `Prefer: wait` in seconds: below the idle timeouts of common proxies. */
export const waitSecondsMax = 55;
/** Entries of a schedule's `boundaries`. */
export const scheduleBoundariesMax = 10_000;

/** Connections at a time: twice as many as can listen to events, so that listeners leave room for workers. Each holds a file
 * descriptor and some KiB; Docker and Kubernetes give a process a million of those. Set by CONNECTIONS_MAX. */
export const connectionsMaxDefault = 8_192;
/** Linux gives a process no more file descriptors than that. */
export const connectionsMaxMax = 1_048_576;
/** Bytes a second that a client must send of its body, and take of its reply: 64 kbit/s, a telephone line. Who is slower holds
 * memory that others need. Set by BYTES_PER_SECOND_MIN. */
export const bytesPerSecondMinDefault = 8 * KiB;
/** Below it a stalled reply would be kept for more than an hour. */
export const bytesPerSecondMinMin = 256;
export const bytesPerSecondMinMax = MiB;
/** A large reply is handed to its connection in pieces of that size, each of which its client must take in time. */
export const replyPieceBytes = MiB;
/** The address and the fields of a request's header, names and values together: what others allow too. */
export const headerBytesMax = 16 * KiB;
/** Fields of a request's header: browsers and proxies send some 30. */
export const headerFieldsMax = 100;
/** Requests at a time on one HTTP/2 connection: what RFC 9113 advises at the least, and more than one client has threads. */
export const streamsMax = 256;
/** HTTP/2: what a client may send of a body before it hears that it was read. At 50 ms to and fro, 80 MB a second. */
export const streamWindowBytes = 4 * MiB;
/** HTTP/2: the same for all bodies on a connection. */
export const connectionWindowBytes = 8 * MiB;

/** What a connection may take its time for, in milliseconds. */
export const connectionTimes = {
  /** From a request's first byte to the end of its header, and for a TLS handshake: both are a few packets. */
  headerMs: 20_000,
  /** A body that so long brings less than it must: a link that was lost comes back before, or not at all. */
  bodyMs: 30_000,
  /** How long what still comes of a body whose request was refused is read, so that the client comes to read why. */
  lingerMs: 30_000,
  /** How long a connection without a request is kept: longer than common proxies do (60 s), so that they close it first. */
  keepAliveMs: 72_000,
  /** How often it is looked who is too slow: often enough beside the times above. */
  checkMs: 2_000,
  /** How often it is looked whether the certificate was replaced: soon enough for a renewal, which comes days before it must. */
  certificateCheckMs: 5_000,
} as const;
