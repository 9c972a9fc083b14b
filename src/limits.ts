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
/** Tokens in AUTH_FILE: each is compared with whatever comes, which takes some 100 ns. */
export const tokensMax = 1_000;
/** Unknown tokens that an address may send at once, and a second after that: some for slips, too few to find one. */
export const guessesBurst = 10;
export const guessesPerSecond = 1;
/** Addresses whose guesses are counted, some 200 bytes each; the longest silent is forgotten for another one. */
export const guessingAddressesMax = 10_000;
