/** Every bound in the system, each with its reason. Sizes in bytes, times in milliseconds or as named. */

const KiB = 1024;
const MiB = 1024 * KiB;

/** A decoded body. A gradient of 400 M float32 parameters is 1.6 GB; twice that leaves room for F64. Set by BODY_BYTES_MAX. */
export const bodyBytesMaxDefault = 4096 * MiB;
/** A decoded JSON body: parsing holds the event loop for about 10 ms a MiB, so larger tensors travel as safetensors. */
export const jsonBodyBytesMax = 16 * MiB;
/** Lists, objects and members of a JSON body: `JSON.parse` and what follows hold the event loop for some microseconds each. */
export const jsonPartsMax = 262_144;
/** Indices in one list of a JSON body, which are looked at one by one; more of them travel as safetensors. */
export const jsonIndicesMax = 1_048_576;
/** Free on the disk of the data folder: below it no pushes, below twice as much no new sessions. Set by DISK_FREE_BYTES_MIN. */
export const diskFreeBytesMinDefault = 256 * MiB;
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
/** Tensors of a safetensors file: a checkpoint has three a variable, and each takes some microseconds to read. */
export const tensorsMax = 3 * 16_384;
/** Strings of a safetensors file's `__metadata__`. */
export const metadataStringsMax = 16_384;
/** An option there, as JSON text: a schedule with all the boundaries that it may have. */
export const optionBytesMax = MiB;
/** Of several things that are wrong with a request, those that are told. */
export const problemItemsMax = 64;
/** A session's name, which is a folder's too. */
export const sessionNameMax = 128;
/** A variable's name: paths of layers within models. */
export const variableNameMax = 256;
/** A worker's name: each checkpoint has it, and each event. */
export const workerNameMax = 128;
/** An `Idempotency-Key`. */
export const keyLengthMax = 255;
/** Sessions in a page of the list. */
export const listedMax = 1_000;
/** Dimensions of a tensor: NumPy's and TensorFlow's own bounds lie between 32 and 255. */
export const rankMax = 32;
/** Elements of one tensor: a float64 counts integers exactly up to here, so sizes never lose a bit. */
export const elementsMax = Number.MAX_SAFE_INTEGER / 8;
/** Variables of a session: large models have a few thousand tensors, and four times as many hold the event loop for a second. */
export const variablesMax = 16_384;
/** An optimizer's or a schedule's `name`, which each document of a session repeats. */
export const optimizerNameMax = 256;
/** Members of an object of Keras', which has a few: so an object of very many is refused as it is counted. */
export const kerasMembersMax = 64;
/** Sessions: each takes an address range of its own, and the address space holds about 13,000. */
export const sessionsMax = 4_096;
/** Checkpoints that a session can be told to keep. */
export const checkpointsKeptMax = 10_000;
/** The longest that a session's checkpoints can be apart, in seconds: 30 years. */
export const everySecondsMax = 1_000_000_000;
/** A session's `metadata`, as JSON text: notes, not data. */
export const metadataBytesMax = 64 * KiB;
/** Levels of `metadata`: whatever writes or merges it calls itself once a level, and the stack ends at some thousands. */
export const metadataDepthMax = 64;
/** API requests that are worked on at a time: some 200 workers that push without a pause, with room for those who read. Set by REQUESTS_MAX. */
export const requestsMaxDefault = 256;
/** More connections than a process usually may have. */
export const requestsMaxMax = 65_536;
/** A client that sends or takes less in a second is slow: none that trains is, and as many as are under way are then faster than any disk. */
export const slowBytes = 64 * KiB;
/** The body of a refused request up to here is read and forgotten: a new connection would cost as much. */
export const drainedBytesMax = 256 * KiB;
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
/** Tokens in AUTH_FILE: each is compared with whatever comes, which takes some 100 ns. */
export const tokensMax = 1_000;
/** Unknown tokens that an address may send at once, and a second after that: some for slips, too few to find one. */
export const guessesBurst = 10;
export const guessesPerSecond = 1;
/** Addresses whose guesses are counted, some 200 bytes each; the longest silent is forgotten for another one. */
export const guessingAddressesMax = 10_000;

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
